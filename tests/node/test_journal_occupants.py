"""Who sat in which bay: what a boot knows of the ones before, whatever ended them."""

from pathlib import Path
from typing import Any

import pytest

from swapline_bench.journal_reader import read_journal
from swapline_node import journal_state
from swapline_node.journal import Journal
from swapline_wire.catalogue import TIME_GATEWAY, TIME_NONE
from tests.node.journal_rig import append, open_journal

CODE = "0SLPB0451800161360000042"
UTC = 1_800_000_000_000
RECORD_BYTES = 32


def known(journal: Journal, bay: int = 1) -> tuple[str, int, int, int, int]:
    """Return who sat in the bay, and boot, quality, anchor and uptime of the moment at which it was last known."""
    code, moment = journal.occupants[bay]
    assert moment is not None
    return code, moment.boot, moment.detail, moment.value, moment.first_seq | moment.last_seq << 32


@pytest.mark.parametrize("small_max", [0, 8])
@pytest.mark.parametrize("is_clean", [True, False])
def test_next_boot_knows_who_sat_there_and_until_when(tmp_path: Path, is_clean: bool, small_max: int) -> None:
    journal = open_journal(tmp_path, small_max=small_max)
    journal.occupy(1, CODE)
    journal.occupy(2, "SHORT")
    append(journal, time_ms=4000, rows=3)
    assert journal.acknowledge(1, 1) == 1
    if is_clean:
        journal.close()
    journal = open_journal(tmp_path, small_max=small_max)
    assert known(journal) == (CODE, 1, TIME_GATEWAY, UTC, 4002)
    assert known(journal, 2)[0] == "SHORT"
    assert journal.was_stopped_cleanly == is_clean


def test_boots_that_did_not_see_a_module_leave_its_moment_as_it_was(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    journal.occupy(2, "OTHER")
    append(journal, time_ms=4000)
    for boot in (2, 3, 4):
        journal = open_journal(tmp_path)
        journal.occupy(2, "OTHER")
        append(journal, time_ms=boot * 1000)
    journal = open_journal(tmp_path)
    assert known(journal) == (CODE, 1, TIME_GATEWAY, UTC, 4000)
    assert known(journal, 2) == ("OTHER", 4, TIME_GATEWAY, UTC, 4000)


def test_who_left_is_forgotten(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    journal.occupy(1, "")
    assert open_journal(tmp_path).occupants == {}


def test_moment_of_a_boot_without_time_is_dated_once_a_later_boot_has_one(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    append(journal, time_ms=60_000, quality=0)
    journal = open_journal(tmp_path)
    assert known(journal) == (CODE, 1, TIME_NONE, 0, 60_000)
    journal.decide_anchor(UTC, TIME_GATEWAY)
    assert journal.anchors[1][0] == UTC - 60_000
    assert journal.is_datable(1, TIME_NONE)


def test_folder_without_any_frame_dates_the_moment_by_the_boot_that_finds_it(tmp_path: Path) -> None:
    open_journal(tmp_path).occupy(1, CODE)
    assert known(open_journal(tmp_path)) == (CODE, 2, TIME_NONE, 0, 0)


def test_row_that_stands_before_its_boot_says_nothing_about_its_end(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    append(journal, time_ms=4000)
    append(journal, time_ms=-9000)
    assert known(open_journal(tmp_path))[4] == 4000


def test_torn_record_leaves_who_was_known_before(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    append(journal)
    journal.occupy(1, "NEW")
    state = tmp_path / "state"
    state.write_bytes(state.read_bytes()[:-5])
    assert known(open_journal(tmp_path))[0] == CODE


def test_state_file_stays_small_over_a_day_of_a_station(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.decide_anchor(UTC, TIME_GATEWAY)
    largest = 0
    for swap in range(300):
        journal.occupy(swap % 4 + 1, "")
        journal.occupy(swap % 4 + 1, f"{CODE[:-4]}{swap:04d}")
        largest = max(largest, (tmp_path / "state").stat().st_size)
    assert largest <= 80 * RECORD_BYTES
    append(journal)
    journal.close()
    again = open_journal(tmp_path)
    assert [known(again, bay)[0][-4:] for bay in (1, 2, 3, 4)] == ["0296", "0297", "0298", "0299"]
    assert again.anchors == {1: (UTC, TIME_GATEWAY)}
    assert read_journal(tmp_path).boot == 2


def test_full_disk_costs_no_more_than_the_memory_of_who_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path)
    journal.occupy(1, CODE)
    append(journal)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(journal_state, "open", full, raising=False)
        journal.occupy(1, "NEW")
    assert journal.occupants == {1: ("NEW", None)}
    assert known(open_journal(tmp_path))[0] == CODE


def test_journal_that_could_not_be_opened_remembers_nothing_and_ends_no_stop(tmp_path: Path) -> None:
    open_journal(tmp_path).close()
    unopened = Journal(str(tmp_path), limit_bytes=65536)
    unopened.occupy(1, CODE)
    assert open_journal(tmp_path).was_stopped_cleanly
