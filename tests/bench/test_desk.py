"""The desk: its states, what it leaves behind, and benches that are not the virtual one."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from swapline_bench import bundle, services
from swapline_bench.desk import bench_file
from swapline_bench.desk.bench_file import VIRTUAL, BenchFile, DeskError, load
from swapline_bench.desk.lock import LockError, Locks
from swapline_bench.desk.node import NodeError
from swapline_bench.desk.node_process_driver import VirtualNode
from swapline_bench.desk.pty_cable import PtyCable
from swapline_bench.desk.resource_check import ResourceError
from swapline_bench.desk.strategy import BROKEN, OFF, RUNNING, Desk
from swapline_bench.fault.model import Faults
from swapline_bench.link_proxy import Impairment
from swapline_bench.services import free_port

GONE_S_MAX = 10.0
PROCESS_BENCH = """
[bench]
name = "process-desk"
[node]
board = "linux"
driver = "process"
"""


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], Path]) -> Path:
    require("mosquitto")
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def desk(firmware: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    async with Desk(load(VIRTUAL), tmp_path / "desk", bundle=firmware) as desk:
        yield desk


def parse(text: str, folder: Path) -> BenchFile:
    return bench_file.parse(tomllib.loads(text), path=folder / "desk.toml", text=text)


def children() -> set[int]:
    """Return the processes that this one has started and that still are there."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(number) for task in tasks for number in task.read_text().split()}


# ---- states


async def test_a_desk_goes_from_off_to_running_and_back_and_remembers_everything(desk: Desk) -> None:
    desk.make_van(bays=2, bms="jbd")
    assert set(desk.lines) == {"bay1", "bay2", "vcu", "gnss"}
    assert (desk.state, desk.node.is_running) == (OFF, False)
    assert await desk.boot(seal_interval_ms=500) > 0
    assert (desk.state, desk.node.is_running) == (RUNNING, True)
    await desk.tap.wait_rows(desk.name, "module", 4)
    await desk.cut_power()
    assert desk.state == OFF
    await desk.boot_again()
    await desk.tap.wait_rows(desk.name, "module", 8)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_true >= 8
    assert {row["bay"] for row in desk.database.rows("module", desk.name)} == {1, 2}
    powers = [entry.content for entry in desk.timeline.entries if entry.track == "power"]
    assert powers == ["on", "cut", "on", "off"]
    tracks = {entry.track for entry in desk.timeline.entries}
    assert tracks >= {"serial bay1", "serial bay2", "serial vcu", "serial gnss", "messages", "log node", "marks"}


async def test_a_station_is_judged_as_a_van_is(desk: Desk) -> None:
    desk.make_station(slots=2)
    await desk.boot()
    for stream in ("slot", "meter", "module"):
        await desk.tap.wait_rows(desk.name, stream, 2)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_node_that_has_no_power_at_the_end_gets_it_back_to_tell_what_it_holds(desk: Desk) -> None:
    desk.make_van(bays=1)
    await desk.boot(seal_interval_ms=500)
    await desk.tap.wait_rows(desk.name, "module", 1)
    desk.impair(Impairment(is_refusing=True))
    heard = desk.tap[desk.name].row_count("module")
    await desk.wait_for_statements(10)
    assert desk.tap[desk.name].row_count("module") == heard
    await desk.cut_power()
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples
    assert verdict.rows_stored > heard + 4


async def test_a_transition_that_fails_breaks_the_desk_for_good_and_says_what_was_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.make_van()
    monkeypatch.setattr("swapline_bench.desk.strategy.BIRTH_S_MAX", 2.0)
    with pytest.raises(DeskError, match=r"node-001 ended before its birth message|no birth of node-001") as caught:
        await desk.boot(snippet="print('snippet was here')\nimport sys\nsys.exit(3)\n")
    assert desk.state == BROKEN
    assert "snippet was here" in str(caught.value)
    assert str(desk.folder) in str(caught.value)
    assert any("--- gateway" in note for note in caught.value.__notes__)
    assert "snippet was here" in (desk.folder / "node.log").read_text()
    with pytest.raises(DeskError, match=r"The desk is broken since: .*birth"):
        await desk.boot()
    assert "state: broken" in desk.describe()


async def test_a_desk_has_no_line_for_a_bay_too_many(desk: Desk) -> None:
    with pytest.raises(DeskError, match=r"Bench virtual has no line for bay6: add a \[\[lines\]\] with its device to "):
        desk.make_van(bays=6)


async def test_faults_on_a_line_and_in_the_link_are_told_to_the_timeline(desk: Desk) -> None:
    desk.make_van(bays=1, vcu=False, gnss=False)
    await desk.boot()
    model = desk.disturb("bay1", Faults(bit_errors=0.01))
    assert desk.disturb("bay1", Faults(bit_errors=0.02)) is model
    await desk.tap.wait(lambda: model.total > 3, "bit errors")
    desk.impair(Impairment(delay_s=0.05))
    faults = [str(entry.content) for entry in desk.timeline.entries if entry.track == "faults"]
    assert faults[0] == "bay1: bit-errors=0.01"
    assert faults[-1].startswith("link: Impairment(delay_s=0.05")
    assert len([fault for fault in faults if fault.startswith("bay1: ")]) > 3


# ---- the node's verbs


async def test_a_virtual_node_runs_code_browns_out_and_resets(desk: Desk) -> None:
    assert isinstance(desk.node, VirtualNode)
    assert await desk.node.run("print(6 * 7)") == "42\n"
    with pytest.raises(NodeError, match="ZeroDivisionError"):
        await desk.node.run("1 / 0")
    desk.make_van()
    await desk.boot()
    with pytest.raises(NodeError, match="runs"):
        await desk.node.run("print(1)")
    born = desk.tap[desk.name].status
    await desk.node.reset()
    await desk.wait_for_birth(born)
    await desk.node.brown_out(50)
    assert not desk.node.is_running
    await desk.boot_again()
    assert desk.node.board.reset_causes == [1, 2, 6]


async def test_a_process_in_a_folder_has_the_verbs_that_it_can_have(firmware: Path, tmp_path: Path) -> None:
    text = PROCESS_BENCH + '[[lines]]\nname = "bay1"\ndevices = [{ simulator = "bms", bay = 1 }]\n'
    async with Desk(parse(text, tmp_path), tmp_path / "desk", bundle=firmware, name="pi-1") as desk:
        assert "brown_out" not in desk.features
        assert await desk.node.run("import swapline_node\nprint('here')") == "here"
        with pytest.raises(NodeError, match=r"the code ended with 1:(.|\n)*ValueError: no"):
            await desk.node.run("raise ValueError('no')")
        with pytest.raises(NodeError, match="has no power-good input"):
            await desk.node.brown_out(10)
        desk.make_van()  # no line for a controller or a receiver: they are left out
        await desk.boot(snippet="print('before main')")
        await desk.node.wait_for_line("before main")
        born = desk.tap[desk.name].status
        await desk.node.reset()
        await desk.wait_for_birth(born)
        await desk.tap.wait_rows("pi-1", "module", 2)
        verdict = await desk.judge()
        assert verdict.is_good, verdict.examples
        assert len(desk.power_cuts) == 1


# ---- other benches


async def test_real_ports_at_both_ends_of_a_line_carry_rows(firmware: Path, tmp_path: Path) -> None:
    async with PtyCable() as cable:
        text = f"""{PROCESS_BENCH}
[[lines]]
name = "rs485"
adapter = "{cable.left}"
node_port = "{cable.right}"
devices = [{{ simulator = "bms", bay = 1 }}]
[network]
control = "none"
"""
        async with Desk(parse(text, tmp_path), tmp_path / "desk", bundle=firmware) as desk:
            assert desk.network is None
            assert not desk.features & {"unplug", "fast_lines", "network"}
            with pytest.raises(LockError, match=rf"Port {cable.left} is in use by process {os.getpid()} "):
                Locks([f"Port {cable.left}"]).acquire()
            with pytest.raises(DeskError, match="has no proxy in the node's link"):
                desk.impair(Impairment(is_silent=True))
            desk.make_van()
            assert desk.lines["bay1"].path == cable.left
            await desk.boot()
            await desk.tap.wait_rows(desk.name, "module", 3)
            verdict = await desk.judge()
            assert verdict.is_good, verdict.examples


async def test_a_broker_that_runs_already_and_one_at_another_address_are_used(firmware: Path, tmp_path: Path) -> None:
    """127.0.0.2 is an address of this computer that nothing listens on by itself: as one of its network's."""
    bay = '[[lines]]\nname = "bay1"\ndevices = [{ simulator = "bms", bay = 1 }]\n'
    with services.mosquitto() as running:
        brokers = (
            f"[broker]\nkind = 'external'\nport = {running.port}\n",
            "[broker]\nhost = '127.0.0.2'\n[network]\ncontrol = 'none'\n",
            "[broker]\nhost = '127.0.0.2'\nadvertise = 'localhost.localdomain'\n",
        )
        addresses = []
        for number, broker in enumerate(brokers):
            folder = tmp_path / f"desk{number}"
            async with Desk(parse(PROCESS_BENCH + bay + broker, tmp_path), folder, bundle=firmware) as desk:
                desk.make_van()
                if number < 2:
                    await desk.boot()
                addresses.append(desk.address)
                assert (desk.network is None) == (number == 1)
    assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2", "localhost.localdomain"]


async def test_two_buses_cannot_have_one_line(firmware: Path, tmp_path: Path) -> None:
    devices = '[{ simulator = "bms", bay = 1 }, { simulator = "vcu" }]'
    text = f"{PROCESS_BENCH}[[lines]]\nname = 'rs485'\ndevices = {devices}\n"
    async with Desk(parse(text, tmp_path), tmp_path / "desk", bundle=firmware) as desk:
        with pytest.raises(DeskError, match=r"Line rs485 of bench process-desk is taken by bay1, and vcu needs it as"):
            desk.make_van()


async def test_a_recorded_receiver_is_played_into_its_line(firmware: Path, tmp_path: Path) -> None:
    sentences = [
        "$GNRMC,{time},A,3149.2000,N,11717.4600,E,10.00,90.0,221126,,,A",
        "$GNVTG,90.0,T,,M,10.00,N,18.52,K,A",
        "$GNGGA,{time},3149.2000,N,11717.4600,E,1,09,0.8,40.0,M,-3.0,M,,",
    ]
    lines = [sentence.format(time=f"1000{second:02}.00") for second in range(40) for sentence in sentences]
    log = "".join(f"{line}*{_checksum(line):02X}\r\n" for line in lines)
    (tmp_path / "trip.nmea").write_text(log, newline="")
    text = (
        PROCESS_BENCH + '[[lines]]\nname = "bay"\ndevices = [{ simulator = "bms", bay = 1 }]\n[[lines]]\nname = "gps"\n'
    )
    text += '[gnss]\nline = "gps"\nfeed = "replay"\nfile = "trip.nmea"\n'
    async with Desk(parse(text, tmp_path), tmp_path / "desk", bundle=firmware) as desk:
        desk.make_van()
        await desk.boot()
        await desk.tap.wait(lambda: desk.tap[desk.name].row_count("position") > 1, "positions")
        assert desk.tap[desk.name].last("position")["latitude_deg"] == pytest.approx(318_200_000, rel=1e-6)


def _checksum(sentence: str) -> int:
    total = 0
    for character in sentence[1:].encode():
        total ^= character
    return total


# ---- what is left behind


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
    "_servers._write_gateway_config",
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
        monkeypatch.setattr(owner, name, fail_at_once if name == "_write_gateway_config" else fail)
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
    tasks = Path(f"/proc/{running_desk.pid}/task").glob("*/children")
    started = {int(number) for task in tasks for number in task.read_text().split()}
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
