from hypothesis import given
from hypothesis import strategies as st

from swapline_bench.frame_source import FrameSource, reseal
from swapline_gateway.ingest import (
    FUTURE,
    NO_TIME,
    Sender,
    count_frames,
    examine_message,
    refuse_future,
)
from swapline_wire import error
from swapline_wire.catalogue import TIME_GNSS, TIME_NONE
from swapline_wire.message import Anchor

SENDER = Sender("test", "van-001")


def test_good_frames_of_a_message_are_all_read() -> None:
    source = FrameSource()
    found = examine_message(SENDER, source.message(source.frame(), source.frame()))
    assert [item.key for item in found.items] == [(7, 1), (7, 2)]
    assert not found.spoiled


def test_damaged_frame_costs_its_neighbours_nothing_and_has_no_key() -> None:
    source = FrameSource()
    frames = [bytearray(source.frame()) for _ in range(3)]
    frames[1][60] ^= 1
    found = examine_message(SENDER, source.message(*(bytes(frame) for frame in frames)))
    assert [item.key for item in found.items] == [(7, 1), (7, 3)]
    (bad,) = found.spoiled
    assert (bad.reason, bad.key, bad.data) == (error.BAD_CHECKSUM, None, bytes(frames[1]))


def test_rest_of_a_message_whose_lengths_break_is_kept_as_one_piece() -> None:
    source = FrameSource()
    good, torn = source.frame(), source.frame()[:-9]
    found = examine_message(SENDER, source.message(good, torn))
    assert [item.key for item in found.items] == [(7, 1)]
    assert [(bad.reason, bad.data) for bad in found.spoiled] == [(error.TRUNCATED, torn)]


def test_newer_protocol_and_unknown_stream_are_spoiled_with_a_key() -> None:
    source = FrameSource()
    newer, unknown = reseal(source.frame(), at_2=b"\x02"), reseal(source.frame(), at_19=b"\xc8")
    found = examine_message(SENDER, source.message(newer, unknown))
    assert [(bad.reason, bad.key) for bad in found.spoiled] == [
        (error.NEWER_VERSION, (7, 1)),
        (error.UNKNOWN_STREAM, (7, 2)),
    ]


def test_frame_without_anchor_takes_its_boots_from_the_message() -> None:
    source = FrameSource(boot=3)
    frame = source.frame(quality=TIME_NONE)
    anchors = [Anchor(2, 1_700_000_000_000, TIME_GNSS), Anchor(3, 1_800_000_000_000, TIME_GNSS)]
    (item,) = examine_message(SENDER, source.message(frame, anchors=anchors)).items
    assert (item.anchor_utc_ms, item.time_quality) == (1_800_000_000_000, TIME_GNSS)
    assert item.decoded.header.time_quality == TIME_GNSS
    assert item.data == frame


def test_own_anchor_of_a_frame_counts_more_than_the_messages() -> None:
    source = FrameSource()
    message = source.message(source.frame(), anchors=[Anchor(1, 1_800_000_000_000, TIME_GNSS)])
    assert examine_message(SENDER, message).items[0].anchor_utc_ms == source.anchor_utc_ms


def test_anchor_of_another_journal_is_not_believed() -> None:
    source, other = FrameSource(journal=7), FrameSource(journal=8)
    frame = source.frame(quality=TIME_NONE)
    found = examine_message(SENDER, other.message(frame, anchors=[Anchor(1, 1_800_000_000_000, TIME_GNSS)]))
    assert [(bad.reason, bad.key) for bad in found.spoiled] == [(NO_TIME, (7, 1))]


@given(st.binary(max_size=300))
def test_any_bytes_are_kept_and_never_raise(payload: bytes) -> None:
    found = examine_message(SENDER, payload)
    assert not found.items
    assert b"".join(bad.data for bad in found.spoiled) == payload


@given(st.data())
def test_message_with_one_flipped_bit_never_yields_a_wrong_frame(data: st.DataObject) -> None:
    source = FrameSource(anchor_utc_ms=1_800_000_000_000)
    frames = [source.frame(), source.frame()]
    payload = bytearray(source.message(*frames))
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    for item in examine_message(SENDER, bytes(payload)).items:
        assert item.data in frames


def test_frame_of_a_far_future_is_spoiled_with_its_key_and_costs_its_neighbours_nothing() -> None:
    source = FrameSource()
    near = source.frame()
    source.anchor_utc_ms += 1_000_000
    far = source.frame()
    limit_utc_ms = source.anchor_utc_ms + 1999
    found = refuse_future(examine_message(SENDER, source.message(near, far)), limit_utc_ms)
    assert [item.key for item in found.items] == [(7, 1)]
    assert [(bad.reason, bad.key, bad.data) for bad in found.spoiled] == [(FUTURE, (7, 2), far)]


def test_frames_are_counted_by_their_lengths_alone() -> None:
    source = FrameSource()
    frames = [source.frame() for _ in range(3)]
    whole = source.message(*frames)
    assert count_frames(whole) == 3
    assert count_frames(whole[:-1]) == 1
    assert count_frames(b"") == 1
