"""The demo's gateway: the command that people run in production, as a child process with its files in one folder."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from swapline_bench.child import Child
from swapline_bench.services import HOST
from swapline_gateway.error import GatewayError, UnavailableError

READY_S_MAX = 30.0
STOP_S_MAX = 40.0
_PROGRAM = "from swapline_gateway.cli import main; main()"
_CONFIG = """
[mqtt]
host = "{host}"
port = {broker_port}
fleet = "{fleet}"

[spool]
path = "spool.sqlite"

[sink]
type = "duckdb"
path = "swapline.duckdb"

[http]
host = "{host}"
port = {http_port}
console = {console}

[log]
format = "console"
"""


class GatewayStoppedError(GatewayError):
    """The gateway ended; its own exit code becomes ours."""

    def __init__(self, message: str, *, code: int | None) -> None:
        super().__init__(message)
        self.exit_code = code or UnavailableError.exit_code


class DemoGateway(Child):
    """One gateway process. Its log goes to a file, its figures come over HTTP."""

    def __init__(self, folder: Path, *, fleet: str) -> None:
        self.folder = folder
        self.url = ""
        self._fleet = fleet

    @property
    def database(self) -> Path:
        """Return the DuckDB file that it writes."""
        return self.folder / "swapline.duckdb"

    @property
    def log_path(self) -> Path:
        """Return the file that holds what it printed."""
        return self.folder / "gateway.log"

    async def start(self, *, broker_port: int, http_port: int, console: bool) -> None:
        """Start it and wait until it listens to the broker. Raises `GatewayStoppedError` with its last words."""
        self.url = f"http://{HOST}:{http_port}/"
        path = self.folder / "gateway.toml"
        text = _CONFIG.format(
            host=HOST, broker_port=broker_port, fleet=self._fleet, http_port=http_port, console=str(console).lower()
        )
        path.write_text(text.lstrip(), encoding="utf-8")
        with self.log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PROGRAM, "gateway", "--config", str(path)),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await self._wait_ready(self._process)

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        deadline_s = time.monotonic() + READY_S_MAX
        while process.returncode is None and time.monotonic() < deadline_s:
            figures = await self.figures()
            if figures and figures["broker"]["connected"]:
                return
            await asyncio.sleep(0.05)
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1].removeprefix("swapline: ") if lines else "it said nothing"
        raise GatewayStoppedError(f"The gateway did not start: {last}", code=process.returncode)

    async def figures(self) -> dict[str, Any] | None:
        """Return its own figures, None while it does not answer."""
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.url}api/pipeline") as response,
            ):
                figures: dict[str, Any] = await response.json()
                return figures
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def stop(self) -> list[str]:
        """Stop it in order; return what went wrong, in sentences."""
        assert self._process is not None
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                code = await self._process.wait()
        except TimeoutError:
            await self.kill()
            return [f"the gateway did not stop within {STOP_S_MAX:g} s; see {self.log_path}"]
        return [f"the gateway ended with exit code {code}; see {self.log_path}"] if code else []

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
