"""Drivers: what every device on a bus has in common, and how a driver is made from its name in the configuration.

The name is that of a file in `drivers/`, and the file has a class of the same name in capitals: `slot_charger` is
`SlotCharger` in `slot_charger.py`. There is no list to add it to.
"""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_wire.catalogue import Stream

    from .bus import Bus
    from .clock import Clock
    from .counter import Counters
    from .sampler import Sampler

PERIOD_MS = 1000
TIMEOUT_MS = 500  # recorded packs answer within 307 ms
LOOK_MS = 150  # from look to look: with the answer and the code, an alarm is told within half a second


class Driver:
    """One device. A subclass says in `STREAMS` what it produces and fills it in `poll`."""

    STREAMS: "tuple[Stream, ...]" = ()
    has_look = False  # True: `look` is worth asking between two polls
    listens = False  # True: the device talks by itself, `run` hears it and nothing else may share its line

    def __init__(self, clock: "Clock", counters: "Counters", device_config: "dict[str, Any]") -> None:
        self.address: int = device_config.get("address", 1)
        self.bay: int = device_config.get("bay", 0)
        self.period_ms: int = device_config.get("period_ms", PERIOD_MS)
        self.timeout_ms: int = device_config.get("timeout_ms", TIMEOUT_MS)
        self.look_ms: int = device_config.get("look_ms", LOOK_MS) if self.has_look else 0
        self.name = "%s@%d" % (device_config["driver"], self.address)
        self.clock = clock
        self.counters = counters

    async def poll(self, bus: "Bus") -> None:
        """Ask the device once and commit what it says. Raises `BusError`."""
        raise NotImplementedError

    async def look(self, bus: "Bus") -> None:
        """Ask for what alarms are judged by, and tell those that change; no row comes of it. Raises `BusError`."""
        raise NotImplementedError

    async def run(self, bus: "Bus") -> None:
        """Hear a device that talks by itself, for ever."""
        raise NotImplementedError

    def silent(self) -> None:
        """Take note that the device has not answered several polls in a row."""


def class_name(name: str) -> str:
    """Return the name of the class that a driver's file has."""
    return "".join([word[:1].upper() + word[1:] for word in name.split("_")])


def make(
    name: str, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
) -> Driver:
    """Import a driver's file, only now, and return its device. Raises whatever a file that is wrong raises."""
    module = __import__("swapline_node.drivers." + name, None, None, ("*",))
    kind = getattr(module, class_name(name), None)
    if kind is None:
        raise ValueError("drivers/%s.py has no class %s" % (name, class_name(name)))
    device: Driver = kind(sampler, clock, counters, device_config)
    return device
