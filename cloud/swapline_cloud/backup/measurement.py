"""A measurement of one policy: its tags, its fields with their types, and the Arrow columns that keep them.

A tag is a dictionary column; a point without the tag has null there. A field is a column of its type; null is a point
without it. Each column says in its metadata which of the two it is, for InfluxDB allows a tag and a field of one name.
"""

from collections.abc import Sequence
from itertools import starmap
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.rollup import RAW
from swapline_gateway.error import SinkBusyError
from swapline_gateway.influxql import InfluxqlClient, identifier

TIME = "time"
TAG, FIELD = b"tag", b"field"
ROLE, INFLUX_TYPE = b"swapline.role", b"swapline.influx_type"
TAG_TYPE = pa.dictionary(pa.int32(), pa.string())
# What InfluxQL calls the types of fields; in the order in which it prefers them where shards differ.
TYPES = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "unsigned": pa.uint64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
}


class Measurement(NamedTuple):
    """See the module's header. `fields` are (name, type), `mixed` those that have another type in some shard."""

    policy: str
    name: str
    tags: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    mixed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Return how people call it."""
        return f"{self.policy}.{self.name}"

    @property
    def source(self) -> str:
        """Return how InfluxQL calls it."""
        return f"{identifier(self.policy)}.{identifier(self.name)}"

    def schema(self) -> pa.Schema:
        """Return the columns: time, tags, fields."""
        tags = [pa.field(name, TAG_TYPE, metadata={ROLE: TAG}) for name in self.tags]
        fields = starmap(_field, self.fields)
        return pa.schema([pa.field(TIME, pa.timestamp("ns", tz="UTC"), nullable=False), *tags, *fields])


def _field(name: str, kind: str) -> pa.Field:
    return pa.field(name, TYPES[kind], metadata={ROLE: FIELD, INFLUX_TYPE: kind.encode()})


def from_schema(policy: str, name: str, schema: pa.Schema) -> Measurement:
    """Return the measurement whose columns these are."""
    columns = [(column.name, column.metadata or {}) for column in schema if column.name != TIME or column.metadata]
    tags = tuple(column for column, said in columns if said.get(ROLE) == TAG)
    fields = tuple((column, said[INFLUX_TYPE].decode()) for column, said in columns if said.get(ROLE) == FIELD)
    return Measurement(policy, name, tags, fields)


def find(client: InfluxqlClient, policies: Sequence[str]) -> list[Measurement]:
    """Return everything that the policies hold, in their order. Raises `SinkBusyError`."""
    found: list[Measurement] = []
    for policy in policies:
        try:
            found += find_of(client, policy)
        except SinkBusyError as error:
            if policy == RAW or "not found" not in str(error):  # else a database without this policy
                raise
    return found


def find_of(client: InfluxqlClient, policy: str) -> list[Measurement]:
    """Return everything that a policy holds. Raises `SinkBusyError`, also where there is no such policy."""
    fields = client.query(f"SHOW FIELD KEYS FROM {identifier(policy)}./.*/")
    return [_measurement(policy, one["name"], _tags(client, policy, one), one["values"]) for one in fields]


def _tags(client: InfluxqlClient, policy: str, keys: dict[str, Any]) -> tuple[str, ...]:
    """Return a measurement's tags, as the columns before the fields' of its first point.

    `SHOW TAG KEYS` is no way: InfluxDB 2.x answers it of the default policy, whatever policy it names.
    """
    source = f"{identifier(policy)}.{identifier(keys['name'])}"
    found = client.query(f"SELECT *::tag, *::field FROM {source} LIMIT 1")  # noqa: S608 (all of it is quoted)
    field_count = len({field for field, _ in keys["values"]})
    return tuple(found[0]["columns"][1:-field_count]) if found else ()


def _measurement(policy: str, name: str, tags: tuple[str, ...], keys: Sequence[Sequence[str]]) -> Measurement:
    types: dict[str, list[str]] = {}
    for field, kind in keys:
        types.setdefault(field, []).append(kind)
    order = list(TYPES)
    fields = tuple((field, min(kinds, key=order.index)) for field, kinds in types.items())
    return Measurement(policy, name, tags, fields, tuple(field for field, kinds in types.items() if len(kinds) > 1))
