"""Messages: heads with anchors, splitting into frames, acknowledgements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_wire import catalogue, frame, message
from swapline_wire.error import BAD_HEADER, BAD_LENGTH, WireError

UTC_MS = st.integers(frame.ANCHOR_UTC_MS_MIN, frame.ANCHOR_UTC_MS_MAX - 1)
SEQ = st.integers(0, 0xFFFFFFFF)
ANCHORS = st.builds(message.Anchor, SEQ, UTC_MS, st.integers(1, 4))
RANGES = st.tuples(SEQ, SEQ).map(lambda pair: (min(pair), max(pair)))


def sealed(rows: int) -> bytes:
    builder = frame.FrameBuilder(catalogue.CELLS, buffer_bytes=1024)
    for i in range(rows):
        builder.add(i, catalogue.not_available(catalogue.CELLS.signals))
    return bytes(builder.seal(journal=1, seq=1, boot=1, time_quality=0, anchor_utc_ms=0))


@given(
    journal=SEQ, anchors=st.lists(ANCHORS, max_size=message.ANCHORS_MAX), rows=st.lists(st.integers(1, 9), min_size=1)
)
def test_message_returns_the_anchors_and_frames_that_were_packed(
    journal: int, anchors: list[message.Anchor], rows: list[int]
) -> None:
    frames = [sealed(count) for count in rows]
    data = message.pack_up_head(journal, anchors) + b"".join(frames)
    read_journal, read_anchors, offset = message.read_up_head(data)
    assert (read_journal, read_anchors) == (journal, anchors)
    assert [bytes(part) for part in message.split_frames(data, offset)] == frames


@given(journal=SEQ, utc_ms=st.just(0) | UTC_MS, ranges=st.lists(RANGES, max_size=message.ACK_RANGES_MAX))
def test_ack_returns_the_ranges_that_were_packed(journal: int, utc_ms: int, ranges: list[tuple[int, int]]) -> None:
    assert message.read_ack(message.pack_ack(journal, utc_ms, ranges)) == (journal, utc_ms, ranges)


def reason(read: object, data: bytes) -> str:
    assert callable(read)
    with pytest.raises(WireError) as caught:
        read(data)
    return str(caught.value.reason)


def test_head_with_an_anchor_that_no_clock_can_have_set_is_refused() -> None:
    for utc_ms, quality in ((0, 4), (1790000000000, 0), (1790000000000, 5), (frame.ANCHOR_UTC_MS_MAX, 2), (-1, 1)):
        data = message.pack_up_head(1, [message.Anchor(1, utc_ms, quality)])
        assert reason(message.read_up_head, data) == BAD_HEADER


def test_head_of_a_message_beyond_the_limit_is_refused() -> None:
    data = message.pack_up_head(1, []) + bytes(message.MESSAGE_BYTES_MAX)
    assert reason(message.read_up_head, data) == BAD_LENGTH


def test_message_without_a_frame_is_refused() -> None:
    data = message.pack_up_head(1, [])
    assert reason(lambda bytes_: message.split_frames(bytes_, len(data)), data) == "truncated"


def test_ack_with_a_backward_range_is_refused() -> None:
    assert reason(message.read_ack, message.pack_ack(1, 0, [(5, 4)])) == BAD_HEADER
