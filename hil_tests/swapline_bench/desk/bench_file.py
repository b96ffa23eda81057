"""The bench file: what is on the desk, in TOML, typed and checked at once.

`load` is the only reader. Its result is a tree of frozen values, the resources; nothing here opens or starts anything.
A wrong file gives a `BenchFileError` that names file, key, value and what is allowed. Every key is described in
`docs/hil.md`; a test holds the page to this file.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from swapline_wire.topic import is_name

BENCHES = Path(__file__).parents[2] / "benches"
VIRTUAL = BENCHES / "virtual.toml"
PTY = "pty"
Text = Annotated[str, Field(min_length=1)]
TcpPort = Annotated[int, Field(ge=0, le=65535)]
Pin = Annotated[int, Field(ge=0, le=60)]
Command = Annotated[list[Text], Field(min_length=1)]
Simulator = Literal["bms", "vcu", "slot_charger", "sdm630"]


class DeskError(Exception):
    """What a desk cannot do; the message says why and what to do."""


class BenchFileError(DeskError):
    """A bench file that cannot be used."""


class Table(BaseModel):
    """A table of the file: frozen, and no key that we do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Bench(Table):
    """Whose file this is. An exclusive bench is used by one at a time; one that makes everything anew need not be."""

    name: Text
    description: str = ""
    exclusive: bool = True


class FolderFlash(Table):
    """A folder of this computer is the node's file system."""

    kind: Literal["folder"] = "folder"


class BlockDeviceFlash(Table):
    """LittleFS on blocks of a file, as on a board's flash: it can be cut, full, and broken."""

    kind: Literal["block_device"]
    size_kib: Annotated[int, Field(ge=64, le=16384)] = 2048
    block_bytes: Literal[512, 1024, 2048, 4096] = 4096


class MpremoteFlash(Table):
    """The bundle goes over the console. `interpreter_command` puts MicroPython itself on a board that lacks it."""

    kind: Literal["mpremote"]
    interpreter_command: Command | None = None


class EsptoolFlash(Table):
    """As `mpremote`, and esptool writes the file `image` (MicroPython) to `offset` first, where it is missing."""

    kind: Literal["esptool"]
    image: Path
    offset: Annotated[int, Field(ge=0)] = 0x1000
    baudrate: Annotated[int, Field(ge=9600, le=3000000)] = 460800


class Console(Table):
    """The board's serial console, by the name that stays: /dev/serial/by-id/..."""

    port: Text
    baudrate: Annotated[int, Field(ge=1200, le=3000000)] = 115200


class ProcessPower(Table):
    """The node is a process of this computer: killing it is its power cut."""

    kind: Literal["process"] = "process"


class RelayPower(Table):
    """A relay in the supply, on a serial port.

    `protocol` lcus: the common USB relay modules (A0 channel state sum). `text`: it takes the texts `on` and `off`.
    """

    kind: Literal["relay"]
    port: Text
    baudrate: Annotated[int, Field(ge=1200, le=115200)] = 9600
    protocol: Literal["lcus", "text"] = "lcus"
    channel: Annotated[int, Field(ge=1, le=16)] = 1
    on: str = ""
    off: str = ""
    normally_closed: bool = False
    off_s: Annotated[float, Field(ge=0.0, le=60.0)] = 2.0

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if self.protocol == "text" and not (self.on and self.off):
            raise ValueError("a relay of protocol 'text' needs the texts on = '...' and off = '...'")
        return self


class CommandPower(Table):
    """Commands of the user's own switch the supply: a smart plug, a laboratory supply, a hub that can."""

    kind: Literal["command"]
    on: Command
    off: Command
    off_s: Annotated[float, Field(ge=0.0, le=60.0)] = 2.0
    timeout_s: Annotated[float, Field(gt=0.0, le=120.0)] = 15.0


class NoPower(Table):
    """Nobody can switch the supply: tests that cut it are skipped."""

    kind: Literal["none"]


Flash = Annotated[FolderFlash | BlockDeviceFlash | MpremoteFlash | EsptoolFlash, Field(discriminator="kind")]
Power = Annotated[ProcessPower | RelayPower | CommandPower | NoPower, Field(discriminator="kind")]


class Node(Table):
    """The node under test. `process` runs MicroPython on this computer, `board` is reached over its console."""

    board: Literal["linux", "esp32", "rp2"]
    driver: Literal["process", "board"]
    heap_kib: Annotated[int, Field(ge=64, le=65536)] = 256
    flash: Flash = FolderFlash()
    console: Console | None = None
    power: Power = ProcessPower()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.driver == "process":
            if self.board != "linux":
                raise ValueError(f"driver 'process' runs board 'linux', and not {self.board!r}: use driver 'board'")
            if self.flash.kind in ("mpremote", "esptool") or self.power.kind != "process" or self.console:
                raise ValueError(
                    "driver 'process' has no console, its flash is 'folder' or 'block_device', its power 'process'"
                )
            return self
        if self.console is None:
            raise ValueError("driver 'board' needs [node.console] with the port of the board's serial console")
        if self.flash.kind in ("folder", "block_device") or self.power.kind == "process":
            raise ValueError(
                "driver 'board' needs [node.flash] of kind 'mpremote' or 'esptool' and [node.power] of kind "
                "'relay', 'command' or 'none'"
            )
        return self


class Device(Table):
    """A simulated device that may sit on a line. `bms`: whichever a test asks for, in van bay or station slot `bay`."""

    simulator: Simulator
    bay: Annotated[int, Field(ge=0, le=255)] = 0

    @model_validator(mode="after")
    def _has_bay(self) -> Self:
        if self.simulator == "bms" and not self.bay:
            raise ValueError("a bms needs the bay or slot that it sits in: bay = 1")
        return self


class Line(Table):
    """One serial line: the bench's end (`adapter`) and the node's (`node_port` and pins)."""

    name: Text
    adapter: Text = PTY
    node_port: str | int | None = None
    tx_pin: Pin | None = None
    rx_pin: Pin | None = None
    direction_pin: Pin | None = None
    devices: tuple[Device, ...] = ()

    @model_validator(mode="after")
    def _has_two_ends(self) -> Self:
        if self.adapter != PTY and self.node_port in (None, ""):
            raise ValueError(f"line {self.name!r} needs node_port: the node's own port of this line")
        return self

    @property
    def is_pty(self) -> bool:
        """Say whether the line is a pseudo terminal, made for each test."""
        return self.adapter == PTY

    @property
    def pins(self) -> dict[str, int]:
        """Return what the node's configuration has to say of its pins."""
        pins = {"tx_pin": self.tx_pin, "rx_pin": self.rx_pin, "direction_pin": self.direction_pin}
        return {name: pin for name, pin in pins.items() if pin is not None}


class Gnss(Table):
    """The receiver: `synthetic` follows the simulated van, `replay` plays the NMEA log `file`."""

    line: Text = "gnss"
    feed: Literal["synthetic", "replay"] = "synthetic"
    file: Path | None = None

    @model_validator(mode="after")
    def _has_file(self) -> Self:
        if (self.feed == "replay") != (self.file is not None):
            raise ValueError("feed 'replay' needs file = 'NMEA log', and feed 'synthetic' has none")
        return self


class Broker(Table):
    """`mosquitto` is started on `host`, on a free port if `port` is 0; `external` runs already.

    `advertise` is the address at which the node reaches it, where that is not `host`.
    """

    kind: Literal["mosquitto", "external"] = "mosquitto"
    host: Text = "127.0.0.1"
    port: TcpPort = 0
    advertise: Text | None = None

    @model_validator(mode="after")
    def _has_port(self) -> Self:
        if self.kind == "external" and not self.port:
            raise ValueError("an external broker needs its port: port = 1883")
        if self.host == "0.0.0.0" and self.advertise is None:  # noqa: S104 (compared, not bound)
            raise ValueError("host 0.0.0.0 needs advertise: the address at which the node reaches this computer")
        return self


class Network(Table):
    """`proxy`: the node's link goes through the bench, which can impair it. `ssid` is for boards with a radio.

    The password is not in the file: `password_env` names the environment variable that holds it.
    """

    control: Literal["proxy", "none"] = "proxy"
    ssid: Text | None = None
    password_env: Text | None = None


class BenchFile(Table):
    """The whole file."""

    bench: Bench
    node: Node
    lines: tuple[Line, ...] = ()
    gnss: Gnss | None = None
    broker: Broker = Broker()
    network: Network = Network()
    _path: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = [line.name for line in self.lines]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two lines have the name {name!r}")
            if not is_name(name):
                raise ValueError(f"{name!r} is no name for a line: 1 to 32 letters, digits, _, - and . are")
        if self.gnss and self.gnss.line not in names:
            raise ValueError(f"[gnss] sits on line {self.gnss.line!r}, which no [[lines]] has: {', '.join(names)}")
        taken: dict[str, str] = {}
        for port, what in self.ports():
            if port in taken:
                raise ValueError(f"{port} is named twice: for {taken[port]} and for {what}")
            taken[port] = what
        bays = [device.bay for line in self.lines for device in line.devices if device.simulator == "bms"]
        if len(bays) != len(set(bays)):
            raise ValueError(f"two lines have a bms in the same bay: {sorted(bays)}")
        return self

    @property
    def path(self) -> Path:
        """Return where the file is."""
        return self._path

    @property
    def text(self) -> str:
        """Return the file as it was read."""
        return self._text

    @property
    def sha256(self) -> str:
        """Return the hash of the file as it was read."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def ports(self) -> Iterator[tuple[str, str]]:
        """Yield every real serial port of this computer, with what it is for."""
        for line in self.lines:
            if not line.is_pty:
                yield line.adapter, f"line {line.name}"
            if isinstance(line.node_port, str) and self.node.driver == "process":
                yield line.node_port, f"the node's end of line {line.name}"
        if self.node.console:
            yield self.node.console.port, "the node's console"
        if isinstance(self.node.power, RelayPower):
            yield self.node.power.port, "the relay"

    def line_of(self, simulator: Simulator, bay: int = 0) -> Line | None:
        """Return the line on which a simulated device may sit; for a `bms` the one of that bay."""
        for line in self.lines:
            for device in line.devices:
                if device.simulator == simulator and (simulator != "bms" or device.bay == bay):
                    return line
        return None

    @property
    def bay_count(self) -> int:
        """Return how many bays or slots, counted from 1, have a line for their module."""
        count = 0
        while self.line_of("bms", count + 1):
            count += 1
        return count

    @property
    def gnss_line(self) -> Line | None:
        """Return the line of the GNSS receiver."""
        return next((line for line in self.lines if self.gnss and line.name == self.gnss.line), None)


def load(path: Path) -> BenchFile:
    """Read and check a bench file. Raises `BenchFileError`, a sentence a line, each naming file, key and value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in BENCHES.glob("*.toml")))
        raise BenchFileError(f"{path}: no such bench file; those that come along are {known} ({BENCHES}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BenchFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BenchFileError(f"{path}: is not TOML: {error}.") from error
    return parse(raw, path=path, text=text)


def parse(raw: dict[str, Any], *, path: Path, text: str = "") -> BenchFile:
    """Check what a file said. Relative paths in it count from its folder."""
    try:
        file = BenchFile.model_validate(_with_kinds(raw))
    except pydantic.ValidationError as error:
        sentences = [_describe(item) for item in error.errors(include_url=False)]
        raise BenchFileError("\n".join(f"{path}: {sentence}" for sentence in sentences)) from error
    if file.gnss and file.gnss.file:
        anchored = file.gnss.model_copy(update={"file": path.parent / file.gnss.file})
        file = file.model_copy(update={"gnss": anchored})
    if isinstance(file.node.flash, EsptoolFlash):
        flash = file.node.flash.model_copy(update={"image": path.parent / file.node.flash.image})
        file = file.model_copy(update={"node": file.node.model_copy(update={"flash": flash})})
    file._path, file._text = path, text  # noqa: SLF001 (this module's own)
    return file


_KINDS = {"flash": "folder", "power": "process"}  # what a table without `kind` is


def _with_kinds(raw: dict[str, Any]) -> dict[str, Any]:
    node = raw.get("node")
    if not isinstance(node, dict):
        return raw
    tables = {name: {"kind": kind, **node[name]} for name, kind in _KINDS.items() if isinstance(node.get(name), dict)}
    return {**raw, "node": {**node, **tables}}


def _describe(item: Any) -> str:
    """Say in one sentence what is wrong with one key."""
    place = _place(item["loc"])
    key = ".".join(place)
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(item['loc'])}."
    if item["type"] == "missing":
        return f"{key}: is missing."
    if item["type"] == "union_tag_invalid":
        return f"{key}.kind: {item['ctx']['tag']!r} is not allowed; allowed: {item['ctx']['expected_tags']}."
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key}: {item['input']!r} is not allowed; it is a table: [{key}]."
    if item["type"] == "value_error":
        return f"{key}: {message}." if key else f"{message}."
    return f"{key}: {item['input']!r} is not allowed; {message}."


def _place(loc: tuple[Any, ...]) -> list[str]:
    """Return the place in the file: pydantic names the chosen kind there as well, and counts from 0."""
    place: list[str] = []
    model: Any = BenchFile
    for part in loc:
        if isinstance(part, int):
            place[-1] += f"[{part + 1}]"
        elif isinstance(model, list):
            model = next(one for one in model if part in get_args(one.model_fields["kind"].annotation))
        else:
            place.append(str(part))
            model = _model_of(model, str(part))
    return place


def _model_of(model: Any, key: str) -> Any:
    """Return the table, or the list of kinds of table, that a key of a table holds; None for anything else."""
    field = None if model is None else model.model_fields.get(key)
    if field is None:
        return None
    options = [one for one in _flatten(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    return options[0] if len(options) == 1 else options or None


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _flatten(inner)


def _suggest(loc: tuple[Any, ...]) -> str:
    model: Any = BenchFile
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        if isinstance(model, list):
            model = next(one for one in model if part in get_args(one.model_fields["kind"].annotation))
        else:
            model = _model_of(model, str(part))
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known here: {', '.join(known)})"
