"""What `swapline tap` prints of frames (the command itself: test_cli.py)."""

import json
import os

import pytest

from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.command.tap import Printer
from swapline_gateway.ingest import Item, Sender, examine_message
from swapline_wire.catalogue import ALARM_STREAM, FORMATS, VEHICLE

ABNORMAL = FORMATS["u16"][3]


def item(source: FrameSource, frame: bytes) -> Item:
    return examine_message(Sender(source.fleet, source.node), source.message(frame)).items[0]


def vehicle(source: FrameSource, time_ms: int, **values: int) -> Item:
    return item(source, source.frame([(time_ms, row_of(VEHICLE, **values))], stream=VEHICLE, owner="", bay=0))


def printed(capsys: pytest.CaptureFixture[str], *items: Item, as_json: bool = False) -> list[str]:
    printer = Printer((), as_json, None)
    for each in items:
        printer.show(each)
    return capsys.readouterr().out.splitlines()


def test_people_see_of_each_source_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = FrameSource(anchor_utc_ms=1_800_000_000_000), FrameSource(node="van-002")
    lines = printed(
        capsys,
        vehicle(one, 1000, speed_kmh=1050, gear=3),
        vehicle(other, 1000, speed_kmh=1050, gear=3),
        vehicle(one, 2000, speed_kmh=1050, gear=1),
        vehicle(one, 3000, speed_kmh=1050, gear=1),
        vehicle(one, 4000, speed_kmh=ABNORMAL),
    )
    assert lines[0] == "08:00:01.000 test/van-001 vehicle"
    assert [line.strip() for line in lines[1::2]] == [
        "speed_kmh=10.5  gear=3",
        "speed_kmh=10.5  gear=3",
        "gear=1",
        "(unchanged)",
        "speed_kmh=abnormal  gear=none",
    ]


def test_people_see_of_an_alarm_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    source = FrameSource(anchor_utc_ms=1_800_000_000_000)
    row = row_of(ALARM_STREAM, code=14, level=2)
    lines = printed(capsys, item(source, source.frame([(1000, row)], stream=ALARM_STREAM, owner="M", bay=2)))
    assert lines == ["08:00:01.000 test/van-001 alarm bay 2 M code=14", "    level 2 module lost"]


def test_json_always_holds_the_whole_row(capsys: pytest.CaptureFixture[str]) -> None:
    source = FrameSource()
    lines = printed(capsys, *(vehicle(source, ms, speed_kmh=100, gear=3) for ms in (1, 2)), as_json=True)
    assert [json.loads(line)["values"] for line in lines] == [{"speed_kmh": 1.0, "gear": 3}] * 2


def test_lines_are_no_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    source = FrameSource()
    lines = printed(capsys, item(source, source.frame([(1, module_row())])))
    assert len(lines) > 5
    assert max(map(len, lines)) <= 80
    assert sum(line.count("=") for line in lines) == 27
