"""The gateway as a child process, as `swapline gateway --config` starts it: to be measured, and to be killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_S_MAX = 60.0
STOP_S_MAX = 60.0
FIGURES_S_MAX = 300.0


class GatewayProcess:
    """One gateway with its files in `folder`. It is ready when `start` returns.

    `settings` are the tables of its configuration, over defaults that suit a test: DuckDB in the folder, a free port
    for pages without the console, no limits that a test would run into.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_port: int,
        settings: dict[str, Any] | None = None,
        command: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.log: deque[dict[str, Any] | str] = deque(maxlen=500)
        self.url = ""
        self._command = command or [sys.executable, "-m", "swapline_gateway", "gateway"]
        self.tables: dict[str, dict[str, Any]] = {
            "mqtt": {"host": "127.0.0.1", "port": broker_port},
            "spool": {"path": "spool.sqlite"},
            "sink": {"type": "duckdb", "path": "swapline.duckdb"},
            "http": {"port": 0, "console": False},
            "quota": {"frames_per_s": 1e6, "bytes_per_s": 1e9, "bytes_per_day": 10**12},
            "log": {"format": "json", "level": "debug"},
        }
        for table, keys in (settings or {}).items():
            self.tables[table] = {**self.tables.get(table, {}), **keys} if table != "sink" else keys
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()

    @property
    def pid(self) -> int:
        """Return the child's process number."""
        assert self._process is not None
        return self._process.pid

    @property
    def config_path(self) -> Path:
        """Return the configuration file."""
        return self.folder / "gateway.toml"

    def write_config(self) -> Path:
        """Write the configuration and return its path."""
        lines: list[str] = []
        for table, keys in self.tables.items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        self.config_path.write_text("\n".join(lines) + "\n")
        return self.config_path

    def start(self, environment: dict[str, str] | None = None) -> Self:
        """Start it and wait until it takes frames."""
        self._ready.clear()
        self._process = subprocess.Popen(
            [*self._command, "--config", str(self.write_config())],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_S_MAX) or not self.url:
            self.kill()
            raise RuntimeError(f"the gateway was not ready; its log:\n{self.log_tail()}")
        return self

    def _read_log(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                self.log.append(line.rstrip())
                continue
            self.log.append(entry)
            if entry.get("event") == "ready":
                self.url = entry["url"] or "-"
                self._ready.set()
        self._ready.set()  # the end of the log: it is gone

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(str(line) for line in list(self.log)[-30:])

    def figures(self) -> dict[str, Any]:
        """Return what `/api/pipeline` says."""
        with urllib.request.urlopen(f"{self.url}/api/pipeline", timeout=10) as answer:  # noqa: S310 (our own child)
            found: dict[str, Any] = json.load(answer)
            return found

    def wait_for_figures(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the figures are as wanted, and return them. Raises `TimeoutError` with the last ones."""
        deadline_s = time.monotonic() + FIGURES_S_MAX
        while not condition(figures := self.figures()):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the gateway's figures stay at {figures}")
            time.sleep(0.02)
        return figures

    def stop(self) -> int:
        """End it in order (SIGTERM) and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it at once (SIGKILL), as a power cut would."""
        return self._end(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        code = self._process.wait(STOP_S_MAX)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None
        return code

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
