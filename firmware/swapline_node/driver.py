"""Drivers: what every device on a bus has in common, and how a driver is made from its name in the configuration."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from swapline_wire.catalogue import Stream

    from .bus import Bus
    from .clock import Clock
    from .counter import Counters
    from .sampler import Sampler

# Name in the configuration (and of the file in drivers/) -> the class in that file.
DRIVERS = {
    "gnss": "Gnss",
    "jbd": "Jbd",
    "jbd_up16s": "JbdUp16s",
    "sdm630": "Sdm630",
    "seplos_v3": "SeplosV3",
    "slot_charger": "SlotCharger",
    "vcu": "Vcu",
}
PERIOD_MS = 1000
TIMEOUT_MS = 500  # recorded packs answer within 307 ms


class Driver:
    """One device. A subclass says in `STREAMS` what it produces and fills it in `poll`."""

    STREAMS: "tuple[Stream, ...]" = ()
    listens = False  # True: the device talks by itself, `run` hears it and nothing else may share its line

    def __init__(self, clock: "Clock", counters: "Counters", device_config: "dict[str, Any]") -> None:
        self.address: int = device_config.get("address", 1)
        self.bay: int = device_config.get("bay", 0)
        self.period_ms: int = device_config.get("period_ms", PERIOD_MS)
        self.timeout_ms: int = device_config.get("timeout_ms", TIMEOUT_MS)
        self.name = "%s@%d" % (device_config["driver"], self.address)
        self.clock = clock
        self.counters = counters

    async def poll(self, bus: "Bus") -> None:
        """Ask the device once and commit what it says. Raises `BusError`."""
        raise NotImplementedError

    async def run(self, bus: "Bus") -> None:
        """Hear a device that talks by itself, for ever."""
        raise NotImplementedError

    def silent(self) -> None:
        """Take note that the device has not answered several polls in a row."""


def make(
    name: str, sampler: "Sampler", clock: "Clock", counters: "Counters", device_config: "dict[str, Any]"
) -> Driver:
    """Import a driver's file, only now, and return its device. `name` is one of `DRIVERS`."""
    module = __import__("swapline_node.drivers." + name, None, None, ("*",))
    device: Driver = getattr(module, DRIVERS[name])(sampler, clock, counters, device_config)
    return device
