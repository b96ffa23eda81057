"""A disk as POSIX promises it: what a power cut leaves is what was flushed, file by file and name by name.

Built from strace's log of a process: `Disk.apply` takes its calls one after the other.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
STDOUT = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded: its name, the strings and the other arguments, what it returned."""

    name: str
    strings: list[bytes]
    arguments: str
    result: int

    @property
    def descriptor(self) -> int:
        """Return the first argument of calls that take an open file."""
        return int(self.arguments.split(",")[0])


def read_calls(log: Path) -> list[Call]:
    """Read the log of `strace -f -xx`."""
    calls = []
    for line in log.read_text().splitlines():
        match = _CALL.match(line)
        if match and int(match[3]) >= 0:
            strings = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(match[2])]
            calls.append(Call(match[1], strings, match[2], int(match[3])))
    return calls


@dataclass(slots=True)
class Inode:
    """A file: what it holds and what of that is durable."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


class Disk:
    """The files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._is_folder_durable = False
        self._files: dict[int, Inode | str] = {}

    def apply(self, call: Call) -> bool:
        """Take note of a call; return whether it changed anything."""
        return bool(getattr(self, f"_{call.name}", lambda _: False)(call))

    def killed(self) -> dict[str, bytes]:
        """Return the folder after a kill of the process: the system still has all that it was given."""
        return {name: bytes(inode.data) for name, inode in self._names.items()}

    def cut(self, *, are_names_late: bool) -> dict[str, bytes]:
        """Return the folder after a power cut: flushed content, and names as early or as late as they may come."""
        names = self._durable_names if are_names_late else self._names
        if are_names_late and not self._is_folder_durable:
            return {}
        return {name: inode.durable for name, inode in names.items()}

    def _name(self, path: bytes) -> str | None:
        folder, _, name = path.decode().rpartition("/")
        return name if folder == self._folder else None

    def _openat(self, call: Call) -> bool:
        path = call.strings[0]
        name = self._name(path)
        if name is None:
            self._files[call.result] = path.decode()
            return False
        is_new = name not in self._names
        inode = self._names.setdefault(name, Inode())
        if "O_TRUNC" in call.arguments:
            inode.data.clear()
        self._files[call.result] = inode
        return is_new or "O_TRUNC" in call.arguments

    def _close(self, call: Call) -> bool:
        self._files.pop(call.descriptor, None)
        return False

    def _write(self, call: Call) -> bool:
        inode = self._files.get(call.descriptor)
        if not isinstance(inode, Inode):
            return False
        inode.data += call.strings[0]
        return True

    def _fsync(self, call: Call) -> bool:
        inode = self._files.get(call.descriptor)
        if isinstance(inode, Inode):
            inode.durable = bytes(inode.data)
        elif inode == self._folder:
            self._durable_names = dict(self._names)
        elif inode == str(Path(self._folder).parent):
            self._is_folder_durable = True
        return inode is not None

    def _rename(self, call: Call) -> bool:
        source, target = (self._name(path) for path in call.strings)
        if source is None or target is None:
            return False
        self._names[target] = self._names.pop(source)
        return True

    def _unlink(self, call: Call) -> bool:
        name = self._name(call.strings[0])
        return name is not None and self._names.pop(name, None) is not None
