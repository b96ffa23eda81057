"""How far a source has been copied; it stands in the database, in the policy that is kept for ever."""

from typing import NamedTuple

from swapline_gateway.influxql import text
from swapline_gateway.sinks.line_protocol import escape_tag

MARK = "migrate_state"


class Mark(NamedTuple):
    """Days before `until_utc_ms` are done, with so many rows of what is kept for ever; 0: the next run begins anew.

    `whole_rows`: how many the last whole run copied, None before there was one.
    """

    until_utc_ms: int = 0
    lasting_rows: int = 0
    whole_rows: int | None = None

    def line(self, source: str) -> str:
        """Return it as line protocol."""
        whole = "" if self.whole_rows is None else f",whole_rows={self.whole_rows}i"
        fields = f"until_utc_ms={self.until_utc_ms}i,lasting_rows={self.lasting_rows}i{whole}"
        return f"{MARK},source={escape_tag(source)} {fields} 0"


def question(forever: str, source: str) -> str:
    """Return the statement that asks for a source's mark. `forever`: the mark's measurement, as InfluxQL names it."""
    fields = ", ".join(f'"{field}"' for field in Mark._fields)
    return f'SELECT {fields} FROM {forever} WHERE "source" = {text(source)} AND time >= 0'  # noqa: S608 (quoted)
