"""Messages: what travels over MQTT. `up` carries frames and the anchors they need; `ack` names what is stored.

An up message (topic `.../up`), little-endian:

    0   2   magic "SM"
    2   1   version (1)
    3   1   number of anchors a (0..8)
    4   4   journal id that the anchors belong to
    8   13a anchors: boot number (4), UTC ms of the boot's millisecond 0 (8, signed), time quality (1)
    .   4   CRC-32 of everything before
    .   .   one or more frames, back to back, to the end of the message

An acknowledgement (topic `.../ack`):

    0   2   magic "SA"
    2   1   version (1)
    3   1   number of ranges n (0..255)
    4   4   journal id
    8   8   the gateway's UTC in ms (signed), offered to nodes without a better clock; 0: not offered
    16  8n  ranges: first and last sequence number (4 each, both inclusive)
    .   4   CRC-32 of everything before
"""

import binascii
import struct
from collections import namedtuple

from .catalogue import TIME_NONE
from .error import BAD_CHECKSUM, BAD_HEADER, BAD_LENGTH, BAD_MAGIC, NEWER_VERSION, TRUNCATED, WireError
from .frame import is_anchor, read_prefix

VERSION = 1
ANCHORS_MAX = 8
ACK_RANGES_MAX = 255
MESSAGE_BYTES_MAX = 16384
_UP = "<2sBBI"
_UP_BYTES = struct.calcsize(_UP)  # 8
_ANCHOR = "<IqB"
_ANCHOR_BYTES = struct.calcsize(_ANCHOR)  # 13
_ACK = "<2sBBIq"
_ACK_BYTES = struct.calcsize(_ACK)  # 16

Anchor = namedtuple("Anchor", ("boot", "utc_ms", "quality"))
Ack = namedtuple("Ack", ("journal", "utc_ms", "ranges"))


def pack_up_head(journal: int, anchors: "list[Anchor]") -> bytes:
    """Pack what precedes the frames of an up message: the anchors of boots whose frames were sealed without one."""
    assert len(anchors) <= ANCHORS_MAX
    head = bytearray(_UP_BYTES + _ANCHOR_BYTES * len(anchors) + 4)
    struct.pack_into(_UP, head, 0, b"SM", VERSION, len(anchors), journal)
    offset = _UP_BYTES
    for anchor in anchors:
        struct.pack_into(_ANCHOR, head, offset, anchor.boot, anchor.utc_ms, anchor.quality)
        offset += _ANCHOR_BYTES
    struct.pack_into("<I", head, offset, binascii.crc32(memoryview(head)[:offset]) & 0xFFFFFFFF)
    return bytes(head)


def _check(data: "bytes | memoryview", magic: bytes, minimum: int) -> None:
    if len(data) < minimum + 4:
        raise WireError(TRUNCATED, "%d bytes" % len(data))
    if bytes(data[:2]) != magic:
        raise WireError(BAD_MAGIC)
    if data[2] != VERSION:
        raise WireError(NEWER_VERSION, "%d" % data[2])


def _check_crc(data: "bytes | memoryview", end: int) -> None:
    if len(data) < end + 4:
        raise WireError(TRUNCATED, "%d bytes" % len(data))
    (crc,) = struct.unpack_from("<I", data, end)
    if binascii.crc32(memoryview(data)[:end]) & 0xFFFFFFFF != crc:
        raise WireError(BAD_CHECKSUM)


def read_up_head(data: "bytes | memoryview") -> "tuple[int, list[Anchor], int]":
    """Read the head of an up message: journal id, anchors, and the offset of the first frame. Raises `WireError`."""
    _check(data, b"SM", _UP_BYTES)
    if len(data) > MESSAGE_BYTES_MAX:
        raise WireError(BAD_LENGTH, "%d bytes" % len(data))
    _, _, count, journal = struct.unpack_from(_UP, data, 0)
    if count > ANCHORS_MAX:
        raise WireError(BAD_HEADER, "%d anchors" % count)
    end = _UP_BYTES + _ANCHOR_BYTES * count
    _check_crc(data, end)
    anchors = []
    for i in range(count):
        anchor = Anchor(*struct.unpack_from(_ANCHOR, data, _UP_BYTES + i * _ANCHOR_BYTES))
        if anchor.quality == TIME_NONE or not is_anchor(anchor.utc_ms, anchor.quality):
            raise WireError(BAD_HEADER, "anchor %d ms of quality %d" % (anchor.utc_ms, anchor.quality))
        anchors.append(anchor)
    return journal, anchors, end + 4


def split_frames(data: "bytes | memoryview", offset: int) -> "list[memoryview]":
    """Split what follows the head into the frames' bytes by their lengths; checks no CRC.

    Raises `WireError` where the lengths do not lead to the end of the message exactly.
    """
    view = memoryview(data)
    frames = []
    while offset < len(view):
        length = read_prefix(view[offset:]).length
        frames.append(view[offset : offset + length])
        offset += length
    if not frames:
        raise WireError(TRUNCATED, "no frame")
    return frames


def pack_ack(journal: int, utc_ms: int, ranges: "list[tuple[int, int]]") -> bytes:
    """Pack an acknowledgement of the inclusive `ranges` of sequence numbers (at most 255)."""
    assert len(ranges) <= ACK_RANGES_MAX
    data = bytearray(_ACK_BYTES + 8 * len(ranges) + 4)
    struct.pack_into(_ACK, data, 0, b"SA", VERSION, len(ranges), journal, utc_ms)
    offset = _ACK_BYTES
    for first, last in ranges:
        struct.pack_into("<II", data, offset, first, last)
        offset += 8
    struct.pack_into("<I", data, offset, binascii.crc32(memoryview(data)[:offset]) & 0xFFFFFFFF)
    return bytes(data)


def read_ack(data: "bytes | memoryview") -> Ack:
    """Read an acknowledgement. Raises `WireError`."""
    _check(data, b"SA", _ACK_BYTES)
    _, _, count, journal, utc_ms = struct.unpack_from(_ACK, data, 0)
    end = _ACK_BYTES + 8 * count
    if len(data) != end + 4:
        raise WireError(BAD_LENGTH, "%d bytes for %d ranges" % (len(data), count))
    _check_crc(data, end)
    ranges = []
    for i in range(count):
        first, last = struct.unpack_from("<II", data, _ACK_BYTES + 8 * i)
        if first > last:
            raise WireError(BAD_HEADER, "range %d..%d" % (first, last))
        ranges.append((first, last))
    return Ack(journal, utc_ms, ranges)
