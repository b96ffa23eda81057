"""The journal on LittleFS, under MicroPython: power cuts at every flash operation, wear, and heap."""

from pathlib import Path

import pytest

from tests.node.node_rig import run_script
from tools import bench_wear

SLICES = 2
FIRST_CUTS_CUT_AGAIN = 5  # every fifth: its recovery is cut at each of its own operations
READS_MAX = 8000  # of up to 512 bytes: recovery reads a journal of 56 KiB a few times, no more
OPERATIONS_MAX = 16
BLANK = b"\xff" * (2 << 20)


@pytest.mark.parametrize("part", range(SLICES))
def test_power_cut_at_every_flash_operation_loses_nothing_durable(part: int) -> None:
    result = run_script("flash_cut.py", SLICES, part, FIRST_CUTS_CUT_AGAIN, heap="64M")
    assert result["wrong"] == []
    assert result["operations"] > 500
    assert result["boots"] > 2 * (result["operations"] // SLICES)
    assert result["drops"] > 5, "the workload must fill the journal"
    assert result["reads_max"] <= READS_MAX
    assert result["operations_max"] <= OPERATIONS_MAX


def test_van_wears_a_partition_of_two_mebibytes_for_ten_years() -> None:
    steps = bench_wear.DAYS["20 h driving, 4 h standing"]
    day = [(profile, intervals // 6, is_online) for profile, intervals, is_online in steps]
    result = bench_wear.measure(day)
    assert bench_wear.years(result["erases"] * 6) >= 10
    assert sum(step[-1] for step in result["steps"]) == 0, "no frame may be dropped"


def test_file_system_that_keeps_nothing_inline_gets_long_segments() -> None:
    steps = [("driving", 200, True), ("standing", 200, True)]
    driving, standing = bench_wear.measure(steps, bench_wear.ROOT_FILE_SYSTEM)["steps"]
    assert driving[3] < 1.6 * 200, "small files of a block each would cost four erases an interval"
    assert standing[3] < 0.6 * 200


def test_full_journal_and_many_boots_without_gateway_fit_into_a_small_heap(tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    flash.write_bytes(BLANK)
    filled = run_script("flash_heap.py", flash, "fill", 3200)
    assert filled["dropped"] > 0, "it must be full"
    booted = run_script("flash_heap.py", flash, "boot", 60, heap="256K")
    assert booted["boot"] == 61
    assert booted["heap_bytes"] <= 11 * 1024
    assert booted["next_seq"] == filled["next_seq"] + 120
    assert booted["waiting"] + booted["dropped"] == filled["waiting"] + 120, "what is gone was declared"
    assert booted["waiting"] > 0.9 * filled["waiting"]


def test_more_boots_without_gateway_than_the_heap_can_hold_give_up_the_oldest_frames(tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    flash.write_bytes(BLANK)
    filled = run_script("flash_heap.py", flash, "fill", 1)
    booted = run_script("flash_heap.py", flash, "boot", 200, heap="256K")
    assert booted["heap_bytes"] <= 14 * 1024
    assert booted["waiting"] + booted["dropped"] == filled["waiting"] + 400
    assert booted["waiting"] > 2 * 100


def test_root_file_system_is_mounted_anew_so_that_short_files_lie_inline() -> None:
    result = run_script("flash_mount.py", "root")
    assert (result["before"], result["after"]) == (False, True)
    assert result["root"] == ["config.json", "journal"]
    assert result["config"] == "{}"


def test_partition_of_the_journal_is_formatted_and_mounted() -> None:
    result = run_script("flash_mount.py", "partition")
    assert (result["before"], result["after"]) == (False, True)
    assert result["own"] > 0
    assert result["config"] == "{}"


def test_root_file_system_of_another_kind_is_left_as_it_is() -> None:
    result = run_script("flash_mount.py", "fat")
    assert result["config"] == "{}"
