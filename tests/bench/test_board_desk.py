"""The whole desk around a board: console, relay, adapters and UARTs of a played ESP32, everything else the real one."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from swapline_bench import bundle
from swapline_bench.desk.bench_file import BENCHES, load
from swapline_bench.desk.driver import features_of
from swapline_bench.desk.played_desk import PlayedDesk
from swapline_bench.desk.raw_repl_player import POWER_ON, RawReplPlayer
from swapline_bench.desk.strategy import Desk

REAL = ("esp32-desk", "pico-w-desk", "raspberry-pi")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")


@pytest.mark.parametrize("name", REAL)
def test_bench_file_of_a_real_desk_can_be_read(name: str) -> None:
    file = load(BENCHES / f"{name}.toml")
    assert file.bench.name == name
    assert file.bench.exclusive
    assert "simulators" in features_of(file)
    assert all(not line.is_pty for line in file.lines)


async def test_desk_around_a_board_stores_what_its_devices_say_through_a_power_cut(
    tmp_path: Path, firmware: Path
) -> None:
    async with PlayedDesk(tmp_path) as played, Desk(played.file, tmp_path / "desk", bundle=firmware) as desk:
        assert desk.features >= {"power", "snippet", "simulators", "network", "watchdog"}
        desk.make_van(bays=1, vcu=False)
        await desk.boot()
        births = [desk.tap[desk.name].status["board"]]
        await desk.tap.wait_rows(desk.name, "module", 3)
        await desk.tap.wait_rows(desk.name, "position", 3)
        await desk.cut_power()
        await _until_off(played.board)
        await desk.boot_again()
        births.append(desk.tap[desk.name].status["board"])
        await desk.tap.wait_rows(desk.name, "module", 8)
        verdict = await desk.judge()
        assert verdict.is_good, str(verdict)
        assert births == ["esp32", "esp32"]
        assert played.board.resets == [POWER_ON] * 3, "for the flash, at boot, and after the cut"


def test_promises_are_run_on_a_board_that_another_program_plays(tmp_path: Path) -> None:
    """What a newcomer without hardware does: `played_desk`, and `swapline hil run` on its bench file."""
    command = [sys.executable, "-m", "swapline_bench.desk.played_desk", str(tmp_path / "desk")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as played:
        try:
            assert played.stdout is not None
            bench = played.stdout.readline().strip()
            done = subprocess.run(
                [
                    *(str(Path(sys.executable).with_name("swapline")), "hil", "run", "--bench", bench, "--json"),
                    *("--report", str(tmp_path / "report"), "-k", "boots_and_reports and jbd"),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            played.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["bench"], summary["passed"], summary["failed"]) == ("played-desk", 1, 0)
    births = json.loads((tmp_path / "report" / "report.json").read_text())["births"]
    assert [birth["board"] for birth in births] == ["esp32"]
    assert played.returncode == 0


async def _until_off(board: RawReplPlayer) -> None:
    async with asyncio.timeout(5.0):
        while board.is_on:  # noqa: ASYNC110 - its relay switches
            await asyncio.sleep(0.01)
