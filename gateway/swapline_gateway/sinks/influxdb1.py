"""InfluxDB 1.x over plain HTTP: `/write` with line protocol."""

from collections.abc import Sequence
from urllib.parse import urlencode

import urllib3

from swapline_gateway.config import Influxdb1Config, Influxdb1Reader
from swapline_gateway.error import SinkBusyError, reason
from swapline_gateway.reading import FrameRows

from .base import Written
from .influx_answer import error_of
from .influx_points import PointWriter


def credentials(config: Influxdb1Config | Influxdb1Reader) -> dict[str, str]:
    """Return the header that says who writes, or who asks, if anybody."""
    if config.username is None:
        return {}
    password = config.password.get_secret_value() if config.password else ""
    return dict(urllib3.make_headers(basic_auth=f"{config.username}:{password}"))


class Influxdb1Sink:
    """See the module's header."""

    name = "influxdb1"

    def __init__(self, config: Influxdb1Config) -> None:
        self._config = config
        self._pool = urllib3.PoolManager(headers=credentials(config), timeout=config.timeout_s, retries=False)
        self._writer = PointWriter(self.send, self.send_lasting if config.forever else None)
        self._is_open = False

    def open(self) -> None:
        """Make the database if it is not there and we may; without that right it must exist, as the first write tells.

        A user that `swapline cloud apply` made may not, and is told 403.

        Raises `SinkBusyError` while the server does not answer.
        """
        response = self._post("/query", {"q": f'CREATE DATABASE "{self._config.database}"'})
        if response.status >= 500:
            raise error_of(response.status, response.data.decode(errors="replace"))
        self._is_open = True

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Write all points; find those that the database refuses."""
        if not self._is_open:
            self.open()
        return self._writer.write(frames)

    def send_lasting(self, body: bytes) -> None:
        """Send what is kept for ever. Raises `SinkError`."""
        self.send(body, self._config.forever)

    def send(self, body: bytes, policy: str | None = None) -> None:
        """Send one body of line protocol, times in nanoseconds, to a policy or the default one. Raises `SinkError`."""
        query = {"db": self._config.database, "precision": "ns"} | ({"rp": policy} if policy else {})
        response = self._post("/write", query, body)
        if response.status != 204:
            self._is_open = response.status != 404  # somebody dropped the database: make it again
            text = response.data.decode(errors="replace")
            raise error_of(response.status, text, retry_after=response.headers.get("Retry-After"))

    def _post(self, path: str, query: dict[str, str], body: bytes = b"") -> urllib3.BaseHTTPResponse:
        url = f"{self._config.url.rstrip('/')}{path}?{urlencode(query)}"
        try:
            return self._pool.request("POST", url, body=body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise SinkBusyError(f"{self._config.url} does not answer: {reason(error)}") from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
