"""In which policy the gateway puts what it writes, once what is kept for ever has a policy of its own."""

from swapline_gateway.alarm.standing import STANDING
from swapline_gateway.battery.table import TABLES
from swapline_gateway.outlook.table import OUTLOOKS
from swapline_gateway.sinks.line_protocol import FRAMES, LASTING, LATE
from swapline_gateway.vitals.table import VITALS

from .rollup import FOREVER, RAW, rolled_streams

BOOKS = tuple(table.name for table in (*TABLES, STANDING))
LASTING_NAMES = (*LASTING, *BOOKS)
_RAW_NAMES = (*(stream.name for stream in rolled_streams()), FRAMES, LATE, *(one.name for one in (*VITALS, *OUTLOOKS)))
_PLACES = dict.fromkeys(_RAW_NAMES, RAW) | dict.fromkeys(LASTING_NAMES, FOREVER)


def place_of(measurement: str) -> str | None:
    """Return the policy of a measurement; None: it is not the gateway's."""
    return _PLACES.get(measurement)


def marker_of(lasting: str) -> str:
    """Return the field that every row of a measurement has that is kept for ever."""
    return "is_void" if lasting in BOOKS else "time_quality"
