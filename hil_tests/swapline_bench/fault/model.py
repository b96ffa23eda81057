"""What goes wrong on one serial line: a set of `Faults`, and a `FaultModel` that does them from a seed and counts them.

    line.fault = FaultModel(Faults(bit_errors=0.001, noise=2), seed=1)
    ...
    line.fault.faults = Faults()   # the line is well again
    line.fault.injected            # Counter({"bit-errors": 17, "noise": 4})

Three places of a line ask the model: bytes on the wire in either direction (`carry`), the answer of a device
(`Answer`, in `fault.answer`), and time that passes while nobody talks (`run`). Everything random comes from the seed
and the bytes that pass, so the same traffic is damaged in the same way again.
"""

import asyncio
import difflib
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from swapline_bench.fault import uart
from swapline_bench.randomness import make_random

NOISE_BYTES_MAX = 8  # of one burst
BABBLE_BYTES = 32  # at a time
OUT_OF_STEP_S = 1.0  # a node that waited in vain takes what comes late for the answer to its next question
BREAK = b"\0"  # what a UART reads of a wire that falls and stays low


class FaultError(Exception):
    """Faults that cannot be: an unknown name, or a value that makes no sense. The message says what would do."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a line. Everything is off by default; shares are probabilities from 0 to 1.

    On the wire, in both directions. `bit_errors`: share of bits that are read wrong, start and stop bits included.
    `drop`, `double`, `extra`: share of bytes that vanish, come twice, are followed by a foreign one.
    `device_baudrate`: the rate that the device really talks at; 0 is the line's own.
    `pulled`: the cable is out. `stuck`: the wire is held low. `babble`: a device talks without a pause.
    `noise`: bursts of foreign bytes a second while nobody talks.

    Of a device's answers. `truncated`: share that end in the middle. `late`: share that come `late_s` later.
    `silent`: share that do not come. `wrong_slave`: share that come whole from somebody else.
    `exception`: share that are a refusal. `two_slaves`: share on which a second device with the same address talks
    over the first.
    """

    bit_errors: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    extra: float = 0.0
    device_baudrate: int = 0
    pulled: bool = False
    stuck: bool = False
    babble: bool = False
    noise: float = 0.0
    truncated: float = 0.0
    late: float = 0.0
    late_s: float = 0.7  # nodes wait for 0.5 s
    silent: float = 0.0
    wrong_slave: float = 0.0
    exception: float = 0.0
    two_slaves: float = 0.0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise FaultError(f"{_spoken(name)}={getattr(self, name)} is no share: give a number from 0 to 1")
        for name in ("noise", "late_s", "device_baudrate"):
            if getattr(self, name) < 0:
                raise FaultError(f"{_spoken(name)}={getattr(self, name)} is below 0")

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Faults":
        """Return the faults of a command line: `bit-errors=0.001`, `stuck`, or several. Raises `FaultError`."""
        values: dict[str, float | int | bool] = {}
        for text in re.split(r"[,\s]+", " ".join(texts).strip()):
            spoken, _, value = text.partition("=")
            name = spoken.replace("-", "_")
            if spoken in {"", "none"} and not value:
                continue
            if name not in FAULT_NAMES:
                near = difflib.get_close_matches(name, FAULT_NAMES, n=1, cutoff=0.4)
                known = f"did you mean {_spoken(near[0])}?" if near else f"known are {', '.join(SPOKEN_NAMES)}"
                raise FaultError(f"there is no fault {spoken!r}: {known}")
            values[name] = _value(name, spoken, value)
        return cls(**values)  # type: ignore[arg-type]

    def spoken(self) -> list[str]:
        """Return what is not off, as a command line would say it."""
        changed = [(field.name, getattr(self, field.name)) for field in fields(self)]
        default = Faults
        texts = [(name, value) for name, value in changed if value != getattr(default, name)]
        return [_spoken(name) if value is True else f"{_spoken(name)}={value:g}" for name, value in texts]


FAULT_NAMES = tuple(field.name for field in fields(Faults))
SPOKEN_NAMES = tuple(name.replace("_", "-") for name in FAULT_NAMES)
_EXAMPLES = {"device_baudrate": 4800, "noise": 2, "late_s": 0.7}
_SWITCHES = frozenset({"pulled", "stuck", "babble"})
_SHARES = frozenset(FAULT_NAMES) - _SWITCHES - {"noise", "late_s", "device_baudrate"}
NO_FAULTS = Faults()


def _spoken(name: str) -> str:
    return name.replace("_", "-")


def _value(name: str, spoken: str, text: str) -> float | int | bool:
    if name in _SWITCHES:
        if text not in ("", "on", "off", "true", "false"):
            raise FaultError(f"{spoken}={text}: say only {spoken}, or {spoken}=off")
        return text not in ("off", "false")
    try:
        number = int(text) if name == "device_baudrate" else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FaultError(f"{spoken} needs a number: {spoken}={_EXAMPLES.get(name, 0.01)}, for example")
    return number


class Wire(Protocol):
    """What the model needs of the line on which it works."""

    name: str
    baudrate: int
    parity: str
    character_s: float
    is_talking: bool

    def disturb(self, data: bytes) -> None:
        """Let the node's end receive bytes that nobody sent."""


class FaultModel:
    """The faults of one line. `on_fault` is told each one in a few words; `injected` counts them by name.

    `spoiled` counts answers that the node's end did not get as they were, and whose check says so.
    `passed_by_chance` counts damaged answers that their protocol's check does not find: nobody could.
    """

    def __init__(
        self, faults: Faults = NO_FAULTS, *, seed: int = 0, on_fault: Callable[[str], None] | None = None
    ) -> None:
        self.injected: Counter[str] = Counter()
        self.passed_by_chance = 0
        self.spoiled = 0
        self.on_fault = on_fault
        self.random = make_random(seed, "serial line")
        self._faults = faults
        self._near_until_s = -math.inf
        self._changed = asyncio.Event()
        self._at_byte: tuple[int, Callable[[], None]] | None = None

    @property
    def faults(self) -> Faults:
        """What is wrong now. Replace it at any time."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._changed.set()
        self.say("faults: " + (" ".join(faults.spoken()) or "none"))

    @property
    def total(self) -> int:
        """Return how many faults were injected so far, of all kinds."""
        return self.injected.total()

    def is_near(self, now_s: float) -> bool:
        """Say whether something was injected so shortly before `now_s` that the node may still be out of step."""
        return now_s <= self._near_until_s

    def count(self, kind: str, times: int = 1, what: str = "") -> None:
        """Count a fault that was just done and tell it."""
        if times:
            self.injected[_spoken(kind)] += times
            near_s = OUT_OF_STEP_S + self._faults.late_s
            self._near_until_s = max(self._near_until_s, time.monotonic() + near_s)
            self.say(f"{_spoken(kind)} {what}".rstrip())

    def say(self, text: str) -> None:
        """Tell what happens."""
        if self.on_fault is not None:
            self.on_fault(text)

    def chance(self, share: float) -> bool:
        """Say whether something that happens so often happens now."""
        return share > 0 and self.random.random() < share

    def carry(self, data: bytes, wire: Wire, *, from_node: bool) -> bytes:
        """Return what arrives at the other end when `data` is sent over `wire`."""
        faults = self._faults
        if faults == NO_FAULTS or not data:
            return data
        if faults.pulled or faults.stuck:
            self.count("pulled" if faults.pulled else "stuck", 1, f"{len(data)} bytes")
            return b""
        return self._through_uart(self._in_bytes(data), wire, from_node=from_node)

    def _in_bytes(self, data: bytes) -> bytes:
        """Do what happens to whole bytes."""
        faults = self._faults
        if not (faults.drop or faults.double or faults.extra):
            return data
        out = bytearray()
        for place, byte in enumerate(data):
            if self.chance(faults.drop):
                self.count("drop", 1, f"byte {place} of {len(data)}")
                continue
            out.append(byte)
            if self.chance(faults.double):
                self.count("double", 1, f"byte {place} of {len(data)}")
                out.append(byte)
            if self.chance(faults.extra):
                self.count("extra", 1, f"after byte {place} of {len(data)}")
                out.append(self.random.randrange(256))
        return bytes(out)

    def _through_uart(self, data: bytes, wire: Wire, *, from_node: bool) -> bytes:
        """Do what happens to bits."""
        faults = self._faults
        other = faults.device_baudrate or wire.baudrate
        if not faults.bit_errors and other == wire.baudrate:
            return data
        levels = uart.levels(data, wire.parity)
        flipped = 0
        if faults.bit_errors:
            for place in range(len(levels)):
                if self.random.random() < faults.bit_errors:
                    levels[place] ^= 1
                    flipped += 1
        sender, receiver = (wire.baudrate, other) if from_node else (other, wire.baudrate)
        received = uart.receive(levels, wire.parity, bit=sender / receiver)
        self.count("bit_errors", flipped, f"{flipped} bits of {len(levels)}")
        if sender != receiver and received != data:
            self.count("device_baudrate", 1, f"{len(data)} bytes at {sender} read at {receiver} baud")
        return received

    async def run(self, wire: Wire) -> None:
        """Do what happens while nobody talks, for ever."""
        while True:
            self._changed.clear()
            faults = self._faults
            if faults.stuck:
                wire.disturb(BREAK)
                await self._changed.wait()
            elif faults.babble:
                data = self.random.randbytes(BABBLE_BYTES)
                self.count("babble", 1, f"{len(data)} bytes")
                wire.disturb(data)
                await self._until_changed(len(data) * wire.character_s)
            elif faults.noise and not faults.pulled:
                if not await self._until_changed(self.random.expovariate(faults.noise)) and not wire.is_talking:
                    data = self.random.randbytes(self.random.randint(1, NOISE_BYTES_MAX))
                    self.count("noise", 1, data.hex(" "))
                    wire.disturb(data)
            else:
                await self._changed.wait()

    async def _until_changed(self, duration_s: float) -> bool:
        """Wait so long; return early, and True, when the faults are others."""
        try:
            async with asyncio.timeout(duration_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def at_byte(self, place: int, act: Callable[[], None]) -> None:
        """Call `act` once, when so many bytes of an answer have left: to pull a module in the middle of it."""
        self._at_byte = (place, act)

    def take_at_byte(self, length: int) -> tuple[int, Callable[[], None]] | None:
        """Return, once, what `at_byte` was told, if an answer of `length` bytes is long enough for it."""
        planned = self._at_byte
        if planned is None or length <= planned[0]:
            return None
        self._at_byte = None
        return planned
