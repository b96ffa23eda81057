"""InfluxDB 2.x through `influxdb-client`; 3.x and VictoriaMetrics accept the same write call."""

from collections.abc import Mapping, Sequence
from typing import cast

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from swapline_gateway.config import Influxdb2Config
from swapline_gateway.error import SinkBusyError, reason
from swapline_gateway.reading import FrameRows

from .base import Written
from .influx_answer import error_of
from .influx_points import PointWriter

_NS = cast("WritePrecision", WritePrecision.NS)  # a plain string there


class Influxdb2Sink:
    """See the module's header. Retrying is the pump's, so the client's own is off."""

    name = "influxdb2"

    def __init__(self, config: Influxdb2Config) -> None:
        self._config = config
        self._client = InfluxDBClient(
            url=config.url.rstrip("/"),
            token=config.token.get_secret_value(),
            org=config.org,
            timeout=round(config.timeout_s * 1000),
            retries=False,
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)
        self._writer = PointWriter(self.send, self.send_lasting if config.forever_bucket else None)

    def open(self) -> None:
        """Connect at the first write: bucket and token are made by whoever runs the server."""

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Write all points; find those that the database refuses."""
        return self._writer.write(frames)

    def send_lasting(self, body: bytes) -> None:
        """Send what is kept for ever. Raises `SinkError`."""
        self.send(body, self._config.forever_bucket)

    def send(self, body: bytes, bucket: str | None = None) -> None:
        """Send one body of line protocol, times in nanoseconds, to a bucket or the usual one. Raises `SinkError`."""
        try:
            self._write_api.write(bucket or self._config.bucket, self._config.org, body, write_precision=_NS)
        except ApiException as error:
            headers: Mapping[str, str] = error.headers or {}
            text = str(error.body or error.reason or "")
            raise error_of(error.status or 500, text, retry_after=headers.get("Retry-After")) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise SinkBusyError(f"{self._config.url} does not answer: {reason(error)}") from error
        except UnicodeDecodeError as error:
            raise SinkBusyError(f"{self._config.url} answers with something that is no text") from error
        answer = self._client.api_client.last_response
        if answer.status != 204:
            raise error_of(answer.status, str(answer.data))

    def close(self) -> None:
        """Close the connections."""
        self._write_api.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]
