"""Locks of benches and ports: who uses one keeps an advisory lock on a file that says who that is.

The kernel lets go of a lock when its process ends, however it ends, so no lock is ever left behind. The files are in
the user's runtime folder.
"""

import fcntl
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from swapline_bench.desk.bench_file import BenchFile, DeskError

HOLDER_VARIABLE = "SWAPLINE_LOCK_HOLDER"  # whoever starts a process that takes locks tells it whom to name as holder
_COMMAND_CHARACTERS_MAX = 120


class LockError(DeskError):
    """Somebody else uses what was asked for; the message says who, since when, and what to do."""


def runtime_folder() -> Path:
    """Return the folder of this user for what lives as long as a process: locks, sockets. It is for nobody else."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "swapline" if base and Path(base).is_dir() else _own_temporary_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = folder.stat().st_uid == os.getuid()
    except OSError as error:
        raise DeskError(
            f"{folder} cannot be used: {error.strerror}; set XDG_RUNTIME_DIR to a folder of yours."
        ) from error
    if not is_ours:
        raise DeskError(f"{folder} belongs to somebody else: set XDG_RUNTIME_DIR to a folder of yours.")
    return folder


def _own_temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"swapline-{os.getuid()}"


class Locks:
    """Locks on several things at once: `names` says of each what a person calls it. None is held after an error."""

    def __init__(self, names: Sequence[str], *, folder: Path | None = None) -> None:
        self._names = sorted(set(names))  # in one order, whoever asks
        self._folder = folder
        self._files: list[int] = []

    def acquire(self) -> None:
        """Take all locks. Raises `LockError` naming the first that somebody else holds."""
        folder = (self._folder or runtime_folder()) / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for name in self._names:
                self._acquire(name, folder / quote(name, safe=""))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of all locks. The files stay: who waits for one may have it open."""
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _acquire(self, name: str, path: Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(file)
            os.close(file)
            raise LockError(f"{name} is in use {holder}: wait until that has ended, or end it.") from None
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(describe_holder()).encode(), 0)
        self._files.append(file)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def describe_holder() -> dict[str, Any]:
    """Return what a lock of ours says of who holds it: process, command, since when."""
    now = datetime.now(UTC).isoformat(" ", "seconds")
    if told := os.environ.get(HOLDER_VARIABLE):
        return {**json.loads(told), "since": now}
    program = Path(sys.argv[0] if sys.argv else "python")
    name = program.parent.name if program.name == "__main__.py" else program.name  # python -m pytest
    command = shlex.join([name, *sys.argv[1:]])
    return {"pid": os.getpid(), "command": command[:_COMMAND_CHARACTERS_MAX], "since": now}


def _read(file: int) -> str:
    """Say who holds a lock; its holder may be about to write that down."""
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return f"by process {holder['pid']} ({holder['command']}) since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "by another process"


def locks_of(file: BenchFile) -> Locks:
    """Return the locks that whoever uses a bench has to hold."""
    names = [f"Port {os.path.realpath(port)}" for port, _ in file.ports()]
    if file.bench.exclusive:
        names.append(f"Bench {file.bench.name}")
    return Locks(names)
