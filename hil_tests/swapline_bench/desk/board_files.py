"""Files on an idle board: copy what differs, never leave half of one, compare all of it afterwards."""

import hashlib
import operator
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swapline_bench.bundle import PACKAGES, START_FILES
from swapline_bench.desk.console import Console
from swapline_bench.desk.node import NodeError

CHUNK_BYTES = 1024  # a command of mpremote's each, at most four times as long in characters
_SAY_EACH_S = 2.0
_PART = ".part"
# The board walks its own file system and says a line a file: path, size, hash.
_LIST = """
import os, hashlib, binascii
def _walk(folder, depth):
    for entry in os.ilistdir(folder or "/"):
        path = folder + "/" + entry[0] if folder else entry[0]
        if entry[1] & 0x4000:
            if depth or entry[0] in {packages!r}:
                _walk(path, depth + 1)
        elif depth or entry[0] in {files!r}:
            digest = hashlib.sha256()
            buffer = bytearray(512)
            view = memoryview(buffer)
            with open(path, "rb") as file:
                while True:
                    count = file.readinto(buffer)
                    if not count:
                        break
                    digest.update(view[:count])
            print(path, binascii.hexlify(digest.digest()).decode())
_walk("", 0)
"""
_FORGET = """
import os
def _remove(path):
    try:
        if os.stat(path)[0] & 0x4000:
            for name in os.listdir(path):
                _remove(path + "/" + name)
            os.rmdir(path)
        else:
            os.remove(path)
    except OSError:
        pass
for _path in ("journal", "/journal", "config.json", "config.json.old", "reset_cause", "main.py.held"):
    _remove(_path)
"""


class BoardFiles:
    """The file system of the board on `console`; `say` tells of long work."""

    def __init__(self, console: Console, say: Callable[[str], None]) -> None:
        self._console = console
        self._say = say

    async def forget_node(self) -> None:
        """Remove what a node's firmware has written: its journal, its configuration."""
        await self._console.execute(_FORGET, timeout_s=60.0)

    async def synchronize(self, bundle: Path) -> None:
        """Make the board's firmware the bundle's, file by file. Raises `NodeError` where a file will not be right."""
        wanted = _read_bundle(bundle)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()}
        there = await self._hashes()
        stale = [name for name in there if name not in wanted]
        for name in stale:
            await self._console.work(operator.methodcaller("fs_rmfile", name), f"removing {name}")
        changed = [name for name, digest in hashes.items() if there.get(name) != digest]
        began_s = time.monotonic()
        await self._copy(wanted, changed)
        if changed or stale:
            there = await self._hashes()
            wrong = [name for name, digest in hashes.items() if there.get(name) != digest]
            if wrong:
                raise NodeError(f"{wrong[0]} is not on the board as it was sent: is its flash full or worn out?")
        took_s = time.monotonic() - began_s
        self._say(
            f"flash: {len(changed)} of {len(wanted)} files copied, {len(stale)} removed, all compared, {took_s:.1f} s"
        )

    async def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        await self._console.work(lambda transport: _write(transport, name, data), f"taking {name}")

    async def _hashes(self) -> dict[str, str]:
        code = _LIST.format(packages=PACKAGES, files=START_FILES)
        lines = (await self._console.execute(code, timeout_s=60.0)).splitlines()
        return {name: digest for name, _, digest in (line.rpartition(" ") for line in lines) if name}

    async def _copy(self, wanted: dict[str, bytes], changed: list[str]) -> None:
        folders = sorted({parent.as_posix() for name in changed for parent in Path(name).parents if parent != Path()})
        await self._console.work(lambda transport: _make_folders(transport, folders), "making folders")
        said_s = time.monotonic()
        for index, name in enumerate(changed):
            await self.write(name, wanted[name])
            if time.monotonic() - said_s > _SAY_EACH_S:
                said_s = time.monotonic()
                self._say(f"flash: {index + 1} of {len(changed)} files")


def _read_bundle(bundle: Path) -> dict[str, bytes]:
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}


def _make_folders(transport: Any, folders: list[str]) -> None:
    for folder in folders:
        if not transport.fs_exists(folder):
            transport.fs_mkdir(folder)


def _write(transport: Any, name: str, data: bytes) -> None:
    part = name + _PART
    transport.fs_writefile(part, data, chunk_size=CHUNK_BYTES)
    transport.exec(f"import os\nos.rename({part!r}, {name!r})")
