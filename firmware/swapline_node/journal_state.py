"""The journal's state file: its id, boots, anchors and drops, as records of 32 bytes that are only ever appended.

    0   2   magic "SJ"
    2   1   kind: 1 boot begun, 2 anchor, 3 drop begun, 4 drop declared, 5 clean stop,
            6 settled: nothing in a segment waits up to a number
    3   1   anchor: time quality; drop: loss reason; else 0
    4   4   journal id
    8   4   boot number; drop and settled: priority of the segment
    12  8   anchor: UTC of the boot's ms 0 (signed); drop: frames lost
    20  4   boot: the first number that it may use; drop: first sequence number lost; settled: first of the segment
    24  4   drop: last sequence number lost; settled: last number that does not wait
    28  4   CRC-32 of everything before

A boot begins with a fresh file that replaces the old one by renaming, so a record torn by a power cut is always last.
"""

import binascii
import os
import struct
from collections import namedtuple

from swapline_wire.catalogue import TIME_ESTIMATED

BOOT = 1
ANCHOR = 2
DROP = 3
DROP_DECLARED = 4
CLEAN_STOP = 5
SETTLED = 6
RECORD_BYTES = 32
RECORD_FORMAT = "<2sBBIIqII"

Record = namedtuple("Record", ("kind", "detail", "journal", "boot", "value", "first_seq", "last_seq"))


def pack_record(record: Record) -> bytes:
    """Return the 32 bytes of a record."""
    data = bytearray(RECORD_BYTES)
    struct.pack_into(
        RECORD_FORMAT,
        data,
        0,
        b"SJ",
        record.kind,
        record.detail,
        record.journal,
        record.boot,
        record.value,
        record.first_seq,
        record.last_seq,
    )
    struct.pack_into("<I", data, 28, binascii.crc32(memoryview(data)[:28]) & 0xFFFFFFFF)
    return bytes(data)


def estimate_anchors(
    boot: int, known: "dict[int, tuple[int, int]]", uptimes: "dict[int, int]"
) -> "dict[int, tuple[int, int]]":
    """Date boots before `boot` that ended without an anchor back from the next one that has one.

    The next boot began after the last frame of this one: its start minus the last uptime is the latest possible
    anchor. How long the power was off is not known, hence the quality "estimated".
    """
    known = dict(known)
    dated = {}
    for earlier in range(boot - 1, min(uptimes) - 1 if uptimes else boot, -1):
        if earlier not in known and earlier + 1 in known:
            known[earlier] = dated[earlier] = (known[earlier + 1][0] - uptimes.get(earlier, 0), TIME_ESTIMATED)
    return dated


def sync_folder(folder: str) -> bool:
    """Make the names of a folder's files durable; return whether the file system asks for that.

    POSIX does: a file that was flushed can still lose its name. LittleFS does not, and does not open folders as files.
    """
    try:
        with open(folder, "rb") as file:
            file.flush()
    except OSError:
        return False
    return True


class JournalState:
    """The state file of one journal folder."""

    def __init__(self, folder: str) -> None:
        self.size_bytes = 0
        self._is_torn = False  # a record was perhaps written in part: nothing behind it would be read
        self._folder = folder
        self._path = folder + "/state"
        self._path_new = folder + "/state.new"

    def replace(self, records: "list[Record]") -> None:
        """Begin a new file with `records`. A power cut leaves either the old file or the new one."""
        with open(self._path_new, "wb") as file:
            for record in records:
                file.write(pack_record(record))
            file.flush()
        self._install(len(records) * RECORD_BYTES)

    def append(self, *records: Record) -> None:
        """Add records; durable when this returns. Raises OSError, and then none of them counts for this boot."""
        if self._is_torn:
            self._mend()
        self._is_torn = True
        with open(self._path, "ab") as file:
            file.write(b"".join([pack_record(record) for record in records]))
            file.flush()
        self._is_torn = False
        self.size_bytes += len(records) * RECORD_BYTES

    def _mend(self) -> None:
        """Write the file anew, up to the last record that counts."""
        with open(self._path, "rb") as torn, open(self._path_new, "wb") as file:
            for _ in range(self.size_bytes // RECORD_BYTES):
                file.write(torn.read(RECORD_BYTES))
            file.flush()
        self._install(self.size_bytes)

    def _install(self, size_bytes: int) -> None:
        """Put the new file into the place of the old one."""
        os.rename(self._path_new, self._path)
        sync_folder(self._folder)
        self.size_bytes = size_bytes
        self._is_torn = False
