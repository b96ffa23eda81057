"""The gateway as a child process, with the command that people run in production: to be used, measured and killed."""

import asyncio
import http.client
import json
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from swapline_bench.services import HOST, Server

FIGURES_S_MAX = 300.0
ANSWER_S_MAX = 10.0
_COMMAND = (sys.executable, "-m", "swapline_gateway", "gateway")
# In both formats of its log; a gateway without pages has no port.
_READY = r'^(?=.*("event": "ready"|\] ready ))(.*url\W+http://[^\s"]+:(?P<port>\d+))?'


class GatewayProcess(Server):
    """One gateway with its files in `folder`: configuration, spool and embedded database.

    `tables` are its configuration, which every start writes. `port` and `url` are those of its pages.
    """

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, Mapping[str, Any]],
        *,
        name: str = "gateway",
        command: Sequence[str] = _COMMAND,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(name, folder, self._write_config, _READY, chooses_port=True, on_line=on_line)
        self.tables = {table: dict(keys) for table, keys in tables.items()}
        self._program = command

    @classmethod
    def unlimited(
        cls,
        folder: Path,
        *,
        broker_port: int,
        settings: Mapping[str, Any] | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> Self:
        """Prepare one without limits that a test would run into, with pages but no console.

        `settings` are tables of its configuration over those: a `sink` as a whole, else key by key.
        """
        tables: dict[str, dict[str, Any]] = {
            "mqtt": {"host": HOST, "port": broker_port},
            "spool": {"path": "spool.sqlite"},
            "sink": {"type": "duckdb", "path": "swapline.duckdb"},
            "http": {"port": 0, "console": False},
            "quota": {"frames_per_s": 1e6, "bytes_per_s": 1e9, "bytes_per_day": 10**12},
            "log": {"format": "json", "level": "debug"},
        }
        for table, keys in (settings or {}).items():
            tables[table] = {**(tables.get(table, {}) if table != "sink" else {}), **keys}
        return cls(folder, tables, command=command)

    @property
    def config_path(self) -> Path:
        """Return the configuration file."""
        return self.folder / "gateway.toml"

    @property
    def database_path(self) -> Path:
        """Return the DuckDB file that it writes, where that is its sink."""
        return self.folder / "swapline.duckdb"

    def _write_config(self, folder: Path, port: int) -> Sequence[str]:
        del port  # its configuration says which
        folder.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(to_toml(self.tables), encoding="utf-8")
        return (*self._program, "--config", str(self.config_path))

    def _start_on(self, port: int) -> Self:
        del port  # its pages need not come back where they were: somebody may have taken that port
        return super()._start_on(0)

    def figures(self) -> dict[str, Any]:
        """Return what `/api/pipeline` says."""
        with urllib.request.urlopen(f"{self.url}/api/pipeline", timeout=ANSWER_S_MAX) as answer:  # noqa: S310 (ours)
            found: dict[str, Any] = json.load(answer)
            return found

    async def ask(self) -> dict[str, Any] | None:
        """Return what `/api/pipeline` says, None while it does not answer."""
        try:
            return await asyncio.to_thread(self.figures)
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def wait_for_figures(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the figures are as wanted, and return them. Raises `TimeoutError` with the last ones."""
        deadline_s = time.monotonic() + FIGURES_S_MAX
        while not condition(figures := self.figures()):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the gateway's figures stay at {figures}")
            time.sleep(0.02)
        return figures


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write tables of strings, numbers and flags as TOML; JSON writes those the same way."""
    lines = []
    for table, entries in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
    text = "\n".join(lines) + "\n"
    tomllib.loads(text)
    return text
