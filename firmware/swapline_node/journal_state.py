"""The journal's state file: its id, boots, anchors and drops, as records of 32 bytes that are only ever appended.

    0   2   magic "SJ"
    2   1   kind: 1 boot begun, 2 anchor, 3 drop begun, 4 drop declared, 5 clean stop,
            6 settled: nothing in a segment waits up to a number, 7 occupant, 8 moment
    3   1   anchor, moment: time quality; drop: loss reason; occupant: bay; else 0
    4   4   journal id
    8   4   boot number; drop and settled: priority of the segment
    12  8   anchor: UTC of the boot's ms 0 (signed); drop: frames lost
    20  4   boot: the first number that it may use; drop: first sequence number lost; settled: first of the segment
    24  4   drop: last sequence number lost; settled: last number that does not wait
    28  4   CRC-32 of everything before

An occupant has from offset 4 the code of the module in that bay, 24 bytes filled with NUL (empty: none), which was seen
there in this boot. A moment says of the occupants before it that they were last seen there not in this boot, but until
then: boot, anchor (value) and uptime in ms (two words: low, high).

A boot begins with a fresh file that replaces the old one by renaming, so a record torn by a power cut is always last.
"""

import binascii
import os
import struct
from collections import namedtuple

from micropython import const

from swapline_wire.catalogue import TIME_ESTIMATED

BOOT = 1
ANCHOR = 2
DROP = 3
DROP_DECLARED = 4
CLEAN_STOP = 5
SETTLED = 6
OCCUPANT = 7
MOMENT = 8
_OCCUPANTS_MAX = const(64)  # 2 KB of changes: then the file is written anew without those that were overtaken
_CODE_BYTES = const(24)
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


def _occupant_record(bay: int, code: str) -> Record:
    return Record(OCCUPANT, bay, *struct.unpack("<IIqII", (code.encode() + bytes(_CODE_BYTES))[:_CODE_BYTES]))


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
        self.occupants: "dict[int, tuple[str, Record | None]]" = {}  # bay -> code, and moment of what was seen before
        self._changes = 0  # of occupants since the file was begun
        self._is_torn = False  # a record was perhaps written in part: nothing behind it would be read
        self._folder = folder
        self._path = folder + "/state"
        self._path_new = folder + "/state.new"

    def replace(self, records: "list[Record]") -> None:
        """Begin a new file with `records`. A power cut leaves either the old file or the new one."""
        records = records + self._occupant_records()
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

    def occupy(self, bay: int, code: str) -> None:
        """Write down for the next boot that a module was seen in a bay, or with an empty code that none is there."""
        if code:
            self.occupants[bay] = (code, None)
        else:
            self.occupants.pop(bay, None)
        if not self.size_bytes:
            return  # the journal is not open: there is no next boot to tell
        try:
            self._changes += 1
            if self._changes > _OCCUPANTS_MAX:
                self._mend()
            else:
                self.append(_occupant_record(bay, code))
        except OSError:
            pass  # the disk is full: the next boot knows who sat there before, and tells by that

    def _occupant_records(self) -> "list[Record]":
        """Return what the next boot needs to know: first those of earlier boots, each with its moment."""
        records = []
        for bay, (code, moment) in self.occupants.items():
            if moment is not None:
                records += [_occupant_record(bay, code), moment]
        return records + [_occupant_record(bay, code) for bay, (code, seen) in self.occupants.items() if seen is None]

    def _mend(self) -> None:
        """Write the file anew, up to the last record that counts, with occupants as they are now."""
        size_bytes = 0
        with open(self._path, "rb") as torn, open(self._path_new, "wb") as file:
            for _ in range(self.size_bytes // RECORD_BYTES):
                record = torn.read(RECORD_BYTES)
                if record[2] < OCCUPANT:
                    size_bytes += file.write(record)
            for occupant in self._occupant_records():
                size_bytes += file.write(pack_record(occupant))
            file.flush()
        self._install(size_bytes)

    def _install(self, size_bytes: int) -> None:
        """Put the new file into the place of the old one."""
        os.rename(self._path_new, self._path)
        sync_folder(self._folder)
        self.size_bytes = size_bytes
        self._changes = 0
        self._is_torn = False
