"""Damaged bytes raise `WireError`, never anything else, and never yield a row."""

import binascii
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_wire import frame, message
from swapline_wire.catalogue import ALARM_STREAM, CELLS, SLOT, Stream, not_available
from swapline_wire.decode import decode
from swapline_wire.error import WireError
from tests.wire.test_golden import VECTORS


def seal(stream: Stream, rows: int, owner: str = "") -> bytes:
    builder = frame.FrameBuilder(stream, bay=1, owner=owner)
    for i in range(rows):
        builder.add(1000 * i, not_available(stream.signals))
    return bytes(builder.seal(journal=5, seq=9, boot=2, time_quality=4, anchor_utc_ms=1790000000000))


def read_message(data: bytes) -> list[object]:
    """Read an up message as the gateway does: the head, the frames' bounds, then each frame."""
    journal, anchors, offset = message.read_up_head(data)
    return [journal, anchors, *[decode(part) for part in message.split_frames(data, offset)]]


FRAMES = [bytes.fromhex(vector["hex"]) for vector in VECTORS["frames"]]
HEADS = [bytes.fromhex(vector["hex"]) for vector in VECTORS["up_heads"]]
ACKS = [bytes.fromhex(vector["hex"]) for vector in VECTORS["acks"]]
PARTS = [seal(SLOT, 2), seal(CELLS, 1, "08PBAA00000000A0000001"), seal(ALARM_STREAM, 1)]
MESSAGES = [HEADS[0] + PARTS[0], HEADS[1] + b"".join(PARTS)]
SAMPLES = (
    [(decode, data) for data in FRAMES]
    + [(frame.verify, data) for data in FRAMES]
    + [(read_message, data) for data in MESSAGES]
    + [(message.read_ack, data) for data in ACKS]
)
Reader = Callable[[bytes], object]
each_sample = pytest.mark.parametrize(
    ("read", "whole"),
    SAMPLES,
    ids=[f"{getattr(read, '__name__', '')}-{i}" for i, (read, _) in enumerate(SAMPLES)],
)


def single_flips(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def frame_ends(data: bytes) -> set[int]:
    """Return the lengths at which a message is cut exactly behind one of its frames."""
    if data[:2] != b"SM":
        return set()
    _, _, offset = message.read_up_head(data)
    ends = []
    for part in message.split_frames(data, offset):
        offset += len(part)
        ends.append(offset)
    return set(ends)


@each_sample
def test_read_rejects_truncation_at_every_byte(read: Reader, whole: bytes) -> None:
    read(whole)
    for length in range(len(whole)):
        if length in frame_ends(whole):
            continue  # a shorter message of whole frames: see below
        with pytest.raises(WireError):
            read(whole[:length])


def test_message_cut_between_frames_yields_only_its_whole_frames() -> None:
    """Every frame stands alone and is acknowledged by its own number, so the missing ones are simply sent again."""
    whole = MESSAGES[1]
    for length in sorted(frame_ends(whole)):
        assert read_message(whole[:length]) == read_message(whole)[: 2 + len(frame_ends(whole[:length]))]


@each_sample
def test_read_rejects_every_single_flipped_bit(read: Reader, whole: bytes) -> None:
    for damaged in single_flips(whole):
        with pytest.raises(WireError):
            read(damaged)


@each_sample
def test_read_rejects_bytes_behind_the_end(read: Reader, whole: bytes) -> None:
    for extra in (b"\0", b"\xff", whole[:10]):
        with pytest.raises(WireError):
            read(whole + extra)


@pytest.mark.parametrize("read", [decode, frame.verify, frame.read_prefix, read_message, message.read_ack])
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"SL\x01\x00" + tail)))
def test_read_of_arbitrary_bytes_raises_nothing_but_wire_error(read: Reader, data: bytes) -> None:
    with pytest.raises(WireError):
        read(data)


def with_crc(data: bytes) -> bytes:
    return data + binascii.crc32(data).to_bytes(4, "little")


@given(
    index=st.integers(0, len(FRAMES) - 1),
    changes=st.lists(st.tuples(st.integers(6, 41), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_decode_of_a_lying_header_with_a_good_checksum_raises_nothing_but_wire_error(
    index: int, changes: list[tuple[int, int]]
) -> None:
    """A hostile node can compute a CRC. Whatever it states, the times of its rows stay dates that a database holds."""
    body = bytearray(FRAMES[index][:-4])
    for offset, value in changes:
        body[offset] = value
    try:
        decoded = decode(with_crc(bytes(body)))
    except WireError:
        return
    for row in decoded.rows:
        assert abs(row[0]) < frame.ROW_MS_MAX + (1 << 31)
        assert decoded.header.time_quality == 0 or decoded.header.anchor_utc_ms < frame.ANCHOR_UTC_MS_MAX
