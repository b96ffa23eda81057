"""Sealing and reading frames."""

import binascii
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_wire import catalogue, frame
from swapline_wire.catalogue import FORMATS, MODULE, NODE, POSITION, SLOT, STREAMS, Signal, Stream
from swapline_wire.decode import decode
from swapline_wire.error import BAD_HEADER, WireError

OWNER_CHARACTERS = "".join(chr(code) for code in range(0x21, 0x7F))


def values_of(signal: Signal) -> st.SearchStrategy[int]:
    """Anything that fits the format, its two codes included."""
    _, width, not_available, abnormal = FORMATS[signal.format]
    bits = 8 * width
    low, high = (0, (1 << bits) - 1) if signal.format[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from([not_available, abnormal, signal.minimum, signal.maximum])


@st.composite
def sealed(draw: st.DrawFn) -> tuple[Stream, dict[str, Any], list[tuple[int, ...]], bytes]:
    stream = draw(st.sampled_from(STREAMS))
    first_row_ms = draw(st.integers(-(1 << 41) + 1, (1 << 41) - 1))
    offsets = draw(st.lists(st.integers(-(1 << 31) + 1, (1 << 31) - 1), max_size=3))
    rows = [
        (first_row_ms + offset, *draw(st.tuples(*[values_of(signal) for signal in stream.signals])))
        for offset in [0, *offsets]
    ]
    quality = draw(st.integers(0, 4))
    fields = {
        "journal": draw(st.integers(0, 0xFFFFFFFF)),
        "seq": draw(st.integers(0, 0xFFFFFFFF)),
        "boot": draw(st.integers(0, 0xFFFFFFFF)),
        "time_quality": quality,
        "anchor_utc_ms": quality and draw(st.integers(frame.ANCHOR_UTC_MS_MIN, frame.ANCHOR_UTC_MS_MAX - 1)),
    }
    place: dict[str, Any] = {"bay": draw(st.integers(0, 255)), "owner": draw(st.text(OWNER_CHARACTERS, max_size=24))}
    builder = frame.FrameBuilder(stream, **place)
    for row in rows:
        builder.add(row[0], list(row[1:]))
    return stream, fields | place | {"first_row_ms": first_row_ms}, rows, bytes(builder.seal(**fields))


@given(sample=sealed())
def test_decode_returns_what_was_sealed(
    sample: tuple[Stream, dict[str, Any], list[tuple[int, ...]], bytes],
) -> None:
    stream, fields, rows, data = sample
    decoded = decode(data)
    assert decoded.stream is stream
    assert decoded.signals == stream.signals
    assert decoded.rows == rows
    assert {name: getattr(decoded.header, name) for name in fields} == fields
    assert decoded.header.priority == stream.priority


def seal(builder: frame.FrameBuilder) -> memoryview:
    view: memoryview = builder.seal(journal=1, seq=1, boot=1, time_quality=0, anchor_utc_ms=0)
    return view


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: str(stream.name))
def test_builder_is_full_exactly_when_no_row_fits(stream: Stream) -> None:
    size = catalogue.row_size(stream.signals)
    builder = frame.FrameBuilder(stream, owner="A", buffer_bytes=frame.HEADER_BYTES + 1 + 3 * size + frame.CRC_BYTES)
    for i in range(3):
        assert builder.takes(i)
        builder.add(i, catalogue.not_available(stream.signals))
    assert builder.is_full()
    assert not builder.takes(3)
    assert len(decode(seal(builder)).rows) == 3


def test_builder_starts_anew_after_seal() -> None:
    builder = frame.FrameBuilder(SLOT)
    builder.add(5000, catalogue.not_available(SLOT.signals))
    seal(builder)
    builder.add(9000, catalogue.not_available(SLOT.signals))
    header = decode(seal(builder)).header
    assert (header.row_count, header.first_row_ms) == (1, 9000)


def test_builder_takes_no_row_beyond_24_days_of_the_first() -> None:
    """A GNSS week rollover moves the receiver's own time by 19.6 years."""
    builder = frame.FrameBuilder(POSITION)
    builder.add(0, catalogue.not_available(POSITION.signals))
    assert builder.takes(0x7FFFFFFF)
    assert builder.takes(-0x7FFFFFFF)
    assert not builder.takes(0x80000000)
    assert not builder.takes(-1024 * 7 * 86_400_000)


def test_default_buffer_holds_a_row_of_every_stream_with_the_longest_owner() -> None:
    for stream in STREAMS:
        builder = frame.FrameBuilder(stream, owner="A" * frame.OWNER_BYTES_MAX)
        assert builder.takes(0), stream.name


def test_row_formats_have_the_sizes_that_the_rows_state() -> None:
    for stream in STREAMS:
        size = struct.calcsize("<" + catalogue.struct_format(stream.signals))
        assert catalogue.row_size(stream.signals) == size, stream.name


def test_decode_reads_rows_of_every_older_catalogue() -> None:
    """Cut the module's signals one by one, as if each had been appended by a later firmware."""
    for count in range(1, len(MODULE.signals)):
        older = MODULE._replace(signals=MODULE.signals[:count])
        builder = frame.FrameBuilder(older)
        builder.add(10, list(range(count)))
        decoded = decode(seal(builder))
        assert decoded.signals == MODULE.signals[:count]
        assert decoded.rows == [(10, *range(count))]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: str(stream.name))
def test_decode_reads_what_it_knows_of_a_newer_catalogue(stream: Stream) -> None:
    for added in ("u8", "i16", "u32"):
        newer = stream._replace(
            signals=(*stream.signals, Signal("later", "", added, 0, 0, 1, 1, catalogue.STATE, "node"))
        )
        builder = frame.FrameBuilder(newer)
        known = catalogue.not_available(stream.signals)
        builder.add(1, [*known, 1])
        builder.add(2, [*known, 1])
        decoded = decode(seal(builder))
        assert decoded.signals == stream.signals
        assert decoded.rows == [(1, *known), (2, *known)]


def test_decode_rejects_a_row_that_ends_inside_a_signal() -> None:
    narrow = NODE._replace(signals=(Signal("uptime_s", "s", "u16", 0, 0, 9, 1, catalogue.TOTAL, "node"),))
    builder = frame.FrameBuilder(narrow)
    builder.add(1, [1])
    with pytest.raises(WireError) as caught:
        decode(seal(builder))
    assert caught.value.reason == BAD_HEADER


def test_verify_accepts_a_frame_of_a_later_version_so_that_it_can_be_kept() -> None:
    builder = frame.FrameBuilder(SLOT)
    builder.add(1, catalogue.not_available(SLOT.signals))
    body = bytearray(seal(builder)[: -frame.CRC_BYTES])
    body[2] = 9
    data = bytes(body) + binascii.crc32(body).to_bytes(4, "little")
    assert frame.verify(data).version == 9
    with pytest.raises(WireError, match="newer_version"):
        decode(data)
