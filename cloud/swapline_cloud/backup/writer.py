"""Points into a policy of an InfluxDB: tried again while it is busy, divided where they are too many for a request."""

import time
from collections.abc import Callable, Sequence

import pyarrow as pa  # type: ignore[import-untyped]

from swapline_cloud.config import DatabaseConfig
from swapline_cloud.database.rows import make_sink
from swapline_gateway.error import GatewayError, SinkBusyError, SinkRejectedError, SinkTooLargeError
from swapline_gateway.retry import Backoff
from swapline_gateway.sinks.influx_answer import is_about_age

from . import reading
from .line import lines
from .measurement import Measurement

BATCH_CELLS = 100_000  # of one request: 2 to 3 MB of text, 50 ms of InfluxDB's time
TRIES_MAX = 8  # of a request, over about a minute: InfluxDB is busy when its cache is full


def batch_rows(schema: pa.Schema) -> int:
    """Return how many rows one request has."""
    return max(1, BATCH_CELLS // len(schema))


class Writer:
    """See the module's header. Its methods raise `GatewayError`."""

    def __init__(self, config: DatabaseConfig, *, backoff: Callable[[], Backoff] = Backoff) -> None:
        self._sink, self._targets = make_sink(config)
        self._backoff = backoff

    def write(self, measurement: Measurement, batch: pa.RecordBatch) -> int:
        """Write rows into the measurement's policy; return how many it refused because they are too old for it."""
        return self.send(measurement.policy, list(lines(measurement, batch)))

    def send(self, policy: str, rows: Sequence[str]) -> int:
        """Send lines to a policy; return how many it refused because they are too old for it."""
        body = "\n".join(rows).encode()
        backoff = self._backoff()
        for attempt in range(1, TRIES_MAX + 1):
            try:
                self._sink.send(body, self._targets[policy])
            except SinkTooLargeError:
                half = len(rows) // 2
                if not half:
                    raise GatewayError(f"The database takes no request of {len(body)} bytes.") from None
                return self.send(policy, rows[:half]) + self.send(policy, rows[half:])
            except SinkRejectedError as error:
                if not is_about_age(error):
                    raise GatewayError(f"The database refuses rows of the policy {policy}: {error}.") from error
                return len(rows) if error.refused_count is None else error.refused_count
            except SinkBusyError as error:
                delay_s = backoff.fail()
                if attempt == TRIES_MAX or "404" in str(error):
                    raise reading.sort_error(error) from error
                time.sleep(delay_s)
            else:
                break
        return 0

    def close(self) -> None:
        """Close the connections."""
        self._sink.close()
