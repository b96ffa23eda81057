"""The flash that the journal lies on, mounted so that LittleFS keeps short files inline (docs/decisions/0016)."""

import vfs
from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_READ_BYTES = const(128)  # LittleFS takes four times this as cache, and keeps inline what fits into it: 512 bytes
_PROGRAM_BYTES = const(32)


_LittleFS: "Any" = vfs.VfsLfs2  # abstract in the stubs


def _open(device: "Any") -> "Any":
    return _LittleFS(device, readsize=_READ_BYTES, progsize=_PROGRAM_BYTES)


def mount_journal(partition: "Any | None", root: "Any") -> None:
    """Mount the journal's own `partition` at /journal; without one, mount the root file system anew.

    A partition that holds no LittleFS is formatted. A root file system of another kind is left as it is.
    """
    if partition is None:
        try:
            file_system = _open(root)
        except OSError:
            return
        vfs.umount("/")
        vfs.mount(file_system, "/")
        return
    try:
        file_system = _open(partition)
    except OSError:
        _LittleFS.mkfs(partition)
        file_system = _open(partition)
    vfs.mount(file_system, "/journal")
