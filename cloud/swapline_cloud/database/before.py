"""What a gateway stored before `apply` made its policies, and `swapline cloud migrate` has not brought along yet."""

from collections.abc import Collection, Iterator, Sequence

from swapline_cloud.migration.mark import MARK, question
from swapline_cloud.place import LASTING_NAMES, marker_of, place_of
from swapline_cloud.rollup import FOREVER, MINUTE, RAW, RAW_DAYS
from swapline_gateway.influxql import identifier

from . import flux
from .client1 import AdminClient
from .client2 import Influxdb2Client
from .policy import find as find_policy

_NAMED_MAX = 3


def left_behind(client: AdminClient, database: str) -> Iterator[str]:
    """Yield a sentence for each policy of an InfluxDB 1.x that holds such rows. Raises `GatewayError`."""
    if database not in {row["name"] for row in client.rows("SHOW DATABASES")}:
        return
    policies = [row["name"] for row in client.rows(f"SHOW RETENTION POLICIES ON {identifier(database)}")]
    for policy in policies:
        names = _left(client, database, policy) if policy not in (MINUTE, FOREVER) else []
        lasting = [name for name in names if place_of(name) == FOREVER]
        if names and not (FOREVER in policies and _is_whole(client, database, policy, lasting)):
            why = f"which it forgets after {RAW_DAYS} days" if policy == RAW else "which boards do not ask"
            yield (
                f"The policy {policy} holds rows of {_some(names)}, {why}: `swapline cloud migrate --from {policy}`"
                " copies them to where they belong (docs/retention.md)."
            )


def _left(client: AdminClient, database: str, policy: str) -> list[str]:
    """Return the measurements of ours that do not belong into a policy."""
    rows = client.rows(f"SHOW FIELD KEYS ON {identifier(database)} FROM {identifier(policy)}./.*/")
    names = sorted({str(row["_series"]) for row in rows})
    return [name for name in names if place_of(name) not in (None, policy)]


def _is_whole(client: AdminClient, database: str, policy: str, lasting: Sequence[str]) -> bool:
    """Say whether the last whole run of `migrate` found as many rows of what is kept for ever as there are now."""
    found = client.rows(question(_name(database, FOREVER, MARK), policy))
    whole_rows = found[0]["whole_rows"] if found else None
    if whole_rows is None:
        return False
    counts = [
        client.rows(f"SELECT count({identifier(marker_of(name))}) AS found FROM {_name(database, policy, name)}")  # noqa: S608
        for name in lasting
    ]
    return bool(sum(rows[0]["found"] for rows in counts if rows) <= whole_rows)


def _name(*parts: str) -> str:
    return ".".join(map(identifier, parts))


def waiting(client: Influxdb2Client, database: str, buckets: Collection[str]) -> str:
    """Return why the raw bucket of an InfluxDB 2.x does not begin to forget yet; `""` if nothing is in the way."""
    raw, forever = (find_policy(policy).bucket(database) for policy in (RAW, FOREVER))
    rows = sum(map(int, client.values(_count(raw))))
    if rows and forever in buckets:
        rows -= sum(map(int, client.values(_last_mark(forever))))
    if rows <= 0:
        return ""
    return (
        f"{rows:,} events, alarms and rows of the books in {raw} are not in {forever}, and would be deleted. Let the"
        " gateway write them there (forever_bucket), run `swapline cloud migrate`, and apply again."
    )


def _count(bucket: str) -> str:
    """Return the Flux that counts rows of what is kept for ever."""
    measurements = " or ".join(f"r._measurement == {flux.text(name)}" for name in LASTING_NAMES)
    fields = " or ".join(f"r._field == {flux.text(name)}" for name in sorted({marker_of(one) for one in LASTING_NAMES}))
    return f"""\
from(bucket: {flux.text(bucket)})
    |> range(start: 0)
    |> filter(fn: (r) => ({measurements}) and ({fields}))
    |> count()
    |> group()
    |> sum()
"""


def _last_mark(bucket: str) -> str:
    """Return the Flux that reads how many such rows the last whole run of `migrate` copied."""
    return f"""\
from(bucket: {flux.text(bucket)})
    |> range(start: 0)
    |> filter(fn: (r) => r._measurement == {flux.text(MARK)} and r._field == "whole_rows")
    |> filter(fn: (r) => r.source == {flux.text(RAW)})
    |> last()
"""


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} others" if more > 0 else "")
