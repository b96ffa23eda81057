"""Live control: each running simulator listens on a Unix socket in the user's runtime folder.

One request is one line of JSON, `{"do": "set", "values": {"soc": "40"}}`; its answer is one line too, `{"ok": true,
...}` or `{"ok": false, "error": "..."}`.
"""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from swapline_bench.sim.error import SimError, UnavailableError

REQUEST_BYTES_MAX = 64 * 1024
ANSWER_S_MAX = 5.0
LAST_ANSWER_S_MAX = 1.0
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
    """Return the names of the simulators that run."""
    return sorted(path.stem for path in runtime_folder().glob("*.sock") if _is_alive(path))


def _is_alive(path: Path) -> bool:
    """Say whether somebody listens; a killed simulator leaves its socket behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def check_name(name: str) -> None:
    """Refuse what `sim ctl` could not tell from a command, or a file system from a path. Raises `SimError`."""
    if not _NAME.fullmatch(name) or name in VERBS:
        raise SimError(f"--name {name}: use up to 40 letters, digits, dots and dashes, and no command of `sim ctl`.")


def claim(asked: str | None, kind: str) -> tuple[str, socket.socket]:
    """Return the asked name, or `kind` with a number that is free, and its socket, which listens. Raises `SimError`."""
    if asked is not None:
        check_name(asked)
    folder = runtime_folder()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that start at once must not take one name, nor clean the other's away
        taken = running()
        if asked in taken:
            raise UnavailableError(f"A simulator called {asked} runs already: end it, or choose another --name.")
        name = asked or next(name for name in _numbered(kind) if name not in taken)
        path = folder / f"{name}.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            listener.close()
            raise UnavailableError(f"{path} cannot be made ({error.strerror or error}): set XDG_RUNTIME_DIR.") from None
    return name, listener


def _numbered(kind: str) -> Iterator[str]:
    yield kind
    yield from (f"{kind}-{number}" for number in itertools.count(2))


class ControlServer:
    """The socket of one simulator. `handle` does what is asked and returns the answer; its `SimError` is the answer."""

    def __init__(self, asked_name: str | None, kind: str, handle: Callable[[Request], Awaitable[Request]]) -> None:
        self.name, self._listener = claim(asked_name, kind)
        self.path = runtime_folder() / f"{self.name}.sock"
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ControlServer":
        self._server = await asyncio.start_unix_server(self._begin, sock=self._listener, limit=REQUEST_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.path.unlink(missing_ok=True)
        self._server.close()
        if self._serving:  # who asked for the end wants to hear that it comes
            await asyncio.wait(self._serving, timeout=LAST_ANSWER_S_MAX)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(await self._answer(reader)).encode() + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

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
    except TimeoutError:
        raise UnavailableError(f"{name} runs and has not answered for {ANSWER_S_MAX:g} s: is it stopped?") from None
    except (OSError, ValueError):
        known = ", ".join(running()) or "none"
        raise UnavailableError(f"No simulator called {name} answers; running: {known}.") from None
    if not answer.get("ok"):
        raise SimError(str(answer.get("error")))
    return answer
