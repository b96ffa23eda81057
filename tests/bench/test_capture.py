from pathlib import Path

import pytest

from swapline_bench.capture import Capture, CaptureError, read_capture_file
from swapline_bench.replay import Exchange

ASKED, SAID = bytes.fromhex("010400000001"), bytes.fromhex("0104020abc")


def read(tmp_path: Path, text: str) -> Capture:
    path = tmp_path / "capture.txt"
    path.write_text(text, encoding="utf-8")
    return read_capture_file(path)


@pytest.mark.parametrize(
    "text",
    [
        ">>> 01:04:00:00:00:01\n<<< 01:04:02:0A:BC\n",
        ">>> 01.04.00.00.00.01 <<< 01.04.02.0A.BC",
        "# a remark\n\n>>> 01 04 00 00 00 01   # what is the voltage?\n<<< 01 04 02 0a bc (5)\n",
        ">>> 0x01 0x04 0x00 0x00 0x00 0x01\n<<< 0x01 0x04 0x02 0x0A 0xBC\n",
        ">>> 010400000001\n<<< 0104020abc\n",
        "[D][uart_debug:113]: >>> 01:04:00:00:00:01\n[D][uart_debug:113]: <<< 01:04:02:0A:BC\n",
        '{"transactions": [{"request": "010400000001", "response": "0104020abc"}]}',
    ],
)
def test_captures_are_read_however_people_write_bytes(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Capture([Exchange(ASKED, SAID)], [])


def test_question_without_an_answer_met_silence(tmp_path: Path) -> None:
    capture = read(tmp_path, ">>> 010400000001\n>>> 010400000001\n<<< 0104020abc\n>>> 010400000001\n")
    assert [exchange.response for exchange in capture.exchanges] == [None, SAID, None]


def test_times_give_the_delay_of_an_answer_past_midnight_too(tmp_path: Path) -> None:
    lines = "[23:59:59.900]: >>> 010400000001\n[00:00:00.050]: <<< 0104020abc\n"
    (exchange,) = read(tmp_path, lines).exchanges
    assert exchange.latency_s == pytest.approx(0.15)


def test_what_is_no_hex_is_named_and_left_out(tmp_path: Path) -> None:
    capture = read(tmp_path, ">>> 010400000001\n<<< 01.04.XX\n>>> 010400000001\n<<< 0104020abc\n<<< 0104020abc\n")
    assert capture.exchanges == [Exchange(ASKED, SAID)]
    assert capture.skipped == ["line 2: 01.04.XX... is not hex", "line 5: an answer without a question"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no question `>>> hex`"),
        ("0x01 0x04\n", "has no question `>>> hex`"),
        (">>> XX\n", "is not hex"),
        ("{}", "transactions"),
        ('{"transactions": [{"request": 5}]}', "is not a transcript"),
        ("{", "is no JSON"),
    ],
)
def test_file_that_is_no_capture_is_told_so(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        read(tmp_path, text)


def test_missing_and_binary_files_are_told_so(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        read_capture_file(tmp_path / "nowhere.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaptureError, match="is not text"):
        read_capture_file(tmp_path / "binary")
