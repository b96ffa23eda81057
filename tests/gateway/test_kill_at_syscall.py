"""kill -9 between any two system calls that change a file: of the spool, of the database, and of a repair.

A child does a small run with real files: it takes frames in groups and says so, hands them to the database, ends in
order. It is forked from this process for each case (importing takes longer than the run). strace kills it when it
begins its n-th call that writes, syncs, cuts, renames or removes; then this process does what the next start does. The
calls of an undisturbed run are counted first, and every place is tried; making new files and mending, at a sample.
"""

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from swapline_bench.frame_source import FrameSource
from swapline_gateway import books
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.ingest import Item, Sender, examine_message
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from swapline_gateway.spool import Spool

CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink"
GROUPS = ((1, 2, 3), (3, 4, 5, 6), (7, 8))
FRAMES = set(range(1, 9))
LIMIT_BYTES = 1 << 24
PARTS = 3  # of the whole enumeration: a test each, as a busy machine takes a minute and a half for all
Say = Callable[[int], object]
Run = Callable[[Path, Say], None]
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def items(*seqs: int) -> list[Item]:
    source = FrameSource(journal=77, anchor_utc_ms=1_790_000_000_000)
    return [
        examine_message(Sender(source.fleet, source.node), source.message(source.frame(seq=seq))).items[0]
        for seq in seqs
    ]


def open_both(folder: Path) -> tuple[Spool, DuckdbSink]:
    spool = Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)
    config = DuckdbConfig(path=folder / "swapline.duckdb", thread_count=1)
    sink = DuckdbSink(config, lambda: books.read(spool.path))
    sink.open()
    return spool, sink


def pump(spool: Spool, sink: DuckdbSink) -> None:
    while frames := spool.batch(frames_max=3, bytes_max=1 << 20):
        sink.write([read_rows(frame) for frame in frames])
        spool.remove(frames)


def take(spool: Spool, say: Say, *seqs: int) -> None:
    for numbers in spool.store(items(*seqs), [], 0).acknowledge.values():
        for seq in sorted(numbers):
            say(seq)


def small_run(folder: Path, say: Say) -> None:
    """Take all groups; the last one waits over a restart."""
    spool, sink = open_both(folder)
    take(spool, say, *GROUPS[0])
    pump(spool, sink)
    take(spool, say, *GROUPS[1])
    pump(spool, sink)
    take(spool, say, *GROUPS[2])
    sink.close()
    spool.close()
    spool, sink = open_both(folder)
    pump(spool, sink)
    sink.close()
    spool.close()


class Killed:
    """A forked child under strace."""

    def __init__(self, folder: Path, run: Run, place: tuple[str, int] | None) -> None:
        self.said: set[int] = set()
        heard, saying = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(heard)
            _be_the_child(folder, run, saying)
        os.close(saying)
        os.waitpid(child, os.WUNTRACED)  # it stopped itself
        log = folder / "strace"
        inject = [] if place is None else ["-e", f"inject={place[0]}:signal=KILL:when={place[1]}"]
        command = ["strace", "-f", "-p", str(child), "-o", str(log), "-e", f"trace={CALLS}", *inject]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            os.kill(child, signal.SIGCONT)
            with os.fdopen(heard, "rb") as pipe:
                self.said = set(pipe.read())
            _, status = os.waitpid(child, 0)
        self.is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert self.is_killed or os.waitstatus_to_exitcode(status) == 0
        self.calls = Counter(re.findall(rf"^{child} +(\w+)\(", log.read_text(), re.MULTILINE))


def _be_the_child(folder: Path, run: Run, saying: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        run(folder, lambda seq: os.write(saying, bytes((seq,))))
        os._exit(0)
    except BaseException:  # noqa: BLE001 (whatever it was, this process must not go on as a copy of pytest)
        os._exit(70)


def stored(sink: DuckdbSink, table: str) -> Counter[int]:
    with sink.cursor() as cursor:
        return Counter(seq for (seq,) in cursor.execute(f"SELECT seq FROM {table}").fetchall())  # noqa: S608


def go_on_after(folder: Path, acknowledged: set[int]) -> None:
    """Start again, send what was not acknowledged, and see everything in the database once."""
    spool, sink = open_both(folder)
    with closing(sink), closing(spool):
        pump(spool, sink)
        assert acknowledged <= set(stored(sink, "frames"))
        take(spool, lambda _seq: None, *(FRAMES - acknowledged))
        pump(spool, sink)
        once = Counter(FRAMES)
        assert (stored(sink, "frames"), stored(sink, "module")) == (once, once)
        with sink.cursor() as cursor:
            assert cursor.execute("FROM missing").fetchall() == []
            assert cursor.execute("FROM loss").fetchall() == []


def kill_at_each_place(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    run: Run,
    *,
    cases_max: int | None = None,
    part: int = 0,
) -> list[int]:
    """Return how many frames were acknowledged in each case; without `cases_max`, of one of `PARTS` of all cases."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    prepare(folder)
    whole = Killed(folder, run, None)
    go_on_after(folder, whole.said)
    places = [(call, nth) for call, count in whole.calls.items() for nth in range(1, count + 1)]
    said = []
    for call, nth in places[part :: PARTS if cases_max is None else -(-len(places) // cases_max)]:
        folder = tmp_path / f"{call}-{nth}"
        folder.mkdir()
        prepare(folder)
        killed = Killed(folder, run, (call, nth))
        assert killed.is_killed or nth > 0.8 * whole.calls[call]  # runs differ by a few calls
        go_on_after(folder, killed.said)
        said.append(len(killed.said))
        shutil.rmtree(folder)
    return said


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_any_call_of_a_run_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, part: int
) -> None:
    made = tmp_path_factory.mktemp("made")
    for file in open_both(made):
        file.close()

    def prepare(folder: Path) -> None:
        shutil.copytree(made, folder, dirs_exist_ok=True)

    said = kill_at_each_place(tmp_path, prepare, small_run, part=part)
    assert len(said) > 100 / PARTS
    assert {0, 3, 6, 8} <= set(said)


def test_kill_while_the_files_are_made_is_put_right_by_the_next_start(tmp_path: Path) -> None:
    said = kill_at_each_place(tmp_path, lambda _folder: None, small_run, cases_max=20)
    assert 0 in said


def test_kill_while_a_damaged_spool_is_mended_loses_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("made")
    spool, sink = open_both(made)
    spool.store(items(*GROUPS[0]), [], 0)
    pump(spool, sink)
    spool.store(items(*GROUPS[1]), [], 0)
    name = "SELECT rootpage FROM sqlite_master WHERE name = 'quarantine'"
    (root,) = spool._connection.execute(name).fetchone()  # noqa: SLF001
    sink.close()
    spool.close()
    damaged = bytearray(spool.path.read_bytes())
    damaged[(root - 1) * 4096 : root * 4096] = bytes(4096)
    spool.path.write_bytes(damaged)

    def prepare(folder: Path) -> None:
        shutil.copytree(made, folder, dirs_exist_ok=True)

    def run(folder: Path, say: Say) -> None:
        with closing(Spool(folder / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
            take(spool, say, *FRAMES)

    said = kill_at_each_place(tmp_path, prepare, run, cases_max=30)
    assert len(said) > 15
    assert 0 in said
