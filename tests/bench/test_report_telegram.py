"""Words for telegrams and messages: right for whole ones, none for damaged ones."""

import json
from collections.abc import Callable, Iterable

import pytest

from swapline_bench.faces import jbd, jk
from swapline_bench.faces.modbus import crc16
from swapline_bench.report import payload
from swapline_bench.report.story import log_level, log_text, visible
from swapline_bench.report.telegram import DAMAGED, describe, describe_all
from swapline_bench.report.timeline import FROM_NODE, TO_NODE, Entry
from swapline_wire import catalogue, catalogue_text, message
from swapline_wire.frame import FrameBuilder


def _modbus(text: str) -> bytes:
    body = bytes.fromhex(text)
    return body + crc16(body)


WHOLE = [
    ("ask JBD", bytes.fromhex("dda50300fffd77"), True, "JBD", "read basic information"),
    ("JBD's cells", jbd.frame(jbd.CELLS, jbd.STATUS_OK, bytes(8)), False, "JBD", "cell voltages, 8 bytes"),
    ("JBD refuses", jbd.frame(0x99, jbd.STATUS_ERROR, b""), False, "JBD", "register 99: refused, status 80"),
    ("ask JK", jk.frame(jk.READ_ALL, b"\x00", source=3, kind=0), True, "JK", "read all"),
    ("JK answers", jk.frame(jk.READ_ALL, bytes(40)), False, "JK", "answer to read all, 60 bytes"),
    ("ask Modbus", _modbus("01 04 1000 0012"), True, "Modbus", "unit 1: read 18 input registers at 0x1000"),
    ("Modbus answers", _modbus("01 04 04 00010002"), False, "Modbus", "unit 1: 2 input registers"),
    ("coils", _modbus("00 01 12" + "00" * 18), False, "Modbus", "unit 0: 144 coils"),
    ("exception", _modbus("05 83 02"), False, "Modbus", "unit 5: exception 2, illegal address"),
    ("ask UP16S", _modbus("01 78 1000 10a0 0000"), True, "JBD UP16S", "unit 1: read block 0x1000"),
    ("one sentence", b"$GPGLL,,,,,,V,N*64\r\n", False, "NMEA", "GPGLL"),
    ("two sentences", b"$GPGLL,,,,,,V,N*64\r\n" * 2, False, "NMEA", "GPGLL x2"),
]


@pytest.mark.parametrize(
    ("data", "is_from_node", "protocol", "text"), [row[1:] for row in WHOLE], ids=[r[0] for r in WHOLE]
)
def test_whole_telegram_is_put_into_words(data: bytes, is_from_node: bool, protocol: str, text: str) -> None:
    assert describe(data, is_from_node=is_from_node) == (protocol, text)


# The bytes that each protocol's check covers: JBD leaves out start, register and end, JK half of its trailer.
COVERED: dict[str, Callable[[int], Iterable[int]]] = {
    "JBD": lambda size: range(2, size - 1),
    "JK": lambda size: [*range(size - 4), size - 2, size - 1],
    "Modbus": range,
    "JBD UP16S": range,
    "NMEA": lambda size: range(size - 2),
}


@pytest.mark.parametrize(("data", "protocol"), [(row[1], row[3]) for row in WHOLE[:-1]], ids=[r[0] for r in WHOLE[:-1]])
def test_telegram_with_one_flipped_bit_is_not_put_into_words(data: bytes, protocol: str) -> None:
    for place in COVERED[protocol](len(data)):
        for bit in range(8):
            damaged = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            assert describe(damaged, is_from_node=True) is None, f"bit {bit} of byte {place}"


def test_what_nothing_recognises_is_damaged_where_the_line_speaks_a_protocol() -> None:
    request, answer = bytes.fromhex("dda50300fffd77"), jbd.frame(jbd.BASIC, jbd.STATUS_OK, bytes(20))
    entries = [Entry(0.0, "serial bay1", FROM_NODE, request), Entry(0.1, "serial bay1", TO_NODE, answer[:-1])] * 3
    protocol, described = describe_all(entries)
    assert protocol == "JBD"
    assert [words.text if words else "" for words in described[:2]] == ["read basic information", DAMAGED]


def test_line_of_an_unknown_protocol_has_no_words() -> None:
    entries = [Entry(float(n), "serial x", FROM_NODE, b"hello %d" % n) for n in range(5)]
    assert describe_all(entries) == ("", [None] * 5)


def _frame_of_module(rows: int) -> bytes:
    stream = next(stream for stream in catalogue.STREAMS if stream.name == "module")
    builder = FrameBuilder(stream, bay=2, owner="08APB0000001AB0000000001")
    for row in range(rows):
        builder.add(1000 + row, [signal.minimum for signal in stream.signals])
    return bytes(builder.seal(journal=7, seq=12, boot=3, time_quality=catalogue.TIME_GNSS, anchor_utc_ms=1790000000000))


def test_message_with_frames_is_decoded_to_rows() -> None:
    data = message.pack_up_head(7, []) + _frame_of_module(3)
    found = payload.describe("swapline/v1/bench/node-001/up", data)
    assert (found.channel, found.text) == ("up", "#12 module bay 2 x3")
    (frame,) = found.frames
    assert frame["owner"] == "08APB0000001AB0000000001"
    assert frame["quality"] == "gnss"
    assert [row[0] for row in frame["rows"]] == [1000, 1001, 1002]
    assert len(payload.columns(["module"])["module"]) == len(frame["rows"][0]) - 1


def test_acknowledgement_says_its_ranges() -> None:
    ack = message.pack_ack(7, 1790000000000, [(1, 4), (9, 9)])
    assert payload.describe("swapline/v1/bench/node-001/ack", ack).text == "stored: frames 1-4, 9"


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"SL", _frame_of_module(1)])
def test_message_that_cannot_be_read_says_why(data: bytes) -> None:
    assert payload.describe("swapline/v1/bench/node-001/up", data).text.startswith("cannot be read: ")


def test_message_on_a_foreign_topic_is_text() -> None:
    assert payload.describe("home/lamp", b"on") == ("other", "on", [])
    assert payload.describe("home/lamp", b"\xff\xfe\xfd").text == "3 bytes"


def test_alarm_of_the_gateway_is_a_sentence() -> None:
    module = catalogue.MODULE
    place = next(place for place, signal in enumerate(module.signals) if signal.name == "cell_voltage_max_v")
    codes = catalogue_text.VALUES["alarm", "code"]
    keys = {"code": next(code for code, text in codes.items() if text == "cell over-voltage")}
    values = {"level": 2, "stream": module.id, "signal": place, "position": 7, "value": 3662, "threshold": 3650}
    alarm = {"module": "JB1", "node": "node-001", "keys": keys, "values": values}
    found = payload.describe("swapline/v1/bench/node-001/alarm", json.dumps(alarm).encode())
    assert found.channel == "alarm"
    assert found.text.startswith("JB1: level 2 cell over-voltage (cell 7): cell_voltage_max_v 3.662 V, limit 3.65 V")
    for odd in (b"no JSON", b"[]", b'{"module": null, "node": "n"}'):
        assert payload.describe("swapline/v1/bench/node-001/alarm", odd).text == odd.decode()


def test_last_will_is_no_birth() -> None:
    assert payload.read_birth(b'{"online": false}') is None
    assert payload.read_birth(b"\xff") is None
    assert payload.read_birth(b'{"online": true, "firmware": "0.1.0"}') == {"online": True, "firmware": "0.1.0"}


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("0.953 warning bay1 seplos_v3@1 is silent", "warning"),
        ("12.000 info link connected", "info"),
        ('{"event": "x", "level": "error"}', "error"),
        ('{"event": "x", "level": "critical"}', "error"),
        ("{not JSON", "info"),
        ("Traceback (most recent call last):", "error"),
        ("", "info"),
    ],
)
def test_level_of_a_log_line(line: str, level: str) -> None:
    assert log_level(line) == level


def test_gateways_log_is_put_for_people() -> None:
    line = '{"part": "gateway", "event": "ready", "level": "info", "timestamp": "2026", "url": "x"}'
    assert log_text(line) == "info gateway ready  url=x"
    assert log_text("0.5 info node boot 1") == "0.5 info node boot 1"
    assert log_text('{"no": "event"}') == '{"no": "event"}'


def test_nothing_on_a_line_is_invisible() -> None:
    assert visible(b"$GPGLL*64\r\n") == "$GPGLL*64<CR><LF>"
    assert visible(b"\x01\x04\x00") == "01 04 00"
