"""Serial lines: real ports, adapters that go and come, faults on the way, answers that end in the middle."""

import asyncio
import os
import pty
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from swapline_bench.fault.model import FaultModel, Faults
from swapline_bench.serial_line import LineError, RequestFace, SerialLine, make_lines_folder

TIMEOUT_S = 20.0
BAUDRATE = 115200
REPLY = bytes(range(40))


class Device(RequestFace):
    """Answers each `?` with forty bytes, as long as it is there."""

    def __init__(self) -> None:
        super().__init__(turnaround_s=0.0)
        self.is_there: object = True
        self.asked: list[bytes] = []

    def take_request(self, received: bytearray) -> bytes | None:
        if not received:
            return None
        return bytes((received.pop(0),))

    def answer(self, request: bytes) -> bytes | None:
        self.asked.append(request)
        return REPLY if request == b"?" and self.is_there else None

    def speaker(self, request: bytes) -> object:
        del request
        return self.is_there

    def is_accepted(self, request: bytes, heard: bytes) -> bool:
        del request
        return len(heard) == len(REPLY)


def ask(path: str, size: int = len(REPLY), timeout_s: float = TIMEOUT_S) -> bytes:
    with serial.Serial(path, BAUDRATE, timeout=timeout_s) as port:
        port.write(b"?")
        return bytes(port.read(size))


async def until(condition: Callable[[], object]) -> None:
    """Look until a line or its face has come so far: neither tells."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Ends:
    """A pair of which one end plays a real port; `device_end` is the node's, for want of a second adapter."""

    def __init__(self) -> None:
        self.node_end, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave

    def close(self) -> None:
        os.close(self.node_end)
        os.close(self._slave)


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = Ends()
    yield pair
    pair.close()


def ask_through(node_end: int) -> bytes:
    os.write(node_end, b"?")
    answer = b""
    while len(answer) < len(REPLY):
        answer += os.read(node_end, 100)
    return answer


async def test_a_face_speaks_on_a_real_port(ends: Ends) -> None:
    async with SerialLine("adapter", baudrate=BAUDRATE, parity="even", port=ends.port) as line:
        assert line.path == ends.port
        line.attach(Device())
        assert await asyncio.to_thread(ask_through, ends.node_end) == REPLY
        assert line.bytes_written == len(REPLY)


async def test_a_port_in_use_and_one_that_is_not_there_are_one_clear_sentence(ends: Ends) -> None:
    async with SerialLine("adapter", baudrate=BAUDRATE, port=ends.port):
        with pytest.raises(LineError, match=f"{ends.port} is in use: end the program that has it open"):
            SerialLine("again", baudrate=BAUDRATE, port=ends.port)
    with pytest.raises(LineError, match="/dev/ttyUSB99 is not there: plug the adapter in"):
        SerialLine("missing", baudrate=BAUDRATE, port="/dev/ttyUSB99")


async def test_real_port_that_says_nothing_for_a_while_stays_plugged_in(ends: Ends) -> None:
    async with SerialLine("adapter", baudrate=BAUDRATE, port=ends.port) as line:
        line.attach(Device())
        assert line.is_plugged_in
        line.detach()
        assert await line.read(silence_s=0.01) == b""
        assert line.is_plugged_in


async def test_a_port_is_free_again_after_its_line(ends: Ends) -> None:
    for _ in range(2):
        async with SerialLine("adapter", baudrate=BAUDRATE, port=ends.port) as line:
            assert line.is_plugged_in


async def test_an_adapter_that_vanishes_and_comes_back_has_the_same_path_and_the_same_face() -> None:
    async with SerialLine("bus", baudrate=BAUDRATE) as line:
        line.fault = FaultModel()
        line.attach(Device())
        assert await asyncio.to_thread(ask, line.path) == REPLY
        with serial.Serial(line.path, BAUDRATE, timeout=TIMEOUT_S) as port:
            line.unplug()
            assert not os.path.exists(line.path)  # noqa: ASYNC240, PTH110
            with pytest.raises(serial.SerialException):
                port.read(1)
        assert await line.write(b"to nobody") == b""
        assert line.bytes_discarded == len(b"to nobody")
        line.plug_in()
        assert await asyncio.to_thread(ask, line.path) == REPLY
        assert line.fault.injected["unplug"] == 1


async def test_a_line_tells_what_passes_in_both_directions() -> None:
    told: list[tuple[bool, bytes]] = []
    async with SerialLine("bus", baudrate=BAUDRATE) as line:
        line.on_bytes = lambda from_node, data: told.append((from_node, data))
        line.attach(Device())
        await asyncio.to_thread(ask, line.path)
    assert told[0] == (True, b"?")
    assert b"".join(data for from_node, data in told if not from_node) == REPLY


async def test_an_answer_ends_where_its_speaker_is_pulled_out() -> None:
    async with SerialLine("bay", baudrate=BAUDRATE) as line:
        fault = line.fault = FaultModel()
        device = Device()
        line.attach(device)
        fault.at_byte(13, lambda: setattr(device, "is_there", False))
        assert await asyncio.to_thread(ask, line.path, 13) == REPLY[:13]
        await until(lambda: fault.injected["at-byte"] == 1 and not line.is_talking)
        assert (line.bytes_written, line.bytes_discarded) == (13, 0)
        device.is_there = True
        assert await asyncio.to_thread(ask, line.path) == REPLY


async def test_what_is_asked_while_an_answer_is_late_is_not_answered_after_it() -> None:
    async with SerialLine("bus", baudrate=BAUDRATE) as line:
        device = Device()
        line.attach(device)
        line.fault = FaultModel(Faults(late=1.0, late_s=0.3), seed=1)
        with serial.Serial(line.path, BAUDRATE, timeout=TIMEOUT_S) as port:
            port.write(b"?")
            await until(lambda: device.requests == 1)
            port.write(b"?")
            assert await asyncio.to_thread(port.read, len(REPLY)) == REPLY
            line.fault = None
            port.write(b"!")  # of which it says that it has taken it, and what came before it
            await until(lambda: device.requests > 1 and not line.is_talking)
            assert line.unread_bytes() == 0
        assert device.asked == [b"?", b"!"]


async def test_damage_that_passes_the_check_is_counted_and_other_damage_is_not() -> None:
    async with SerialLine("bus", baudrate=BAUDRATE) as line:
        device = Device()  # its check is the length alone
        line.attach(device)
        fault = line.fault = FaultModel(Faults(truncated=1.0), seed=1)
        await asyncio.to_thread(ask, line.path, 1)
        await until(lambda: device.requests == 1 and not line.is_talking)
        assert fault.passed_by_chance == 0
        fault.faults = Faults(bit_errors=0.002)
        damaged = 0
        for _ in range(10):
            answer = await asyncio.to_thread(ask, line.path, timeout_s=1.0)
            damaged += answer != REPLY and len(answer) == len(REPLY)
        assert fault.passed_by_chance == damaged > 0


async def duration_s(line: SerialLine) -> float:
    started_s = time.monotonic()
    await line.write(REPLY)
    return time.monotonic() - started_s


async def test_gaps_between_characters_and_the_pace_of_a_line_take_their_time() -> None:
    async with SerialLine("slow", baudrate=9600, gap_s=0.001) as line:
        assert await duration_s(line) >= len(REPLY) * (10 / 9600 + 0.001)
        line.pace = 0.0
        assert await duration_s(line) < 0.03
        line.pace = 2.0
        assert await duration_s(line) >= 2 * len(REPLY) * (10 / 9600 + 0.001)


async def test_a_stuck_wire_lets_nothing_through_until_it_is_well() -> None:
    async with SerialLine("bus", baudrate=BAUDRATE) as line:
        line.attach(Device())
        fault = line.fault = FaultModel(Faults(pulled=True), seed=1)
        assert await asyncio.to_thread(ask, line.path, timeout_s=0.1) == b""
        fault.faults = Faults()
        assert await asyncio.to_thread(ask, line.path) == REPLY
        assert fault.injected["pulled"] == 1


def test_lines_of_killed_processes_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with make_lines_folder() as alive:
        left_over, young = tmp_path / "swapline-ptys-old", tmp_path / "swapline-ptys-young"
        for folder in (left_over, young):
            folder.mkdir()
            (folder / "line1").symlink_to("/dev/pts/nowhere")
        for folder in (left_over, Path(alive)):
            os.utime(folder, (1.0, 1.0))
        with make_lines_folder() as another:
            assert {path.name for path in tmp_path.iterdir()} == {Path(alive).name, Path(another).name, young.name}
