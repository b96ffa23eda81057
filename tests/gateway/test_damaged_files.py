"""Damaged files of the gateway: nobody has to come. What can be read goes on; what is gone is named frame by frame."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from swapline_bench.frame_source import FrameSource, row_of
from swapline_gateway import books
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import SinkRejectedError, StorageError
from swapline_gateway.ingest import Item, Sender, Spoiled, examine_message
from swapline_gateway.mended import ASIDE_MAX
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import Spool, SpooledFrame
from swapline_wire.catalogue import POSITION

PAGE_BYTES = 4096
BLOCK_BYTES = 256 << 10
HEADERS_BYTES = 3 * PAGE_BYTES
LIMIT_BYTES = 1 << 26
FRAMES = 60
WAITING = 5
DECLARED = "SELECT unnest(range(first_seq, last_seq + 1)) FROM missing WHERE reason <> 'not_arrived'"
# A gateway that stored all frames but the last few, and was killed: files as a power cut leaves them.
WRITER = """
import os, sys
from pathlib import Path
from tests.gateway.test_damaged_files import fill
held = fill(Path(sys.argv[1]))
os._exit(0)
"""


def items_of(source: FrameSource, *frames: bytes) -> list[Item]:
    sender = Sender(source.fleet, source.node)
    return [examine_message(sender, source.message(frame)).items[0] for frame in frames]


def make_frame(source: FrameSource, seq: int) -> bytes:
    if seq % 2:
        return source.frame(seq=seq)
    return source.frame([(seq * 1000, row_of(POSITION, latitude_deg=seq))], stream=POSITION, bay=0, owner="", seq=seq)


def open_sink(folder: Path) -> DuckdbSink:
    sink = DuckdbSink(
        DuckdbConfig(path=folder / "swapline.duckdb", thread_count=1), lambda: books.read(folder / "spool.sqlite")
    )
    sink.open()
    return sink


def pump(spool: Spool, sink: DuckdbSink, *, leave: int = 0) -> None:
    while spool.frame_count > leave:
        frames = spool.batch(frames_max=min(10, spool.frame_count - leave), bytes_max=1 << 30)
        sink.write([read_rows(frame) for frame in frames])
        spool.remove(frames)


def fill(folder: Path) -> tuple[Spool, DuckdbSink]:
    """Take frames of one node: 20 are in the database's file, 35 in its log, 5 wait in the spool."""
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    spool = Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)
    with closing(open_sink(folder)) as sink:
        spool.store(items_of(source, *(make_frame(source, seq) for seq in range(1, 21))), [], 0)
        pump(spool, sink)
    sink = open_sink(folder)
    spool.store(items_of(source, *(make_frame(source, seq) for seq in range(21, FRAMES + 1))), [], 0)
    spool.store([], [Spoiled(Sender("test", "van-002"), "truncated", "torn", b"x" * 50)], 0)
    pump(spool, sink, leave=WAITING)
    return spool, sink


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", WRITER, str(folder)], check=True, cwd=Path(__file__).parents[2])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(killed: dict[str, bytes], tmp_path: Path) -> Path:
    for name, data in killed.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def fetch(sink: DuckdbSink, sql: str) -> list[tuple[Any, ...]]:
    with sink.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def numbers(sink: DuckdbSink, sql: str) -> set[int]:
    return {number for (number,) in fetch(sink, sql)}


def open_and_balance(folder: Path) -> tuple[set[int], set[int]]:
    """Open the database and hold its books against what was taken; return what is stored and what is declared lost."""
    with closing(open_sink(folder)) as sink:
        frames = [seq for (seq,) in fetch(sink, "SELECT seq FROM frames")]
        stored, lost = set(frames), numbers(sink, DECLARED)
        rows = [seq for name in ("module", "position") for (seq,) in fetch(sink, f"SELECT seq FROM {name}")]  # noqa: S608
        without_rows = numbers(sink, "SELECT first_seq FROM loss WHERE frame_count = 0 AND row_count > 0")
        assert len(frames) == len(stored)
        assert sorted(rows) == sorted(stored - without_rows)
        assert stored | lost == settled(folder)
        assert not stored & lost
    return stored - without_rows, lost | without_rows


def damaged_at(path: Path, offset: int, *, data: bytes | None = None) -> None:
    """Overwrite a place, or turn one bit of it round."""
    found = bytearray(path.read_bytes())
    data = data if data is not None else bytes((found[offset] ^ 0x20,))
    found[offset : offset + len(data)] = data[: len(found) - offset]
    path.write_bytes(found)


def settled(folder: Path) -> set[int]:
    """Return the numbers that the database had taken when the gateway was killed."""
    return {seq for one in books.read(folder / "spool.sqlite").settled for seq in range(one.first, one.last + 1)}


def test_files_of_a_killed_gateway_are_sound(folder: Path) -> None:
    assert len(settled(folder)) == FRAMES - WAITING
    assert open_and_balance(folder) == (settled(folder), set())
    assert not list(folder.glob("*damaged*"))


@pytest.mark.parametrize("page", range(3))
@pytest.mark.parametrize("offset", [0, 2000])
def test_flipped_bit_in_a_header_of_the_database_costs_no_row(folder: Path, page: int, offset: int) -> None:
    damaged_at(folder / "swapline.duckdb", page * PAGE_BYTES + offset)
    stored, lost = open_and_balance(folder)
    assert (stored, lost) == (settled(folder), set())
    assert len(list(folder.glob("swapline.duckdb.damaged-*[0-9]"))) == 1


def test_database_without_the_word_that_says_what_it_is_costs_at_most_its_log(folder: Path) -> None:
    damaged_at(folder / "swapline.duckdb", 8)
    stored, _ = open_and_balance(folder)
    assert set(range(1, 21)) <= stored


@pytest.mark.parametrize("block", range(3))
def test_zeros_in_a_block_of_the_database_cost_what_the_block_held_and_that_is_declared(
    folder: Path, block: int
) -> None:
    damaged_at(folder / "swapline.duckdb", HEADERS_BYTES + block * BLOCK_BYTES + 3 * PAGE_BYTES, data=bytes(PAGE_BYTES))
    open_and_balance(folder)


@pytest.mark.parametrize("size", [0, 100, PAGE_BYTES, HEADERS_BYTES, HEADERS_BYTES + BLOCK_BYTES + 1])
def test_database_that_was_cut_off_is_begun_anew_with_what_is_left(folder: Path, size: int) -> None:
    path = folder / "swapline.duckdb"
    path.write_bytes(path.read_bytes()[:size])
    open_and_balance(folder)


def test_bits_flipped_all_over_the_log_cost_nothing_that_was_stored_before_them(folder: Path) -> None:
    log = folder / "swapline.duckdb.wal"
    damaged_at(log, len(log.read_bytes()) * 3 // 4)
    stored, lost = open_and_balance(folder)
    assert set(range(1, 21)) < stored
    assert lost


@pytest.mark.parametrize("size", [None, 0, 3000])
def test_log_that_is_gone_or_cut_off_is_noticed_and_what_it_held_declared(folder: Path, size: int | None) -> None:
    log = folder / "swapline.duckdb.wal"
    data = log.read_bytes()
    log.unlink() if size is None else log.write_bytes(data[:size])
    stored, lost = open_and_balance(folder)
    assert (len(stored), len(lost)) == (20, FRAMES - WAITING - 20)
    assert open_and_balance(folder) == (stored, lost)  # declared once


def test_database_goes_on_after_the_repair_and_a_frame_that_comes_again_is_no_longer_missing(folder: Path) -> None:
    (folder / "swapline.duckdb").write_bytes(b"not a database " * 1000)
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    spool = Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)
    with closing(spool), closing(open_sink(folder)) as sink:
        assert fetch(sink, "SELECT reason, sum(frame_count) FROM missing GROUP BY reason") == [("database_damaged", 55)]
        pump(spool, sink)
        with closing(sqlite3.connect(spool.path)) as connection, connection:
            connection.execute("DELETE FROM taken")  # so that repeats are taken again
        spool.store(items_of(source, *(make_frame(source, seq) for seq in range(1, 31))), [], 0)
        pump(spool, sink)
        missing = numbers(sink, "SELECT unnest(range(first_seq, last_seq + 1)) FROM missing")
        assert missing & set(range(1, 31)) == set()
        assert missing | numbers(sink, "SELECT seq FROM frames") == set(range(1, FRAMES + 1))


def test_damage_found_while_running_is_mended_before_the_next_frames_are_stored(folder: Path) -> None:
    sink = open_sink(folder)
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    with closing(sink):
        with sink.cursor() as cursor:
            cursor.execute("CHECKPOINT")
        damaged_at(folder / "swapline.duckdb", 2000)
        sink._note_damage(duckdb.IOException("Corrupt database file: computed checksum"))  # noqa: SLF001 (as a question would)
        (frame,) = items_of(source, source.frame(seq=100))
        with closing(Spool(folder / "other.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
            spool.store([frame], [], 0)
            pump(spool, sink)
        assert numbers(sink, "SELECT seq FROM frames") == settled(folder) | {100}
    assert len(list(folder.glob("swapline.duckdb.damaged-*[0-9]"))) == 1


def test_question_that_fails_in_a_sound_database_costs_no_copy_of_it(folder: Path) -> None:
    """DuckDB words its own faults like damage."""
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    with closing(open_sink(folder)) as sink:
        with pytest.raises(duckdb.InternalException), sink.cursor():
            raise duckdb.InternalException("INTERNAL Error: Attempted to access index 0 within vector of size 0")
        sink.write([read_rows(frame) for frame in frames_of(folder, source, 100)])
        assert numbers(sink, "SELECT seq FROM frames") == settled(folder) | {100}
    assert not list(folder.glob("*damaged*"))


def frames_of(folder: Path, source: FrameSource, seq: int) -> list[SpooledFrame]:
    with closing(Spool(folder / "other.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        spool.store(items_of(source, source.frame(seq=seq)), [], 0)
        return spool.batch(frames_max=1, bytes_max=1 << 20)


def test_batch_that_is_rejected_leaves_the_database_open_and_nothing_of_itself_in_it(folder: Path) -> None:
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    good, bad = (read_rows(frame) for seq in (100, 101) for frame in frames_of(folder, source, seq))
    bad = replace(bad, header=bad.header._replace(bay=256))
    with closing(open_sink(folder)) as sink:
        with pytest.raises(SinkRejectedError):
            sink.write([good, bad])
        with sink.cursor():
            assert sink.write([good]).frame_count == 1
        assert numbers(sink, "SELECT seq FROM frames") == settled(folder) | {100}


def test_kill_between_the_steps_of_a_repair_is_finished_by_the_next_start(folder: Path) -> None:
    path = folder / "swapline.duckdb"
    damaged_at(path, 2000)
    with closing(open_sink(folder)):
        pass
    repaired = path.read_bytes()
    (aside,) = folder.glob("swapline.duckdb.damaged-*[0-9]")
    aside.rename(path)
    (folder / "swapline.duckdb.mended").write_bytes(repaired)
    (folder / "swapline.duckdb.mending").write_bytes(b"half of a copy")
    assert open_and_balance(folder)[0] == settled(folder)
    assert path.read_bytes()[:8] == repaired[:8]


def test_database_that_is_locked_is_not_called_damaged(folder: Path) -> None:
    holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(folder / "swapline.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StorageError, match="open in another process"):
            open_sink(folder)
        assert process.stdin is not None
        process.stdin.close()
    assert open_and_balance(folder) == (settled(folder), set())


# The spool.


SPOOLED = 300
DAMAGES = (("flip", None), ("zero", bytes(PAGE_BYTES)), ("noise", bytes(range(256)) * 16))


@pytest.fixture(scope="module")
def spools(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """Return the files of a spool with frames that wait: as a kill leaves them, and as an orderly end does."""
    folder = tmp_path_factory.mktemp("spools")
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    names = ("spool.sqlite", "spool.sqlite-wal")
    with closing(Spool(folder / names[0], limit_bytes=LIMIT_BYTES)) as spool:
        for start in range(1, SPOOLED, 50):
            items = items_of(source, *(make_frame(source, seq) for seq in range(start, start + 50)))
            spool.store(items, [Spoiled(Sender("test", "van-002"), "truncated", "torn", b"%d" % start)], 0)
        spool.remove(spool.batch(frames_max=20, bytes_max=1 << 20))
        killed = {name: (folder / name).read_bytes() for name in names}
    return [killed, {names[0]: (folder / names[0]).read_bytes()}]


def waiting(spool: Spool) -> dict[int, bytes]:
    return {int.from_bytes(f.data[10:14], "little"): f.data for f in spool.batch(frames_max=1000, bytes_max=1 << 30)}


def spoil(folder: Path, files: dict[str, bytes], name: str, offset: int, data: bytes | None) -> Path:
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    damaged_at(folder / name, offset if data else min(offset + 40, len(files[name]) - 1), data=data)
    return folder / "spool.sqlite"


@pytest.mark.parametrize("end", ["killed", "ended in order"])
def test_spool_with_any_page_damaged_opens_gives_only_what_was_sealed_and_takes_more(
    spools: list[dict[str, bytes]], tmp_path: Path, end: str
) -> None:
    files = spools[end != "killed"]
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    sealed = {seq: make_frame(source, seq) for seq in range(1, SPOOLED + 1)}
    (item,) = items_of(source, make_frame(source, 1000))
    pages = [(name, offset) for name in files for offset in range(0, len(files[name]), PAGE_BYTES)]
    mended, salvaged = 0, 0
    for index, (name, offset) in enumerate(pages):
        for how, data in DAMAGES:
            path = spoil(tmp_path / f"{index}-{how}", files, name, offset, data)
            with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
                found = waiting(spool)
                assert found.items() <= sealed.items(), (name, offset, how)
                assert spool.store([item], [], 0).acknowledge, (name, offset, how)
                assert waiting(spool).keys() == {*found, 1000}, (name, offset, how)
            if list(path.parent.glob("spool.sqlite.damaged-*")):
                mended += 1
                salvaged += len(found)
    if end != "killed":
        assert mended >= len(pages)
        assert salvaged > mended * SPOOLED / 2


def test_spool_damaged_while_it_runs_is_mended_and_nothing_is_acknowledged_that_is_not_durable(
    spools: list[dict[str, bytes]], tmp_path: Path
) -> None:
    path = spoil(tmp_path / "spool", spools[1], "spool.sqlite", 0, spools[1]["spool.sqlite"][:PAGE_BYTES])
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    (item,) = items_of(source, make_frame(source, 1000))
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        spool._connection.execute("PRAGMA shrink_memory")  # noqa: SLF001 (pages that it remembers would not be read)
        for page in range(1, path.stat().st_size // PAGE_BYTES):
            damaged_at(path, page * PAGE_BYTES, data=bytes(range(256)) * 16)
        with pytest.raises(StorageError, match="malformed"):
            spool.store([item], [], 0)
        assert spool.store([item], [], 0).acknowledge
        assert 1000 in waiting(spool)
    (aside,) = (file for file in path.parent.glob("spool.sqlite.damaged-*") if file.name[-1].isdigit())
    assert aside.stat().st_size


def test_frames_that_went_with_a_damaged_spool_are_declared_at_the_next_start(folder: Path) -> None:
    spool = Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)
    with closing(spool):
        lost = set(waiting(spool))
        spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # noqa: SLF001
        (root,) = spool._connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'frame'").fetchone()  # noqa: SLF001
    damaged_at(folder / "spool.sqlite", (root - 1) * PAGE_BYTES, data=bytes(PAGE_BYTES))
    with closing(Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        assert not waiting(spool)
    with closing(open_sink(folder)) as sink:
        assert numbers(sink, DECLARED) == lost
        assert fetch(sink, "SELECT DISTINCT reason FROM missing") == [("spool_damaged",)]


def test_spool_whose_own_description_is_no_text_is_mended(spools: list[dict[str, bytes]], tmp_path: Path) -> None:
    """Python cannot show what SQLite says of it: that is another exception than all others."""
    for place in range(100, PAGE_BYTES, 64):
        path = spoil(tmp_path / str(place), spools[1], "spool.sqlite", place, b"\xff" * 64)
        with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
            assert len(waiting(spool)) == SPOOLED - 20, place


def place_of_name(content: bytes, place: int) -> int:
    """Return where the node's name is written, of the places one: in its table and in the table's index."""
    found = [at for at in range(len(content)) if content.startswith(b"van-001", at)]
    return found[place]


@pytest.mark.parametrize("place", range(2))
@pytest.mark.parametrize("letter", [b"\xff", b"7"])
def test_frames_of_a_node_whose_name_is_damaged_are_never_given_to_another(
    spools: list[dict[str, bytes]], tmp_path: Path, place: int, letter: bytes
) -> None:
    content = spools[1]["spool.sqlite"]
    path = spoil(tmp_path / "spool", spools[1], "spool.sqlite", place_of_name(content, place) + 6, letter)
    with closing(Spool(path, limit_bytes=LIMIT_BYTES)) as spool:
        assert {frame.node for frame in spool.batch(frames_max=1000, bytes_max=1 << 30)} <= {"van-001"}
        books.read(path)
    assert list(path.parent.glob("spool.sqlite.damaged-*"))


def test_node_whose_name_is_damaged_while_the_gateway_runs_does_not_stop_the_others(tmp_path: Path) -> None:
    sources = [FrameSource(node=name, journal=77) for name in ("van-001", "van-002")]
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        for source in sources:
            spool.store(items_of(source, make_frame(source, 1)), [], 0)
        spool._connection.execute("UPDATE node SET node = CAST(x'76FF' AS TEXT) WHERE node = 'van-001'")  # noqa: SLF001
        with pytest.raises(StorageError, match="UTF-8"):
            spool.batch(frames_max=10, bytes_max=1 << 20)
        assert [frame.node for frame in spool.batch(frames_max=10, bytes_max=1 << 20)] == ["van-002"]


def test_damaged_line_about_a_frame_moves_none_of_its_rows(tmp_path: Path) -> None:
    """The frame itself is under its CRC; the columns beside it are under nothing."""
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    (item,) = items_of(source, make_frame(source, 1))
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        spool.store([item], [], 0)
        spool._connection.execute("UPDATE frame SET anchor_utc_ms = 5, time_quality = 1 << 40")  # noqa: SLF001
        (frame,) = spool.batch(frames_max=10, bytes_max=1 << 20)
    rows = read_rows(frame)
    assert (rows.frame.anchor_utc_ms, rows.frame.time_quality) == (item.anchor_utc_ms, item.time_quality)


def test_spool_without_its_shared_memory_file_loses_nothing(spools: list[dict[str, bytes]], tmp_path: Path) -> None:
    for name, content in spools[0].items():  # its -shm is not there
        (tmp_path / name).write_bytes(content)
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        assert len(waiting(spool)) == SPOOLED - 20


def test_only_the_newest_files_put_aside_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    for _ in range(ASIDE_MAX + 3):
        path.write_bytes(b"no database" * 1000)
        path.with_name("spool.sqlite-wal").write_bytes(b"no log")
        Spool(path, limit_bytes=1 << 20).close()
    names = sorted(file.name for file in tmp_path.glob("spool.sqlite.damaged-*"))
    assert len([name for name in names if name[-1].isdigit()]) == ASIDE_MAX
    assert len([name for name in names if name.endswith("-wal")]) <= ASIDE_MAX
    assert path.is_file()
