"""Questions about one module: its books and its readings."""

from collections.abc import Sequence

from swapline_cloud.query import IN_RANGE, Query, select, tag_is
from swapline_cloud.rollup import FOREVER

MODULE = tag_is("module", "module")
VALID = '"is_void" = false'
HERE = [MODULE]


def book(what: str, table: str, *, where: Sequence[str] = (), within: str = IN_RANGE, tail: str = "") -> Query:
    """Return the query of the module's rows in a table of the books, as far as they are still true."""
    statement = select(what, table, policy=FOREVER, where=[MODULE, VALID, *where], within=within, tail=tail)
    return Query(statement, is_table=True)


def estimate(field: str, *others: str) -> Query:
    """Return the query of a passport's estimate with what belongs to it; nothing where it is not known any more.

    InfluxDB cannot forget a field: the books say in `absent` which ones a row has no value of.
    """
    what = ", ".join(f'"{name}"' for name in (field, *others))
    known = f'"absent" !~ /(^|,){field}(,|$)/'
    return book(what, "passport", where=[known], within="time > 0")


def per_day(field: str, name: str) -> Query:
    """Return the query of a sum that the books keep for each day of UTC."""
    statement = select(f'"{field}" AS "{name}"', "module_day", policy=FOREVER, where=[MODULE, VALID])
    return Query(statement, "$col")
