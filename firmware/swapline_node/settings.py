"""Settings: what `config.py` made of the configuration file."""

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any


class Settings:
    """What the node shall do; `docs/node.md` says what each key means. `problems` is empty if the file is good."""

    def __init__(self, problems: "list[str]") -> None:
        self.problems = problems
        self.can_connect = False
        self.fleet = ""
        self.node = ""
        self.holder = ""
        self.seal_interval_ms = 0
        self.watchdog_ms = 0
        self.power_good_pin: "int | None" = None
        self.link: "dict[str, Any]" = {}
        self.network: "dict[str, Any] | None" = None
        self.time: "dict[str, Any]" = {}
        self.journal: "dict[str, Any]" = {}
        self.streams: "dict[str, Any]" = {}
        self.buses: "list[dict[str, Any]]" = []

    def bays(self) -> "list[int]":
        """Return the bays that any device watches."""
        return sorted({device["bay"] for bus in self.buses for device in bus["devices"] if device["bay"]})
