"""The documents say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

from swapline_wire import catalogue, frame, message
from swapline_wire.catalogue import FORMATS, SLOT
from swapline_wire.decode import decode

ROOT = Path(__file__).parents[2]
WIRE = (ROOT / "docs" / "wire.md").read_text()
EXAMPLE = WIRE[WIRE.index("## Worked example") : WIRE.index("## Golden vectors")]
# Rows of the example's tables: offset, bytes, field, value.
ROWS = [
    (int(offset), bytes.fromhex(hexadecimal), field, value)
    for offset, hexadecimal, field, value in re.findall(
        r"^\| (\d+) \| `([0-9a-f ]+)` \| (.*?) \| (.*) \|$", EXAMPLE, re.MULTILINE
    )
]
START_OF_ACK = [field for _, _, field, _ in ROWS].index("magic", 9)
MESSAGE = b"".join([part for _, part, _, _ in ROWS[:START_OF_ACK]])
ACK = b"".join([part for _, part, _, _ in ROWS[START_OF_ACK:]])


def test_catalogue_page_is_up_to_date() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "make_catalogue_page.py", "--check"], check=True)


def test_offsets_of_the_example_are_where_its_bytes_stand() -> None:
    for rows in (ROWS[:START_OF_ACK], ROWS[START_OF_ACK:]):
        end = 0
        for offset, part, field, _ in rows:
            assert offset == end, field
            end += len(part)
    assert f"message of {len(MESSAGE)} bytes" in EXAMPLE
    assert f"with {len(ACK)} bytes" in EXAMPLE


def test_example_message_reads_as_the_page_says() -> None:
    journal, anchors, offset = message.read_up_head(MESSAGE)
    assert (journal, anchors) == (439041101, [(2, 1790000000000, catalogue.TIME_GATEWAY)])
    (part,) = message.split_frames(MESSAGE, offset)
    decoded = decode(part)
    header = decoded.header
    assert (header.seq, header.boot, header.time_quality, header.bay, header.owner) == (42, 2, 0, 3, "")
    assert decoded.stream is SLOT
    assert [row[0] for row in decoded.rows] == [5000, 6000]


def test_example_values_are_those_of_the_rows() -> None:
    (part,) = message.split_frames(MESSAGE, message.read_up_head(MESSAGE)[2])
    decoded = decode(part)
    shown = [(field.strip("`"), value) for _, _, field, value in ROWS if field.startswith("`")]
    expected = []
    for row in decoded.rows:
        for signal, raw in zip(decoded.signals, row[1:], strict=True):
            _, _, not_available, abnormal = FORMATS[signal.format]
            codes = {not_available: "not available", abnormal: "abnormal"}
            scaled = f"{raw} = {raw / 10**signal.decimals:.{signal.decimals}f}" if signal.decimals else str(raw)
            expected.append((signal.name, codes.get(raw, f"{scaled} {signal.unit}".strip())))
    assert [(name, value.split(", ")[0]) for name, value in shown] == expected


def test_example_acknowledges_the_frame_that_it_sent() -> None:
    assert message.read_ack(ACK) == (439041101, 1790000007000, [(42, 42)])


def test_tables_of_the_page_end_where_the_code_does() -> None:
    assert "| 42 | n | | the owner's code" in WIRE
    assert frame.HEADER_BYTES == 42
    assert frame.PREFIX_BYTES == 14
    assert f"{frame.PREFIX_BYTES + frame.CRC_BYTES} to {frame.FRAME_BYTES_MAX} bytes" in WIRE
    assert f"at\nmost {message.MESSAGE_BYTES_MAX} bytes" in WIRE
    assert f"from {frame.ANCHOR_UTC_MS_MIN} (1980-01-06" in WIRE
    assert f"to {frame.ANCHOR_UTC_MS_MAX - 1} (the last" in WIRE
    largest_ack = message.pack_ack(1, 0, [(1, 1)] * message.ACK_RANGES_MAX)
    assert f"{len(message.pack_ack(1, 0, []))} to {len(largest_ack)} bytes" in WIRE
    for name, (_, width, not_available, abnormal) in FORMATS.items():
        codes = [f"{code & (1 << 8 * width) - 1:0{2 * width}X}" for code in (not_available, abnormal)]
        assert f"| {name} | {width} | {codes[0]} | {codes[1]} |" in WIRE
