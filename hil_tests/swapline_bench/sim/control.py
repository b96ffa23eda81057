"""Live control: each running simulator listens on a Unix socket in the user's runtime folder.

One request is one line of JSON, `{"do": "set", "values": {"soc": "40"}}`; its answer is one line too, `{"ok": true,
...}` or `{"ok": false, "error": "..."}`.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from swapline_bench.sim.error import SimError, UnavailableError

REQUEST_BYTES_MAX = 64 * 1024
ANSWER_S_MAX = 10.0
VERBS = ("set", "fault", "pull", "insert", "stuck", "unplug", "plug-in", "status", "stop")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
Request = dict[str, Any]


def runtime_folder() -> Path:
    """Return the folder of the sockets, made if need be: this user's own. Raises `UnavailableError`."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "swapline", "sim") if base else Path(tempfile.gettempdir(), f"swapline-{os.getuid()}", "sim")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat()
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be used ({error.strerror}): set XDG_RUNTIME_DIR.") from None
    if owner.st_uid != os.getuid() or stat.S_IMODE(owner.st_mode) & 0o022:
        raise UnavailableError(f"{folder} is not this user's alone: set XDG_RUNTIME_DIR to a folder that is.")
    return folder


def running() -> list[str]:
    """Return the names of the simulators that run; what a killed one left behind is cleaned away."""
    names = []
    for path in sorted(runtime_folder().glob("*.sock")):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
            else:
                names.append(path.stem)
    return names


def choose_name(asked: str | None, kind: str) -> str:
    """Return the asked name, or `kind` with a number that is free. Raises `SimError`."""
    taken = running()
    if asked is None:
        return next(name for n in range(1, 1000) if (name := kind if n == 1 else f"{kind}-{n}") not in taken)
    if not _NAME.fullmatch(asked) or asked in VERBS:
        raise SimError(f"--name {asked}: use up to 40 letters, digits, dots and dashes, and no command of `sim ctl`.")
    if asked in taken:
        raise UnavailableError(f"A simulator called {asked} runs already: end it, or choose another --name.")
    return asked


class ControlServer:
    """The socket of one simulator. `handle` does what is asked and returns the answer; its `SimError` is the answer."""

    def __init__(self, name: str, handle: Callable[[Request], Awaitable[Request]]) -> None:
        self.path = runtime_folder() / f"{name}.sock"
        self._handle = handle
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ControlServer":
        self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=REQUEST_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(await self._answer(reader)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Request:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                request = json.loads(await reader.readline())
            return {"ok": True, **await self._handle(request)}
        except SimError as error:
            return {"ok": False, "error": error.message}
        except (ValueError, TypeError, KeyError, TimeoutError, AttributeError):
            return {"ok": False, "error": "This is not a request: send one line of JSON, as docs/simulators.md says."}


def send(name: str, request: Request) -> Request:
    """Ask a running simulator and return its answer. Raises `SimError` with its refusal, or where it does not run."""
    path = runtime_folder() / f"{name}.sock"
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S_MAX)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as answers:
                answer: Request = json.loads(answers.readline())
    except (OSError, ValueError):
        known = ", ".join(running()) or "none"
        raise UnavailableError(f"No simulator called {name} answers; running: {known}.") from None
    if not answer.get("ok"):
        raise SimError(str(answer.get("error")))
    return answer
