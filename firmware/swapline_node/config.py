"""Configuration: `config.json`, checked at once. A mistake names the key, the value and what is allowed.

A table says what each key may be; an unknown key names the nearest known one. The result of a file with mistakes keeps
whatever part of it is good, so that a node in safe mode stays reachable if its link settings are. The node needs this
module only at start and for the `config` command; `once.py` loads and forgets it.
"""

import json
import os

from micropython import const

from swapline_wire.catalogue import STREAM_NAMES
from swapline_wire.topic import is_name

from .settings import Settings

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

FILE = "config.json"
REQUIRED = "required"  # stands as the default of a key without one
SECRETS = ("password",)


# Each rule: default, then the type, then what narrows it: (minimum, maximum) of a number, or the allowed words.
_TEXT = str
_LINK = {
    "host": (REQUIRED, _TEXT, None),
    "port": (1883, int, (1, 65535)),
    "username": (None, _TEXT, None),
    "password": (None, _TEXT, None),
    "tls": (None, dict, None),
    "keepalive_s": (30, int, (2, 3600)),
    "window": (16, int, (1, 64)),
    "backlog_frames_per_s": (200, int, (1, 10000)),
    "backoff_ms_min": (500, int, (10, 600000)),
    "backoff_ms_max": (30000, int, (10, 3600000)),
}
_TLS = {
    "ca": (REQUIRED, _TEXT, None),
    "certificate": (None, _TEXT, None),
    "key": (None, _TEXT, None),
    "server_hostname": (None, _TEXT, None),
}
_NETWORK = {"ssid": (REQUIRED, _TEXT, None), "password": (None, _TEXT, None), "hostname": (None, _TEXT, None)}
_TIME = {
    "ntp_host": (None, _TEXT, None),
    "ntp_port": (123, int, (1, 65535)),
    "earliest_utc_ms": (1704067200000, int, (0, 4102444800000)),
}
_JOURNAL = {"path": ("journal", _TEXT, None), "limit_bytes": (1500000, int, (65536, 1 << 30))}
_STREAM = {"report": ("change", _TEXT, ("change", "all")), "silence_ms_max": (None, int, (1000, 86400000))}
_BUS = {
    "name": (REQUIRED, _TEXT, None),
    "port": (REQUIRED, (str, int), None),
    "baudrate": (9600, int, (300, 3000000)),
    "parity": ("none", _TEXT, ("none", "even", "odd")),
    "tx_pin": (None, int, (0, 60)),
    "rx_pin": (None, int, (0, 60)),
    "direction_pin": (None, int, (0, 60)),
    "devices": (REQUIRED, list, None),
}
_DEVICE = {
    "driver": (REQUIRED, _TEXT, None),  # one of `driver_names()`
    "address": (1, int, (0, 247)),
    "bay": (0, int, (0, 255)),
    "period_ms": (1000, int, (10, 3600000)),
    "timeout_ms": (500, int, (10, 10000)),
    "look_ms": (150, int, (0, 60000)),  # 0: no looks
    "chemistry": ("lfp", _TEXT, ("lfp", "other")),
}
_TOP: "dict[str, tuple[Any, Any, Any]]" = {
    "fleet": (REQUIRED, _TEXT, None),
    "node": (REQUIRED, _TEXT, None),
    "holder": ("van", _TEXT, ("van", "station")),
    "link": (REQUIRED, dict, None),
    "network": (None, dict, None),
    "time": ({}, dict, None),
    "journal": ({}, dict, None),
    "seal_interval_ms": (5000, int, (100, 600000)),
    "streams": ({}, dict, None),
    "watchdog_ms": (8000, int, (1000, 8300)),  # an RP2 counts no further than 8388 ms
    "power_good_pin": (None, int, (0, 60)),
    "buses": ([], list, None),
}


_SHARED = ("__init__", "bms", "modbus", "modbus_write", "nmea", "refreshed")  # files in drivers/ that are no drivers
_WITHOUT_OWNER = ("gnss", "sdm630", "slot_charger", "vcu")  # whose rows say neither a module nor an address
_HARMLESS = (  # the default does as well
    "link.keepalive_s",
    "link.window",
    "link.backlog_frames_per_s",
    "link.backoff_ms_min",
    "link.backoff_ms_max",
    "network.hostname",
)


def distance(a: str, b: str) -> int:
    """Return the Levenshtein distance of two words."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        previous, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            previous, row[j + 1] = row[j + 1], min(previous + (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


def nearest(word: str, known: "list[str]") -> str:
    """Return the known word that is most like `word`."""
    best = known[0]
    for candidate in known:
        if distance(word, candidate) < distance(word, best):
            best = candidate
    return best


def driver_names() -> "list[str]":
    """Return the names of the drivers: what lies in `drivers/`. Empty where that cannot be listed (frozen firmware)."""
    path: "Any" = __import__("swapline_node.drivers", None, None, ("*",)).__path__
    try:
        files = os.listdir(path if isinstance(path, str) else path[0])
    except OSError:
        return []
    names = set()
    for file in files:
        name, _, suffix = file.partition(".")
        if suffix in ("py", "mpy") and name not in _SHARED:
            names.add(name)
    return sorted(names)


class Checker:
    """Turn what the file says into `Settings`, and collect what is wrong with it."""

    def __init__(self) -> None:
        self.problems: "list[str]" = []

    def check(self, raw: "Any") -> Settings:
        """Return the settings in `raw`, the parsed file; never raises."""
        top = self._section("", raw, _TOP)
        settings = Settings(self.problems)
        settings.fleet = self._name("fleet", top)
        settings.node = self._name("node", top)
        settings.link = self._link(top["link"])
        settings.network = self._optional("network", top["network"], _NETWORK)
        settings.time = self._section("time", top["time"], _TIME)
        settings.journal = self._section("journal", top["journal"], _JOURNAL)
        settings.streams = self._streams(top["streams"])
        settings.buses = self._buses(top["buses"])
        for key in ("holder", "seal_interval_ms", "watchdog_ms", "power_good_pin"):
            setattr(settings, key, top[key])
        settings.can_connect = not any([_blocks_link(p) for p in self.problems])
        return settings

    def _say(self, key: str, value: "Any", allowed: str) -> None:
        shown = "***" if key.rsplit(".", 1)[-1] in SECRETS else json.dumps(value)[:40]
        self.problems.append("%s: %s is not allowed; %s" % (key, shown, allowed))

    def _section(self, where: str, raw: "Any", rules: "dict[str, Any]") -> "dict[str, Any]":
        """Check one object of the file against its rules; return all its keys, defaults filled in."""
        if not isinstance(raw, dict):
            self._say(where or "file", raw, "an object is")
            raw = {}
        for key in raw:
            if key not in rules:
                known = nearest(key, sorted(rules))
                self.problems.append("%s: unknown key; did you mean %s?" % (_join(where, key), known))
        result = {}
        for key, rule in rules.items():
            result[key] = self._value(_join(where, key), raw.get(key, rule[0]), rule)
        return result

    def _value(self, key: str, value: "Any", rule: "tuple[Any, Any, Any]") -> "Any":
        default, kind, limits = rule
        if value is REQUIRED:
            self.problems.append("%s: missing; it is required" % key)
            return {dict: {}, list: []}.get(kind, "")
        if value is None and default is None:
            return None
        if isinstance(value, bool) or not isinstance(value, kind):
            self._say(key, value, "%s is" % _describe(kind))
        elif isinstance(limits, tuple) and kind is int and not limits[0] <= value <= limits[1]:
            self._say(key, value, "%d to %d is" % limits)
        elif value == "":
            self._say(key, value, "a text that is not empty is")
        elif isinstance(limits, tuple) and kind is str and value not in limits:
            self._say(key, value, "one of %s is" % ", ".join(limits))
        else:
            return value
        return {dict: {}, list: []}.get(kind, "") if default is REQUIRED else default

    def _optional(self, where: str, raw: "Any", rules: "dict[str, Any]") -> "dict[str, Any] | None":
        return None if raw is None else self._section(where, raw, rules)

    def _name(self, key: str, top: "dict[str, Any]") -> str:
        name: str = top[key]
        if name and not is_name(name):
            self._say(key, name, "1 to 32 letters, digits, _, - and . are")
        return name

    def _link(self, raw: "Any") -> "dict[str, Any]":
        link = self._section("link", raw, _LINK)
        link["tls"] = self._optional("link.tls", link["tls"], _TLS)
        if link["backoff_ms_max"] < link["backoff_ms_min"]:
            self._say("link.backoff_ms_max", link["backoff_ms_max"], "at least link.backoff_ms_min is")
        return link

    def _streams(self, raw: "Any") -> "dict[str, Any]":
        if not isinstance(raw, dict):
            self._say("streams", raw, "an object is")
            return {}
        known = list(STREAM_NAMES)
        streams = {}
        for name, override in raw.items():
            if name not in known:
                self.problems.append("streams.%s: unknown key; did you mean %s?" % (name, nearest(name, known)))
                continue
            section = self._section("streams." + name, override, _STREAM)
            streams[name] = {key: value for key, value in section.items() if value is not None}
        return streams

    def _buses(self, raw: "Any") -> "list[dict[str, Any]]":
        buses = []
        known = driver_names() if raw else []
        for i, entry in enumerate(raw):
            where = "buses[%d]" % i
            bus = self._section(where, entry, _BUS)
            devices = bus["devices"]
            bus["devices"] = [self._section("%s.devices[%d]" % (where, j), d, _DEVICE) for j, d in enumerate(devices)]
            if not devices and isinstance(entry, dict) and "devices" in entry:
                self._say(where + ".devices", devices, "at least one device is")
            for j, device in enumerate(bus["devices"]):
                if known and device["driver"] and device["driver"] not in known:
                    allowed = "one of %s is" % ", ".join(known)
                    self._say("%s.devices[%d].driver" % (where, j), device["driver"], allowed)
            buses.append(bus)
        self._check_sharing(buses)
        for i, bus in enumerate(buses):
            for other in buses[:i]:
                if other["name"] == bus["name"] or other["port"] == bus["port"]:
                    self._say("buses[%d]" % i, bus["name"], "a name and a port of its own is")
        return buses

    def _check_sharing(self, buses: "list[dict[str, Any]]") -> None:
        """Refuse two devices whose rows nothing would tell apart, and a talker that is not alone on its line."""
        seen = []
        for i, bus in enumerate(buses):
            for j, device in enumerate(bus["devices"]):
                where = "buses[%d].devices[%d]" % (i, j)
                driver = device["driver"]
                bay = device["bay"] if driver in ("slot_charger",) else 0
                if driver in _WITHOUT_OWNER and (driver, bay) in seen:
                    self._say(where + ".driver", driver, "one of a node (slot_charger: of a bay) is")
                seen.append((driver, bay))
                if driver == "gnss" and len(bus["devices"]) > 1:
                    self._say(where + ".driver", driver, "alone on its bus it is")


def _blocks_link(problem: str) -> bool:
    """Say whether a mistake makes connecting pointless or unsafe: a misspelt `tls` must not send secrets in clear."""
    key = problem.partition(":")[0]
    if key.partition(".")[0] not in ("fleet", "node", "link", "network", "file") or key in _HARMLESS:
        return False
    return "unknown key" not in problem or "mean tls?" in problem or problem.startswith("link.tls.")


def _join(where: str, key: str) -> str:
    return where + "." + key if where else key


def _describe(kind: "Any") -> str:
    names = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}
    return names.get(kind, "a text or a whole number")


def check(raw: "Any") -> Settings:
    """Check a parsed configuration. Never raises: what is wrong stands in the settings' `problems`."""
    return Checker().check(raw)


def load(path: str = FILE) -> Settings:
    """Read and check the configuration file. Never raises, like `check`."""
    try:
        with open(path) as file:
            raw = json.load(file)
    except OSError as error:
        return _failed("%s: cannot be read: %s" % (path, error))
    except ValueError:
        return _failed("%s: is not JSON" % path)
    settings = check(raw)
    settings.problems[:] = ["%s: %s" % (path, problem) for problem in settings.problems]
    return settings


def _failed(problem: str) -> Settings:
    settings = check({})
    settings.problems[:] = [problem]
    settings.can_connect = False
    return settings


def mask(raw: "Any") -> "Any":
    """Return a copy of a configuration that hides its secrets."""
    if isinstance(raw, dict):
        return {k: "***" if k in SECRETS and v is not None else mask(v) for k, v in raw.items()}
    if isinstance(raw, list):
        return [mask(v) for v in raw]
    return raw
