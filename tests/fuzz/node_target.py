"""What the node reads from outside, as functions of arbitrary bytes. Runs under CPython and MicroPython alike.

A target returns for whatever bytes it is given; what it raises is a finding. Errors that the firmware documents for bad
input are caught here, one by one, so anything else shows.

As a script: `micropython node_target.py CASES`, with a file of cases: name and data, each after its length (4 bytes,
little-endian). Prints the number of cases, or the first finding with its bytes, and exits with 1.
"""

# ruff: noqa: PTH102, PTH107, PTH123, PTH208, T201, UP031, BLE001, SIM105 (runs on MicroPython too)

import binascii
import json
import os
import sys

if sys.implementation.name != "micropython":
    from swapline_node import cpython  # noqa: F401 - stands for MicroPython's own module

from swapline_node import bus as buses
from swapline_node import config, driver, recovery
from swapline_node.bus import Bus, BusError
from swapline_node.clock import Clock
from swapline_node.commands import Commands
from swapline_node.counter import Counters
from swapline_node.cursor import Cursor
from swapline_node.journal import Journal
from swapline_node.log import Log
from swapline_node.mqtt import Mqtt, MqttError, parse_publish
from swapline_node.sampler import Sampler
from swapline_wire import frame, message, topic
from swapline_wire.catalogue import NODE, TIME_GATEWAY, not_available
from swapline_wire.error import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    Target = Callable[[bytes], None]

FOLDER = "fuzzed"  # in the current directory: what targets write
NMEA_UTC_MS = 1793534400000  # about when good sentences are said
_POLLS = 4
_LIMIT_BYTES = 65536


async def _no_pause(_duration_ms: int) -> None:
    """Stand for a pause: a target's clock runs by being read."""


def finish(work: "Coroutine[Any, Any, Any]") -> "Any":
    """Run a coroutine to its end, with pauses that take no time; it may wait for nothing else."""
    pause_ms = buses.pause_ms
    buses.pause_ms = _no_pause
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    finally:
        buses.pause_ms = pause_ms
    raise AssertionError("it waits")


class Ticks:
    """A clock that runs while it is looked at."""

    def __init__(self) -> None:
        self._ms = 0

    def ms(self) -> int:
        self._ms += 5
        return self._ms

    def diff(self, now: int, before: int) -> int:
        return now - before


def make_clock() -> Clock:
    ticks = Ticks()
    return Clock(ticks.ms, ticks.diff)


class Store:
    """The journal's place: takes every frame, after a look at it."""

    def __init__(self) -> None:
        self.id = 1
        self.boot = 1
        self.next_seq = 1
        self.occupants: dict[int, tuple[str, Any]] = {}
        self.pending_frames = 0

    def append(self, sealed: memoryview, seq: int, _priority: int) -> int:
        frame.verify(sealed)
        self.next_seq = seq + 1
        return 0

    def occupy(self, bay: int, code: str) -> None:
        self.occupants[bay] = (code, None)

    def commit(self) -> bool:
        return True


class Line:
    """A serial line whose other end says one piece of the data after each request."""

    def __init__(self, answers: "list[bytes]") -> None:
        self.s: Any = self
        self._answers = answers
        self._pending = b""

    def write(self, _data: bytes) -> None:
        if self._answers:
            self._pending += self._answers.pop(0)

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    def hear(self, data: bytes) -> None:
        self._pending += data

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count


def pieces(data: bytes) -> "list[bytes]":
    """Split data into pieces, each after its length."""
    found = []
    while data:
        length = data[0]
        found.append(data[1 : 1 + length])
        data = data[1 + length :]
    return found


def modbus_crc(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return bytes((crc & 0xFF, crc >> 8))


def as_jbd(body: bytes) -> bytes:
    """Return a JBD answer with a good length and checksum: register, status, data."""
    register, status, data = body[:1] or b"\x03", body[1:2] or b"\0", body[2:]
    checked = status + bytes((len(data) & 0xFF,)) + data
    total = -sum(checked) & 0xFFFF
    return b"\xdd" + register + checked + bytes((total >> 8, total & 0xFF)) + b"\x77"


def as_modbus(body: bytes) -> bytes:
    """Return a Modbus RTU answer with a good checksum; the first byte says whether its length is good as well."""
    if body[:1] != b"\0":
        unit, function, data = body[1:2] or b"\x01", body[2:3] or b"\x04", body[3:]
        body = unit + function + bytes((len(data) & 0xFF,)) + data
    return body + modbus_crc(body)


def as_up16s(body: bytes) -> bytes:
    """Return an answer of a JBD UP16S with a good length and checksum: which block (0: the status), data."""
    data = body[1:]
    block = b"\x10\x00\x10\xa0" if body[:1] == b"\0" else b"\x1c\x00\x1c\xa0"
    answer = b"\x01\x78" + block + bytes((len(data) >> 8, len(data) & 0xFF)) + data
    return answer + modbus_crc(answer)


def poll(name: str, line: "Line", polls: int) -> int:
    """Let a driver ask on a line so many times; return how often it got an answer to everything."""
    counters = Counters()
    clock = make_clock()
    sampler = Sampler(Store(), clock, counters)
    device = driver.make(name, sampler, clock, counters, {"driver": name, "address": 1, "bay": 1, "timeout_ms": 20})
    bus = Bus("line", line, line, counters, clock, silence_ms=1, late_ms=1)
    good = 0
    for _ in range(polls):
        try:
            finish(device.poll(bus))
            good += 1
        except BusError:
            pass
    device.silent()
    sampler.seal_all()
    return good


def _poll(name: str, data: bytes, dress: "Callable[[bytes], bytes]") -> None:
    answers = [piece[1:] if piece[:1] == b"\0" else dress(piece[1:]) for piece in pieces(data)]
    poll(name, Line(answers), _POLLS)


def read_jbd(data: bytes) -> None:
    _poll("jbd", data, as_jbd)


def read_jbd_up16s(data: bytes) -> None:
    _poll("jbd_up16s", data, as_up16s)


def read_seplos_v3(data: bytes) -> None:
    _poll("seplos_v3", data, as_modbus)


def read_sdm630(data: bytes) -> None:
    _poll("sdm630", data, as_modbus)


def read_vcu(data: bytes) -> None:
    _poll("vcu", data, as_modbus)


def read_slot_charger(data: bytes) -> None:
    _poll("slot_charger", data, as_modbus)


class Unplugged(Exception):  # noqa: N818 - it ends a listener that would listen for ever
    """Nothing more will be said on the line."""


class Speaker(Line):
    """A line of a device that talks by itself, until everything is said."""

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        if not count:
            raise Unplugged
        return count


def as_nmea(body: bytes) -> bytes:
    checksum = 0
    for byte in body:
        checksum ^= byte
    return b"$" + body + b"*%02X\r\n" % checksum


def read_nmea(data: bytes) -> None:
    """Sentences as they are, or (a line that begins with @) with a good checksum; the node knows the time, or not."""
    said = b""
    for text in data.split(b"\n"):
        said += as_nmea(text[1:]) if text[:1] == b"@" else text + b"\n"
    for knows_time in (False, True):
        counters = Counters()
        clock = make_clock()
        if knows_time:
            clock.offer(TIME_GATEWAY, NMEA_UTC_MS, clock.uptime_ms())
        sampler = Sampler(Store(), clock, counters)
        device = driver.make("gnss", sampler, clock, counters, {"driver": "gnss"})
        line = Speaker([])
        line.hear(said)
        try:
            finish(device.run(Bus("line", line, line, counters, clock)))
        except Unplugged:
            pass
        sampler.seal_all()


def read_frame(data: bytes) -> None:
    for candidate in (data, data + binascii.crc32(data).to_bytes(4, "little")):
        try:
            frame.verify(candidate)
        except WireError:
            pass


def read_up(data: bytes) -> None:
    try:
        _, _, offset = message.read_up_head(data)
        message.split_frames(data, offset)
    except WireError:
        pass


def read_ack(data: bytes) -> None:
    for candidate in (data, data + binascii.crc32(data).to_bytes(4, "little")):
        try:
            ack = message.read_ack(candidate)
        except WireError:
            continue
        for first, last in ack.ranges:
            assert 0 <= first <= last < 1 << 32


def read_topic(data: bytes) -> None:
    text = "".join([chr(byte) for byte in data])
    try:
        address = topic.parse_topic(text)
    except WireError:
        return
    assert topic.format_topic(*address) == text
    assert topic.is_name(address.node)


class Bytes:
    """An asyncio reader over what has come; the connection ends after it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def readexactly(self, count: int) -> bytes:
        if count > len(self._data):
            raise EOFError
        taken, self._data = self._data[:count], self._data[count:]
        return taken


class Nowhere:
    """An asyncio writer."""

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


def read_mqtt(data: bytes) -> None:
    """What a broker sends, packet by packet, and what is made of each PUBLISH."""
    connection = Mqtt(Bytes(data), Nowhere())  # type: ignore[arg-type]
    try:
        while True:
            kind, flags, body = finish(connection.read_packet())
            if kind == 3 and body:
                parse_publish(flags, body)
    except (MqttError, EOFError):
        pass


class Settled:
    """The application's place for the commands' target."""

    def __init__(self) -> None:
        self.clock = make_clock()
        self.counters = Counters()
        self.log = Log(self.clock.uptime_ms)
        self.journal = Store()
        self.sampler = Sampler(self.journal, self.clock, self.counters)
        self.config = config.check({})

    def request_restart(self, _cause: int = 0) -> None:
        """Do nothing: the target is a process of its own."""


def read_command(data: bytes) -> None:
    """As the application does: what no stack can hold is an answer as well."""
    try:
        answer = Commands(Settled()).handle(data)  # type: ignore[arg-type]
        json.dumps(answer).encode()
    except (MemoryError, RuntimeError):
        pass


def read_config(data: bytes) -> None:
    with open("config.json", "wb") as file:
        file.write(data)
    settings = config.load("config.json")
    assert settings.problems or settings.can_connect
    assert settings.journal["limit_bytes"] >= 65536
    settings.bays()


def _clear(folder: str) -> None:
    try:
        names = os.listdir(folder)
    except OSError:
        os.mkdir(folder)
        return
    for name in names:
        os.remove(folder + "/" + name)


def read_state(data: bytes) -> None:
    for offset in range(0, len(data), 32):
        record = recovery.read_record(data[offset : offset + 32])
        assert record is None or 0 <= record.first_seq < 1 << 32


_FILES = (
    "state",
    "r00000001.seg",
    "r00000005.seg",
    "e00000003.seg",
    "a00000002.seg",
    "rffffffff.seg",
    "x",
    "state.new",
)


def read_journal(data: bytes) -> None:
    """A journal folder of damaged files: the next boot opens it, goes on numbering above all it found, and works."""
    _clear(FOLDER)
    rest = data
    while len(rest) > 2:
        name, length = _FILES[rest[0] % len(_FILES)], rest[1] << 8 | rest[2]
        with open(FOLDER + "/" + name, "wb") as file:
            file.write(rest[3 : 3 + length])
        rest = rest[3 + length :]
    journal = Journal(FOLDER, limit_bytes=_LIMIT_BYTES)
    journal.open()
    assert journal.boot >= 1
    seq = journal.next_seq
    if seq < (1 << 32) - 2:
        builder = frame.FrameBuilder(NODE, buffer_bytes=1024)
        builder.add(1, not_available(NODE.signals))
        sealed = builder.seal(
            journal=journal.id, seq=seq, boot=journal.boot, time_quality=2, anchor_utc_ms=1800000000000
        )
        if journal.append(sealed, seq, 0) == 0:
            journal.commit()
            assert journal.next_seq == seq + 1
    buffer = memoryview(bytearray(4096))
    for priority in range(3):
        cursor = Cursor(journal, priority, 4096)
        while cursor.read(buffer, lambda _: True):
            pass
        cursor.release()
    journal.acknowledge(1, seq)
    journal.undeclared_drops()
    journal.close()


TARGETS: "dict[str, Target]" = {
    "ack": read_ack,
    "command": read_command,
    "config": read_config,
    "frame": read_frame,
    "jbd": read_jbd,
    "jbd_up16s": read_jbd_up16s,
    "journal": read_journal,
    "mqtt": read_mqtt,
    "nmea": read_nmea,
    "sdm630": read_sdm630,
    "seplos_v3": read_seplos_v3,
    "slot_charger": read_slot_charger,
    "state": read_state,
    "topic": read_topic,
    "up": read_up,
    "vcu": read_vcu,
}


def run_cases(path: str) -> int:
    """Run the cases of a file; return how many. A finding is printed with its bytes and ends the process."""
    count = 0
    with open(path, "rb") as file:
        while True:
            length = file.read(4)
            if not length:
                return count
            name = file.read(int.from_bytes(length, "little")).decode()
            data = file.read(int.from_bytes(file.read(4), "little"))
            try:
                TARGETS[name](data)
            except Exception as error:
                print("%s: %s %s" % (name, type(error).__name__, error), binascii.hexlify(data).decode())
                if hasattr(sys, "print_exception"):
                    sys.print_exception(error)
                sys.exit(1)
            count += 1


if __name__ == "__main__":
    print("cases", run_cases(sys.argv[1]))
