"""What the journal needs only while it is opened: its folder, its state file read back, what the file system can."""

import binascii
import os
import struct

from .journal_state import DROP, DROP_DECLARED, RECORD_BYTES, RECORD_FORMAT, Record, sync_folder

_ENOSPC = 28


def draw_id() -> int:
    """Return a random journal id."""
    value = 0
    while value == 0:
        value = int.from_bytes(os.urandom(4), "little")
    return value


def make_folder(folder: str) -> None:
    """Make a folder and those above it. Raises OSError where one is not there and cannot be made."""
    path = ""
    for part in folder.split("/"):
        path += part
        if path:
            try:
                os.mkdir(path)
                sync_folder(path[: path.rfind("/")] or "." if "/" in path else ".")
            except OSError as error:
                try:
                    os.stat(path)  # else it exists
                except OSError:
                    if error.errno == _ENOSPC:
                        raise OSError("no room left for folder " + path) from None  # LittleFS says "28"
                    raise error from None
        path += "/"


def read_record(data: bytes) -> "Record | None":
    """Return the record in 32 bytes; None if it is torn or damaged."""
    if len(data) < RECORD_BYTES or data[:2] != b"SJ":
        return None
    if binascii.crc32(data[:28]) & 0xFFFFFFFF != struct.unpack_from("<I", data, 28)[0]:
        return None
    return Record(*struct.unpack(RECORD_FORMAT, data[:28])[1:])


def _is_drop_of(record: Record, declared: Record) -> bool:
    """Say whether `declared` says that the drop in `record` was declared."""
    return record.kind == DROP and bool(declared.first_seq <= record.first_seq <= record.last_seq <= declared.last_seq)


def read_state(folder: str) -> "list[Record]":
    """Return what the last boot left, up to the first torn record, without drops that are declared.

    One by one: a node that was offline for weeks leaves many.
    """
    records: "list[Record]" = []
    try:
        with open(folder + "/state", "rb") as file:
            while (record := read_record(file.read(RECORD_BYTES))) is not None:
                if record.kind == DROP_DECLARED:
                    records = [r for r in records if not _is_drop_of(r, record)]
                else:
                    records.append(record)
    except OSError:
        pass  # there is no file, or what follows is unreadable
    return records


def is_inline(folder: str, size_bytes: int) -> bool:
    """Try out whether a file of that size lies in the folder's metadata, without a block of its own.

    LittleFS decides that by how it was mounted, which nothing tells.
    """
    path = folder + "/state.new"
    try:
        with open(path, "wb"):
            pass
        free_blocks = os.statvfs(folder)[3]
        with open(path, "wb") as file:
            file.write(bytes(size_bytes))
        return free_blocks == os.statvfs(folder)[3]
    except OSError:
        return False  # no room, so it needs some
