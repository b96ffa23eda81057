"""The desk: its states, the verbs of its node, and benches that are not the virtual one."""

import os
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swapline_bench import services
from swapline_bench.desk import bench_file
from swapline_bench.desk.bench_file import VIRTUAL, BenchFile, DeskError, load
from swapline_bench.desk.lock import LockError, Locks
from swapline_bench.desk.node import NodeError
from swapline_bench.desk.node_process_driver import VirtualNode
from swapline_bench.desk.pty_cable import PtyCable
from swapline_bench.desk.strategy import BROKEN, OFF, RUNNING, Desk
from swapline_bench.fault.model import Faults
from swapline_bench.link_proxy import Impairment

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


@pytest.fixture
async def desk(firmware: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    async with Desk(load(VIRTUAL), tmp_path / "desk", bundle=firmware) as desk:
        yield desk


def parse(text: str, folder: Path) -> BenchFile:
    return bench_file.parse(tomllib.loads(text), path=folder / "desk.toml", text=text)


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
    await desk.boot(seal_interval_ms=500)
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


async def test_a_node_in_safe_mode_reads_no_line_and_is_switched_off_and_judged_all_the_same(desk: Desk) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=500)
    await desk.tap.wait_rows(desk.name, "module", 1)
    await desk.switch_off()
    await desk.boot(seal_interval_ms=500, nonsense=1)
    heard = desk.tap[desk.name]
    assert (heard.status["safe_mode"], heard.status["boot"]) == (True, 2)
    await desk.wait_for_statements(1)  # nobody takes what the receiver says
    await desk.switch_off()
    await desk.boot_again()
    assert (heard.status["safe_mode"], heard.status["boot"]) == (True, 3)
    await desk.wait_for_statements(1)
    verdict = await desk.judge()
    assert verdict.is_good, verdict.examples


async def test_a_birth_message_that_is_repeated_is_not_the_birth_of_another_boot(desk: Desk) -> None:
    desk.make_van()
    await desk.boot(seal_interval_ms=500)
    heard = desk.tap[desk.name]
    before, heard.status = heard.status, {**heard.status, "clock_quality": 4}
    with pytest.raises(DeskError, match="birth of node-001"):
        await desk.wait_for_birth(before, timeout_s=0.2)
    await desk.node.reset()
    await desk.wait_for_birth(before)
    assert heard.status["boot"] == before["boot"] + 1


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
