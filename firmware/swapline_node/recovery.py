"""What the journal needs only while it is opened: its folder, its state file read back, what the file system can."""

import binascii
import os
import struct

from micropython import const

from swapline_wire.catalogue import TIME_NONE

from .journal_state import DROP, DROP_DECLARED, MOMENT, OCCUPANT, RECORD_BYTES, RECORD_FORMAT, Record, sync_folder

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .segment_scan import Recovery

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


def find_occupants(records: "list[Record]", recovery: "Recovery", boot: int) -> "dict[int, tuple[str, Record]]":
    """Return who sat in which bay when the last boot ended, each with the last moment at which it was known.

    Where no frame tells when that was, it is the beginning of this one, `boot`: it cannot have been later.
    """
    last = Record(MOMENT, *recovery.last) if recovery.last else Record(MOMENT, TIME_NONE, 0, boot, 0, 0, 0)
    found: "dict[int, tuple[str, Record]]" = {}
    for record in records:
        if record.kind == OCCUPANT:
            code = struct.pack("<IIqII", *record[2:]).rstrip(b"\0").decode()
            found.pop(record.detail, None)
            if code:
                found[record.detail] = (code, last)
        elif record.kind == MOMENT:
            for bay, (code, moment) in found.items():
                if moment is last:
                    found[bay] = (code, record)
    for _, moment in found.values():
        if moment.detail == TIME_NONE:  # that boot's anchor is wanted as long as nobody has told of it
            uptime_ms = moment.first_seq | moment.last_seq << 32
            recovery.uptimes[moment.boot] = max(recovery.uptimes.get(moment.boot, 0), uptime_ms)
    return found
