"""Small segments, which the journal keeps on LittleFS, and how segments go on over boots."""

from pathlib import Path

import pytest

from swapline_node.journal import Journal
from swapline_wire.catalogue import ALARM, EVENT, LOSS_JOURNAL_DAMAGED, NODE, ROUTINE
from tests.node.journal_rig import append, frame, open_journal, waiting

SMALL_MAX = 8
LIMIT = 1 << 20


def small_journal(folder: Path, limit_bytes: int = LIMIT) -> Journal:
    return open_journal(folder, limit_bytes, SMALL_MAX)


def segments(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.seg"))}


def lost(journal: Journal) -> set[int]:
    return {seq for drop in journal.undeclared_drops() for seq in range(drop.first_seq, drop.last_seq + 1)}


def test_frames_that_are_acknowledged_soon_lie_in_small_segments_and_leave_one_file(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    for i in range(40):
        seq = append(journal, ALARM if i % 9 == 0 else ROUTINE, rows=3)
        assert all(size <= 512 for size in segments(tmp_path).values())
        assert journal.acknowledge(seq, seq) == 1
        assert len(segments(tmp_path)) == 1


def test_frames_of_one_commit_share_a_small_segment(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    for _ in range(3):
        assert journal.append(frame(journal, NODE, quality=2), journal.next_seq, ROUTINE) == 0
    journal.commit()
    append(journal)
    assert list(segments(tmp_path)) == ["r00000001.seg", "r00000004.seg"]


def test_frames_that_wait_go_to_one_long_segment_until_the_gateway_has_caught_up(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    for _ in range(60):
        append(journal, rows=3)
    assert len(segments(tmp_path)) == SMALL_MAX
    assert max(segments(tmp_path).values()) > 10000
    assert waiting(journal) == list(range(1, 61))
    journal.acknowledge(1, 60)
    seq = append(journal, rows=3)
    assert list(segments(tmp_path)) == [f"r{seq:08x}.seg"]


def test_links_that_come_and_go_do_not_multiply_segments_while_a_backlog_waits(tmp_path: Path) -> None:
    journal = small_journal(tmp_path)
    for _ in range(60):
        append(journal, rows=3)
    for _ in range(300):
        seq = append(journal, rows=3)
        journal.acknowledge(seq, seq)
    assert len(segments(tmp_path)) < 12
    assert waiting(journal) == list(range(1, 61))


def test_boots_without_gateway_go_on_in_the_same_segments(tmp_path: Path) -> None:
    for _ in range(50):
        journal = small_journal(tmp_path)
        append(journal, EVENT)
        append(journal, ROUTINE)
    assert len(segments(tmp_path)) <= SMALL_MAX + 2
    assert waiting(journal) == list(range(1, 101))
    assert lost(journal) == set()


def test_segment_with_a_torn_end_is_not_appended_to(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    append(journal)
    append(journal)
    (segment,) = tmp_path.glob("r*.seg")
    torn = segment.read_bytes()[:-3]
    segment.write_bytes(torn)
    again = open_journal(tmp_path)
    after = append(again)
    assert segment.read_bytes() == torn
    assert waiting(again) == [1, after]


@pytest.mark.parametrize("small_max", [0, SMALL_MAX])
def test_numbers_go_on_without_the_state_file_although_everything_was_acknowledged(
    tmp_path: Path, small_max: int
) -> None:
    journal = open_journal(tmp_path, LIMIT, small_max)
    for _ in range(30):
        seq = append(journal, rows=6)
        journal.acknowledge(1, seq)
    (tmp_path / "state").unlink()
    again = open_journal(tmp_path, LIMIT, small_max)
    assert (again.id, again.next_seq) == (journal.id, seq + 1)


def test_numbers_that_unreadable_flash_may_have_held_are_declared_and_never_come_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(10):
        append(journal)
    (segment,) = tmp_path.glob("r*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))  # the frames 6 to 10 may be with the gateway
    again = open_journal(tmp_path)
    assert again.next_seq > 10
    (drop,) = again.undeclared_drops()
    assert (drop.detail, drop.first_seq, drop.last_seq) == (LOSS_JOURNAL_DAMAGED, 6, again.next_seq - 1)
    again.drop_declared(drop)
    seq = append(again)
    once_more = open_journal(tmp_path)
    assert once_more.undeclared_drops() == []
    assert once_more.next_seq == seq + 1


def test_full_journal_drops_routine_before_events_before_alarms_and_the_oldest_first(tmp_path: Path) -> None:
    journal = small_journal(tmp_path, 65536)
    gone: set[int] = set()
    declared: set[int] = set()
    family_of: dict[int, int] = {}
    order: list[int] = []
    for priority in [ROUTINE, EVENT, ALARM] * 40 + [ALARM] * 700:
        family_of[append(journal, priority, rows=3)] = priority
        ranges = lost(journal)
        if ranges:
            declared |= ranges
            now = set(family_of) - gone - set(waiting(journal))
            order.extend(sorted(family_of[seq] for seq in now))
            gone |= now
            for family in (ROUTINE, EVENT, ALARM):
                here = [seq for seq in family_of if family_of[seq] == family and seq not in gone]
                assert not here or all(seq < here[0] for seq in gone if family_of[seq] == family), "the oldest go first"
    assert order == sorted(order), "a class goes only when nothing of a lower one is left"
    assert set(order) == {ROUTINE, EVENT, ALARM}
    assert gone <= declared


def test_ranges_of_a_drop_are_few_and_never_lack_what_is_lost(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    alarms = []
    while not (drops := journal.undeclared_drops()):
        append(journal, ROUTINE)
        if not journal.next_seq % 3:
            alarms.append(append(journal, ALARM))
    declared = {seq for drop in drops for seq in range(drop.first_seq, drop.last_seq + 1)}
    here = set(waiting(journal))
    assert len(drops) <= 16
    assert set(range(1, journal.next_seq)) - here <= declared
    assert sum(drop.value for drop in drops) == journal.next_seq - 1 - len(here), "the counts are exact"
    assert set(alarms) <= here
