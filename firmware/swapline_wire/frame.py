"""Frames: sealed once on the device, and the same bytes in flash, in the MQTT payload and in the gateway's spool.

Every frame stands alone. All integers are little-endian. The first 14 bytes and the closing CRC-32 never change with
the protocol version, so a gateway can store and acknowledge a frame that it cannot read yet.

    offset  bytes  field
    0       2      magic "SL"
    2       1      protocol version (1)
    3       1      priority: 0 routine, 1 event, 2 alarm
    4       2      length of the whole frame, CRC included
    6       4      journal id: random, drawn when the node's journal was formatted
    10      4      sequence number in that journal
    14      4      boot number in that journal
    18      1      time quality: 0 none, 1 estimated, 2 gateway, 3 NTP, 4 GNSS
    19      1      stream id
    20      8      anchor: UTC of the boot's millisecond 0, in ms since 1970, signed (0 while the quality is none)
    28      8      time of the first row, in ms since boot, signed
    36      1      bay (0: none)
    37      1      length n of the owner's code (0..24)
    38      2      row size r in bytes
    40      2      number of rows k (1..)
    42      n      owner's code, ASCII (empty: the node itself)
    42+n    r*k    rows: signed 32-bit time offset to the first row in ms, then the stream's signals
    end-4   4      CRC-32 (IEEE 802.3) of everything before it
"""

import binascii
import struct
from collections import namedtuple

from .catalogue import ALARM, TIME_GNSS, TIME_NONE, Stream, row_size, struct_format
from .error import (
    BAD_CHECKSUM,
    BAD_HEADER,
    BAD_LENGTH,
    BAD_MAGIC,
    NEWER_VERSION,
    TRUNCATED,
    WireError,
)

VERSION = 1
MAGIC = b"SL"
OWNER_BYTES_MAX = 24
FRAME_BYTES_MAX = 4096  # the first layer's cap: an ESP32 holds two of them in RAM without noticing
# An anchor outside these can come from no clock: the GPS epoch (1980-01-06) and 2100-01-01.
ANCHOR_UTC_MS_MIN = 315964800000
ANCHOR_UTC_MS_MAX = 4102444800000
# Times since boot stay far inside what every database and date type can add to an anchor: 69 years.
ROW_MS_MAX = 1 << 41
_OFFSET_MS_MAX = 0x7FFFFFFF  # a row's offset to the first row is a signed 32-bit number: 24.8 days
_PREFIX = "<2sBBHII"
_HEADER = "<2sBBHIIIBBqqBBHH"
PREFIX_BYTES = struct.calcsize(_PREFIX)  # 14
HEADER_BYTES = struct.calcsize(_HEADER)  # 42
CRC_BYTES = 4

Prefix = namedtuple("Prefix", ("version", "priority", "length", "journal", "seq"))
Header = namedtuple(
    "Header",
    (
        "priority",
        "journal",
        "seq",
        "boot",
        "time_quality",
        "stream_id",
        "anchor_utc_ms",
        "first_row_ms",
        "bay",
        "owner",
        "row_size",
        "row_count",
        "rows_offset",
    ),
)


class FrameBuilder:
    """Collect rows of one stream and owner in a buffer that is allocated once, and seal them into a frame.

    `buffer_bytes` bounds the frame; `takes` says whether a row fits. A builder is used again after every seal.
    """

    def __init__(self, stream: Stream, *, bay: int = 0, owner: str = "", buffer_bytes: int = 512) -> None:
        assert buffer_bytes <= FRAME_BYTES_MAX
        self.stream = stream
        self.bay = bay
        self.owner = owner
        self.row_count = 0
        self.first_row_ms = 0
        self._row = _row_layout(stream)
        self._end = self._rows_offset()
        self._buffer = bytearray(buffer_bytes)
        assert self._rows_offset() <= HEADER_BYTES + OWNER_BYTES_MAX
        assert not self.is_full()

    def change_owner(self, owner: str) -> None:
        """Collect rows of another owner in the same buffer. Rows that are not sealed are lost."""
        self.owner = owner
        self.clear()
        assert not self.is_full()

    def is_full(self) -> bool:
        """Say whether no further row fits."""
        return self._end + self._row[1] + CRC_BYTES > len(self._buffer)

    def takes(self, time_ms: int) -> bool:
        """Say whether a row of this time fits: there is room, and it lies within 24.8 days of the first row.

        A source that states its own time can jump by years (a GNSS week rollover), so this is asked, not asserted.
        """
        return not self.is_full() and (
            self.row_count == 0 or -_OFFSET_MS_MAX <= time_ms - self.first_row_ms <= _OFFSET_MS_MAX
        )

    def add(self, time_ms: int, values: "list[int]") -> None:
        """Append one row that `takes` agreed to: `time_ms` since boot, `values` raw, in catalogue order."""
        assert self.takes(time_ms)
        if self.row_count == 0:
            self.first_row_ms = time_ms
        row_format, size = self._row
        struct.pack_into(row_format, self._buffer, self._end, time_ms - self.first_row_ms, *values)
        self._end += size
        self.row_count += 1

    def seal(self, *, journal: int, seq: int, boot: int, time_quality: int, anchor_utc_ms: int) -> memoryview:
        """Close the frame and return its bytes: a view of the builder's buffer, valid until the next `add`."""
        assert self.row_count
        length = self._end + CRC_BYTES
        buffer = self._buffer
        owner = self.owner.encode()
        struct.pack_into(
            _HEADER,
            buffer,
            0,
            MAGIC,
            VERSION,
            self.stream.priority,
            length,
            journal,
            seq,
            boot,
            time_quality,
            self.stream.id,
            anchor_utc_ms,
            self.first_row_ms,
            self.bay,
            len(owner),
            self._row[1],
            self.row_count,
        )
        buffer[HEADER_BYTES : HEADER_BYTES + len(owner)] = owner
        view = memoryview(buffer)
        struct.pack_into("<I", buffer, self._end, binascii.crc32(view[: self._end]) & 0xFFFFFFFF)
        self.clear()
        return view[:length]

    def clear(self) -> None:
        """Forget the rows that were added."""
        self.row_count = 0
        self._end = self._rows_offset()

    def _rows_offset(self) -> int:
        return HEADER_BYTES + len(self.owner.encode())


_row_layouts: "dict[str, tuple[str, int]]" = {}  # by a stream's struct codes, for all builders: a board has two dozen


def _row_layout(stream: Stream) -> "tuple[str, int]":
    """Return the struct format of a stream's rows and their size."""
    codes = struct_format(stream.signals)
    if codes not in _row_layouts:
        _row_layouts[codes] = ("<" + codes, row_size(stream.signals))
    return _row_layouts[codes]


def read_prefix(data: "bytes | memoryview") -> Prefix:
    """Read the part of a frame that no protocol version changes. Raises `WireError`; checks no CRC."""
    if len(data) < PREFIX_BYTES + CRC_BYTES:
        raise WireError(TRUNCATED, "%d bytes" % len(data))
    magic, version, priority, length, journal, seq = struct.unpack_from(_PREFIX, data, 0)
    if magic != MAGIC:
        raise WireError(BAD_MAGIC)
    if length < PREFIX_BYTES + CRC_BYTES or length > FRAME_BYTES_MAX:
        raise WireError(BAD_LENGTH, "%d" % length)
    if length > len(data):
        raise WireError(TRUNCATED, "%d of %d bytes" % (len(data), length))
    return Prefix(version, priority, length, journal, seq)


def verify(data: "bytes | memoryview") -> Prefix:
    """Check that `data` is exactly one frame with a good CRC-32, of any protocol version. Raises `WireError`."""
    prefix = read_prefix(data)
    if prefix.length != len(data):
        raise WireError(BAD_LENGTH, "%d bytes, says %d" % (len(data), prefix.length))
    (crc,) = struct.unpack_from("<I", data, prefix.length - CRC_BYTES)
    if binascii.crc32(memoryview(data)[: prefix.length - CRC_BYTES]) & 0xFFFFFFFF != crc:
        raise WireError(BAD_CHECKSUM)
    return prefix


def is_anchor(utc_ms: int, quality: int) -> bool:
    """Say whether a clock of this quality can have set this anchor: 0 without a clock, else from 1980 to 2100."""
    if quality == TIME_NONE:
        return utc_ms == 0
    return quality <= TIME_GNSS and ANCHOR_UTC_MS_MIN <= utc_ms < ANCHOR_UTC_MS_MAX


def read_header(data: "bytes | memoryview") -> Header:
    """Verify one frame and read its header. Raises `WireError` (`newer_version` for a frame of a later protocol)."""
    prefix = verify(data)
    if prefix.version != VERSION:
        raise WireError(NEWER_VERSION, "%d" % prefix.version)
    if len(data) < HEADER_BYTES + CRC_BYTES:
        raise WireError(TRUNCATED, "%d bytes" % len(data))
    fields = struct.unpack_from(_HEADER, data, 0)
    boot, quality, stream_id, anchor, first_row, bay, owner_bytes, size, count = fields[6:]
    rows_offset = HEADER_BYTES + owner_bytes
    if prefix.priority > ALARM or owner_bytes > OWNER_BYTES_MAX:
        raise WireError(BAD_HEADER, "priority %d, owner of %d bytes" % (prefix.priority, owner_bytes))
    if not is_anchor(anchor, quality) or not -ROW_MS_MAX < first_row < ROW_MS_MAX:
        raise WireError(BAD_HEADER, "anchor %d ms of quality %d, first row %d ms" % (anchor, quality, first_row))
    if size < 5 or count < 1 or rows_offset + size * count + CRC_BYTES != prefix.length:
        raise WireError(BAD_HEADER, "%d rows of %d bytes in %d" % (count, size, prefix.length))
    owner = bytes(data[HEADER_BYTES:rows_offset])
    if not all([0x21 <= c <= 0x7E for c in owner]):
        raise WireError(BAD_HEADER, "owner is not printable ASCII")
    return Header(
        prefix.priority,
        prefix.journal,
        prefix.seq,
        boot,
        quality,
        stream_id,
        anchor,
        first_row,
        bay,
        owner.decode(),
        size,
        count,
        rows_offset,
    )
