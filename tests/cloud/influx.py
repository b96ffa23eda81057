"""A real InfluxDB 1.x with the policies that swapline has, for tests that write their own points."""

import json
import urllib.parse
import urllib.request
from typing import Any

from swapline_bench import services
from swapline_cloud.rollup import DATABASE, FOREVER, MINUTE, RAW


class Influx:
    """Writes points with times in ms, and asks."""

    def __init__(self, server: services.InfluxServer) -> None:
        self._server = server

    def write(self, policy: str, lines: list[str]) -> None:
        """Write points, of which the time is in ms."""
        target = f"{self._server.url}/write?db={DATABASE}&rp={policy}&precision=ms"
        services.post(target, "\n".join(lines).encode())

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """Return the series that a statement answers. Fails if InfluxDB refuses it."""
        query = urllib.parse.urlencode({"db": DATABASE, "q": statement, "epoch": "ms"})
        with urllib.request.urlopen(f"{self._server.url}/query?{query}") as response:  # noqa: S310 (our own loopback)
            (result,) = json.load(response)["results"]
        assert "error" not in result, f"{result['error']}: {statement}"
        found: list[dict[str, Any]] = result.get("series", [])
        return found


def empty(server: services.InfluxServer) -> Influx:
    """Return an empty database with its policies; none of them forgets anything, so that tests may write old points."""
    server.execute(f'CREATE DATABASE "{DATABASE}" WITH NAME "{RAW}"')
    for policy in (MINUTE, FOREVER):
        server.execute(f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION 0s REPLICATION 1')
    return Influx(server)
