"""The three policies: how long each keeps its rows, and in what pieces InfluxDB keeps and deletes them.

A piece (a shard) is deleted as a whole when its youngest row is too old. A day's suits 30 days; a week's a query of two
years; of what is kept for ever a quarter of a year makes four pieces a year, small ones, for an hour is one point.
"""

from typing import NamedTuple

from swapline_cloud.rollup import FOREVER, MINUTE, MINUTE_DAYS, RAW, RAW_DAYS

DAY_S = 86_400


class Policy(NamedTuple):
    """A retention policy. `days` None is for ever; `is_default`: rows and questions that name no policy are its."""

    name: str
    days: int | None
    shard_days: int
    is_default: bool = False

    @property
    def seconds(self) -> int:
        """Return how long rows are kept; 0 is for ever, as InfluxDB says it."""
        return (self.days or 0) * DAY_S

    @property
    def shard_s(self) -> int:
        """Return how much time one shard holds."""
        return self.shard_days * DAY_S

    def bucket(self, database: str) -> str:
        """Return the name of the bucket that is this policy in InfluxDB 2.x."""
        return database if self.is_default else f"{database}_{self.name}"


POLICIES = (
    Policy(RAW, RAW_DAYS, 1, is_default=True),
    Policy(MINUTE, MINUTE_DAYS, 7),
    Policy(FOREVER, None, 91),
)


def find(name: str) -> Policy:
    """Return the policy of a name."""
    return next(policy for policy in POLICIES if policy.name == name)


def describe(seconds: int, shard_s: int, *, is_default: bool | None = None) -> str:
    """Return a policy's settings, a line each, for a diff."""
    lines = [f"keep {_days(seconds)}", f"shards of {_days(shard_s)}"]
    if is_default is not None:
        lines.append(f"default: {'yes' if is_default else 'no'}")
    return "\n".join(lines)


def losses(now_s: int, wanted_s: int) -> str:
    """Return the line of a diff that warns of rows which the server deletes when a retention gets shorter."""
    is_shorter = wanted_s and (not now_s or wanted_s < now_s)
    return f"\n! the server deletes what is older than {_days(wanted_s)}" if is_shorter else ""


def _days(seconds: int) -> str:
    if seconds == 0:
        return "for ever"
    return f"{seconds // DAY_S} days" if seconds % DAY_S == 0 else f"{seconds} s"
