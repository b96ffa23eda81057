"""A backup's folder: made under another name, complete at once or not at all (see the package's header)."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swapline_gateway.durable import sync
from swapline_gateway.error import StorageError

MANIFEST = "manifest.json"
VERSION = 1  # of the layout
_KEYS = {"begun_utc", "parts", "files"}  # without which nothing can be restored
_UNFINISHED = ".unfinished-"
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z")
_BLOCK_BYTES = 1 << 20
Manifest = dict[str, Any]


@contextmanager
def making(out: Path, now: datetime | None = None) -> Iterator["Unfinished"]:
    """Lend a folder to fill; it gets its name at `Unfinished.finish`. Raises `StorageError`, also of a full disk."""
    begun = now or datetime.now(UTC)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _only_one(out):
            for left in out.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left)
            made = Unfinished(out, begun)
            try:
                yield made
            finally:
                shutil.rmtree(made.path, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{error.filename or out}: cannot be written: {error.strerror or error}.") from error


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"Another backup is being written to {out}.") from error
        yield
    finally:
        os.close(descriptor)


class Unfinished:
    """A backup that is being made. `parts` says what is in it."""

    def __init__(self, out: Path, begun: datetime) -> None:
        self._begun = begun
        self._target = _free(out, begun)
        self.path = out / f"{_UNFINISHED}{self._target.name}"
        self.parts: dict[str, Any] = {}
        self.path.mkdir(mode=0o700)

    def folder(self, name: str) -> Path:
        """Make a folder within."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self) -> Path:
        """Write the manifest, make everything durable, give the folder its name, and return it."""
        files = {}
        for path in sorted(path for path in self.path.rglob("*") if path.is_file()):
            name = path.relative_to(self.path).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": digest(path)}
            sync(path)
        manifest = {
            "version": VERSION,
            "made_by": f"swapline {version('swapline')}",
            "begun_utc": self._begun.isoformat(timespec="seconds"),
            "ended_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "parts": self.parts,
            "files": files,
        }
        place = self.path / MANIFEST
        place.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(place)
        for folder in (*(path for path in self.path.rglob("*") if path.is_dir()), self.path):
            sync(folder)
        self.path.rename(self._target)
        sync(self._target.parent)
        return self._target


def _free(out: Path, begun: datetime) -> Path:
    """Return the folder of a second that has none yet."""
    while (target := out / begun.strftime("%Y-%m-%dT%H%M%SZ")).exists():
        begun += timedelta(seconds=1)
    return target


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def complete(out: Path) -> list[Path]:
    """Return the complete backups below a folder, oldest first."""
    return sorted(path for path in out.glob("*") if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file())


def prune(out: Path, keep: int) -> list[Path]:
    """Remove all complete backups but the newest `keep`, and return those."""
    gone = complete(out)[:-keep]
    for path in gone:
        (path / MANIFEST).unlink()  # first: what is half removed is no backup
        shutil.rmtree(path)
    return gone


def read(path: Path) -> Manifest:
    """Return a backup's manifest. Raises `StorageError` if it is none, or of a later layout."""
    try:
        manifest: Manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        found, missing = int(manifest["version"]), _KEYS - manifest.keys()
    except FileNotFoundError as error:
        newest = complete(path)[-1:]
        hint = f"; the newest below it is {newest[0]}" if newest else ""
        raise StorageError(f"{path} is no complete backup: it has no {MANIFEST}{hint}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path / MANIFEST} cannot be read: {error}.") from error
    if found > VERSION:
        raise StorageError(f"{path} was made by {manifest.get('made_by')}, which is newer than this swapline.")
    if missing:
        raise StorageError(f"{path / MANIFEST} is no whole manifest: {min(missing)!r} is missing.")
    return manifest


def verify(path: Path, manifest: Manifest, parts: Sequence[str]) -> int:
    """Read the files of these parts, and return their bytes. Raises `StorageError` naming those that differ."""
    wrong: list[str] = []
    size_bytes = 0
    for name, said in manifest["files"].items():
        if name.split("/")[0] not in parts:
            continue
        try:
            is_same = (path / name).stat().st_size == said["bytes"] and digest(path / name) == said["sha256"]
        except OSError:
            is_same = False
        if not is_same:
            wrong.append(name)
        size_bytes += said["bytes"]
    if wrong:
        raise StorageError(f"{path} is damaged, nothing was restored: {', '.join(wrong)} is not as it was written.")
    return size_bytes
