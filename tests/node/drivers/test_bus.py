"""The bus in virtual time: lines that are silent, late, noisy or gone, and the schedule of those who share one."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swapline_node import driver
from swapline_node.bus import Bus, BusChecksumError, BusError, BusProtocolError, BusRefused, BusTimeout
from swapline_node.clock import Clock
from swapline_node.config import driver_names
from swapline_node.counter import Counters
from swapline_node.drivers.modbus import read, with_crc
from swapline_node.sampler import Sampler

Answer = Callable[[bytes], Awaitable[None]]
QUERY = read(1, 4, 0, 1)
GOOD = with_crc(bytes.fromhex("0104020007"))
OTHER = with_crc(bytes.fromhex("0104020099"))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> Any:
                events = super().select(0)
                if not events and timeout:
                    loop.now_s += timeout
                return events

        super().__init__(Selector())

    def time(self) -> float:
        return self.now_s


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


class Line:
    """A stream whose other side is `self.device`: a function that takes a request and may call `arrive`."""

    def __init__(self) -> None:
        self.s: Any = self  # the port behind the stream
        self.pending = b""
        self.error: OSError | None = None
        self.is_closed = False
        self.requests: list[bytes] = []
        self.device: Callable[[bytes], None] = lambda _: None

    def write(self, data: bytes) -> None:
        self.requests.append(bytes(data))
        self.device(bytes(data))

    async def drain(self) -> None:
        if self.error:
            raise self.error

    def close(self) -> None:
        self.is_closed = True

    def arrive(self, data: bytes, *, after_s: float = 0) -> None:
        asyncio.get_running_loop().call_later(after_s, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        self.pending += data

    def readinto(self, buffer: memoryview) -> int:
        if self.error:
            raise self.error
        count = min(len(buffer), len(self.pending))
        buffer[:count] = self.pending[:count]
        self.pending = self.pending[count:]
        return count


class Polled:
    """A device that asks one query at each poll and remembers when."""

    look_ms = 0
    listens = False

    def __init__(self, address: int, period_ms: int = 1000) -> None:
        self.name = f"device@{address}"
        self.period_ms = period_ms
        self.polled_s: list[float] = []
        self.silent_s: list[float] = []
        self.query = read(address, 4, 0, 1)

    async def poll(self, bus: Bus) -> None:
        self.polled_s.append(asyncio.get_running_loop().time())
        await bus.ask(self.query, 500)

    async def look(self, bus: Bus) -> None:
        raise NotImplementedError

    async def run(self, bus: Bus) -> None:
        raise NotImplementedError

    def silent(self) -> None:
        self.silent_s.append(asyncio.get_running_loop().time())


def make_bus(line: Line, **options: Any) -> Bus:
    loop = asyncio.get_running_loop()
    clock = Clock(lambda: int(loop.time() * 1000), lambda now, before: now - before)
    return Bus("bay1", line, line, Counters(), clock, **options)


def test_noise_before_a_request_is_thrown_away() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.device = lambda _: line.arrive(GOOD)
        line.pending = b"\x00\xffnoise" + OTHER
        assert bytes(await bus.ask(QUERY, 500)) == b"\x00\x07"

    in_virtual_time(main)


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.device = lambda _: line.arrive(OTHER, after_s=0.55)
        with pytest.raises(BusTimeout):
            await bus.ask(QUERY, 500)
        line.device = lambda _: line.arrive(GOOD, after_s=0.1)
        assert bytes(await bus.ask(QUERY, 500)) == b"\x00\x07"
        assert bus.counters.bus_timeouts == 1
        assert bus.counters.bus_requests == 2

    in_virtual_time(main)


def test_an_answer_in_single_bytes_is_put_together() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)

        def drip(_: bytes) -> None:
            for i in range(len(GOOD)):
                line.arrive(GOOD[i : i + 1], after_s=0.01 * (i + 1))

        line.device = drip
        assert bytes(await bus.ask(QUERY, 500)) == b"\x00\x07"

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (GOOD[:-1], BusTimeout),
        (GOOD[:-1] + b"\x00", BusChecksumError),
        (with_crc(b"\x02" + GOOD[1:-2]), BusProtocolError),
        (with_crc(b"\x01\x03" + GOOD[2:-2]), BusProtocolError),
        (with_crc(b"\x01\x84\x02"), BusRefused),
    ],
)
def test_each_kind_of_failure_is_raised_and_counted_once(answer: bytes, error: type[BusError]) -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.device = lambda _: line.arrive(answer)
        with pytest.raises(error):
            await bus.ask(QUERY, 500)
        counters = bus.counters
        assert counters.bus_timeouts + counters.bus_checksum_errors + counters.bus_protocol_errors == 1

    in_virtual_time(main)


def test_a_line_that_never_pauses_is_an_error_and_not_a_hang() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.readinto = len  # type: ignore[method-assign, assignment]
        with pytest.raises(BusProtocolError):
            await bus.ask(QUERY, 500)
        assert not line.requests, "nobody may talk into a line that is not quiet"

    in_virtual_time(main)


def test_a_failed_line_is_opened_again() -> None:
    async def main() -> None:
        broken = Line()
        broken.error = OSError(5, "Input/output error")
        line = Line()
        line.device = lambda _: line.arrive(GOOD)
        bus = make_bus(broken, reopen=lambda: (line, line))
        with pytest.raises(BusTimeout):
            await bus.ask(QUERY, 500)
        assert bytes(await bus.ask(QUERY, 500)) == b"\x00\x07"
        assert broken.is_closed, "an open line keeps its name, and the adapter comes back under another"

    in_virtual_time(main)


def test_a_line_on_which_nobody_talks_any_more_is_opened_again() -> None:
    async def main() -> None:
        unplugged, line = Line(), Line()  # a tty that was hung up reads as silent
        bus = make_bus(unplugged, reopen=lambda: (line, line))
        for _ in range(80):
            await bus.listen(150)
        assert unplugged.is_closed
        line.arrive(b"$")
        assert await bus.listen(150) == b"$"
        assert bus.counters.bus_timeouts == 1

    in_virtual_time(main)


def test_a_silent_device_is_asked_less_often_and_the_living_one_keeps_its_pace() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        living, dead = Polled(1), Polled(2)
        line.device = lambda request: line.arrive(GOOD) if request[0] == 1 else None
        task = asyncio.create_task(bus.run([living, dead]))
        await asyncio.sleep(60)
        task.cancel()
        assert 59 <= len(living.polled_s) <= 61
        gaps = [b - a for a, b in zip(living.polled_s, living.polled_s[1:], strict=False)]
        assert max(gaps) < 1.7, "a timeout of the other may delay a poll, never skip one"
        assert len(dead.polled_s) < 20
        assert dead.polled_s[-1] - dead.polled_s[-2] == pytest.approx(5, abs=0.7)
        assert len(dead.silent_s) == 1
        assert dead.silent_s[0] < 4

    in_virtual_time(main)


def test_a_silent_device_that_is_alone_on_its_line_is_asked_every_second() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        device = Polled(1)
        task = asyncio.create_task(bus.run([device]))
        await asyncio.sleep(60)
        task.cancel()
        gaps = [b - a for a, b in zip(device.polled_s, device.polled_s[1:], strict=False)]
        assert max(gaps) < 1.2, "it delays nobody, and a module that is put in is to be seen soon"
        assert len(device.silent_s) == 1

    in_virtual_time(main)


def test_a_lone_device_that_falls_silent_is_asked_again_at_once_and_then_at_its_pace() -> None:
    async def main() -> None:
        line = Line()
        line.device = lambda _: line.arrive(GOOD)
        bus = make_bus(line)
        device = Polled(1)
        task = asyncio.create_task(bus.run([device]))
        await asyncio.sleep(3.5)
        line.device = lambda _: None
        before = len(device.polled_s)
        await asyncio.sleep(10)
        task.cancel()
        first, again, *later = device.polled_s[before:]
        assert again - first < 0.7, "only as long as the answer was waited for"
        assert later[0] - again == pytest.approx(1, abs=0.2)

    in_virtual_time(main)


def test_a_bus_that_is_to_end_finishes_the_poll_under_way_and_begins_no_other() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.device = lambda _: line.arrive(GOOD, after_s=0.2)
        device = Polled(1)
        task = asyncio.create_task(bus.run([device]))
        await asyncio.sleep(1.1)
        assert bus.is_busy
        bus.is_ending = True
        await asyncio.sleep(0.2)
        assert not bus.is_busy
        assert bus.counters.bus_timeouts == 0
        await asyncio.sleep(10)
        assert len(device.polled_s) == 2
        task.cancel()

    in_virtual_time(main)


def test_a_line_is_busy_as_long_as_a_device_talks_on_it() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        line.arrive(b"$")
        assert await bus.listen(150) == b"$"
        assert bus.is_busy
        assert await bus.listen(150) == b""
        assert not bus.is_busy

    in_virtual_time(main)


def test_a_device_that_comes_back_is_asked_at_its_pace_again() -> None:
    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        device = Polled(1)
        task = asyncio.create_task(bus.run([device]))
        await asyncio.sleep(30)
        line.device = lambda _: line.arrive(GOOD)
        await asyncio.sleep(6)
        before = len(device.polled_s)
        await asyncio.sleep(10)
        assert 9 <= len(device.polled_s) - before <= 11
        line.device = lambda _: None
        await asyncio.sleep(10)
        task.cancel()
        assert len(device.silent_s) == 2, "it went silent twice"

    in_virtual_time(main)


class Store:
    """The journal's place: counts the frames."""

    id = 1
    boot = 1
    next_seq = 1

    def __init__(self) -> None:
        self.occupants: dict[int, tuple[str, Any]] = {}

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def append(self, frame: memoryview, seq: int, priority: int) -> bool:
        self.next_seq = seq + 1
        return len(frame) > 0 and priority >= 0

    def commit(self) -> bool:
        return True


@pytest.mark.parametrize("name", sorted(set(driver_names()) - {"gnss"}))
@given(answers=st.lists(st.binary(max_size=64), min_size=1, max_size=12), data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_answers_make_a_driver_fail_only_as_a_bus_error(name: str, answers: list[bytes], data: Any) -> None:
    """Random bytes, or random data in a frame that is whole: never another exception."""

    def answer_to(request: bytes, body: bytes) -> bytes:
        if data.draw(st.booleans()):
            return body
        if request[0] == 0x4E:
            head = b"\x4e\x57" + (len(body) + 18).to_bytes(2, "big") + bytes(4) + b"\x06\x00\x01"
            frame = head + body + b"\0\0\0\0\x68"
            return frame + (sum(frame) & 0xFFFF).to_bytes(4, "big")
        if request[0] == 0xDD:
            payload = bytes((0, len(body))) + body
            return bytes((0xDD, request[2])) + payload + (-sum(payload) & 0xFFFF).to_bytes(2, "big") + b"\x77"
        if request[1] == 0x78:
            return with_crc(request[:6] + len(body).to_bytes(2, "big") + body)
        count = int.from_bytes(request[4:6], "big")
        body = (body * 300)[: 2 * count if request[1] == 4 else (count + 7) // 8]
        return with_crc(request[:2] + bytes((len(body),)) + body)

    async def main() -> None:
        line = Line()
        bus = make_bus(line)
        sampler = Sampler(Store(), bus.clock, bus.counters)
        device = driver.make(name, sampler, bus.clock, bus.counters, {"driver": name, "address": 1})
        queue = list(answers)
        line.device = lambda request: line.arrive(answer_to(request, queue.pop(0))) if queue else None
        for _ in range(3):
            try:
                await device.poll(bus)
            except BusError:
                continue
        counters = bus.counters
        failures = counters.bus_timeouts + counters.bus_checksum_errors + counters.bus_protocol_errors
        assert failures + counters.rows_kept + counters.rows_unchanged > 0

    in_virtual_time(main)


@given(chunks=st.lists(st.binary(max_size=300) | st.sampled_from([b"$GPRMC,", b",A,", b"*7D\r\n", b"\n"]), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_bytes_from_a_receiver_raise_nothing(chunks: list[bytes]) -> None:
    clock = Clock(lambda: 0, lambda now, before: now - before)
    counters = Counters()
    device = driver.make("gnss", Sampler(Store(), clock, counters), clock, counters, {"driver": "gnss"})
    for chunk in chunks:
        device.feed(chunk)  # type: ignore[attr-defined]
    device.finish_epoch()  # type: ignore[attr-defined]


@given(
    fields=st.lists(st.text("0123456789.-NSEWAV,", max_size=12), max_size=22),
    kind=st.sampled_from(["GPRMC", "GNGGA", "GPGLL", "GPGSA", "GLGSV", "GPVTG", "GPZDA"]),
)
@settings(max_examples=300, deadline=None)
def test_any_fields_of_a_sentence_raise_nothing(fields: list[str], kind: str) -> None:
    clock = Clock(lambda: 0, lambda now, before: now - before)
    counters = Counters()
    device = driver.make("gnss", Sampler(Store(), clock, counters), clock, counters, {"driver": "gnss"})
    body = ",".join([kind, *fields]).encode()
    checksum = 0
    for byte in body:
        checksum ^= byte
    device.feed(b"$%s*%02X\r\n" % (body, checksum))  # type: ignore[attr-defined]
    device.finish_epoch()  # type: ignore[attr-defined]
