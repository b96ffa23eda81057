"""How a desk ends: whatever goes wrong, and however it is killed, none of its processes and locks is left."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from swapline_bench.desk import bench_file
from swapline_bench.desk.bench_file import VIRTUAL, BenchFile, DeskError, load
from swapline_bench.desk.lock import LockError, Locks, locks_of
from swapline_bench.desk.resource_check import ResourceError
from swapline_bench.desk.strategy import Desk
from swapline_bench.services import free_port

GONE_S_MAX = 10.0
PROCESS_BENCH = """
[bench]
name = "process-desk"
[node]
board = "linux"
driver = "process"
"""


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def parse(text: str, folder: Path) -> BenchFile:
    return bench_file.parse(tomllib.loads(text), path=folder / "desk.toml", text=text)


def children() -> set[int]:
    """Return the processes that this one has started and that still are there."""
    return children_of(os.getpid())


def children_of(parent: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends has none
            found.update(int(number) for number in task.read_text().split())
    return found


def bench_without_broker() -> str:
    return f"{PROCESS_BENCH}[broker]\nkind = 'external'\nport = {free_port()}\n"


async def test_a_bench_whose_resources_are_missing_starts_nothing(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(ResourceError, match=r"Bench process-desk: The broker at 127\.0\.0\.1:\d+ does not answer"):
        async with Desk(parse(bench_without_broker(), tmp_path), tmp_path / "desk"):
            pass
    assert children() == before


STEPS = (
    "_servers._start_broker",
    "_servers._gateway_tables",
    "_firmware",
    "node.flash",
    "gateway.start",
    "Tap.run",
)


@pytest.mark.parametrize("step", STEPS)
async def test_a_desk_that_fails_half_way_leaves_nothing_behind(
    firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = children()
    desk = Desk(parse(PROCESS_BENCH, tmp_path), tmp_path / "desk", bundle=firmware)
    *path, name = step.split(".")
    owner = getattr(desk, path[0]) if path and path[0] != "Tap" else desk

    async def fail(*_: object) -> None:
        raise OSError("planted")

    def fail_at_once(*_: object) -> None:
        raise OSError("planted")

    if step == "Tap.run":
        monkeypatch.setattr("swapline_bench.desk.servers.Tap.run", fail)
    else:
        monkeypatch.setattr(owner, name, fail_at_once if name in ("_gateway_tables", "start") else fail)
    with pytest.raises((OSError, DeskError), match="planted"):
        await desk.__aenter__()
    assert children() == before
    with Locks(["Bench process-desk"]):
        pass  # nobody holds it


@pytest.mark.parametrize("after_ms", [5, 40, 120, 300, 500, 650])
async def test_a_desk_whose_start_is_cancelled_leaves_nothing_behind(
    firmware: Path, tmp_path: Path, after_ms: int
) -> None:
    before = children()
    desk = Desk(load(VIRTUAL), tmp_path / "desk", bundle=firmware)
    starting = asyncio.create_task(desk.__aenter__())
    await asyncio.wait([starting], timeout=after_ms / 1000)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
        await desk.__aexit__(None, None, None)  # it was quicker
    assert children() == before


async def test_one_at_a_time_uses_an_exclusive_bench(firmware: Path, tmp_path: Path) -> None:
    file = parse(PROCESS_BENCH, tmp_path)
    async with Desk(file, tmp_path / "first", bundle=firmware):
        with pytest.raises(LockError, match=rf"Bench process-desk is in use by process {os.getpid()} \("):
            async with Desk(file, tmp_path / "second", bundle=firmware):
                pass
    with locks_of(file) as locks:
        async with Desk(file, tmp_path / "third", bundle=firmware, locks=locks):
            pass
        with pytest.raises(LockError, match="Bench process-desk is in use"):
            locks_of(file).acquire()  # the desk has not let go of what it did not take


RUN_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from swapline_bench.desk.bench_file import VIRTUAL, load
from swapline_bench.desk.strategy import Desk

async def main():
    async with Desk(load(VIRTUAL), Path(sys.argv[1]), bundle=Path(sys.argv[2])) as desk:
        desk.make_van()
        await desk.boot()
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def running_desk(firmware: Path, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", RUN_UNTIL_KILLED, str(tmp_path / "desk"), str(firmware)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_desk_that_is_killed_takes_its_processes_along(
    running_desk: "subprocess.Popen[str]", how: signal.Signals
) -> None:
    started = children_of(running_desk.pid)
    names = sorted(command_of(pid) for pid in started)
    assert len([name for name in names if re.search("mosquitto|swapline|python", name)]) == 3, names
    running_desk.send_signal(how)
    running_desk.wait()
    deadline_s = time.monotonic() + GONE_S_MAX
    while left := {pid: command_of(pid) for pid in started if command_of(pid)}:
        assert time.monotonic() < deadline_s, left
        time.sleep(0.02)


def command_of(pid: int) -> str:
    """Return a process's command line; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""
