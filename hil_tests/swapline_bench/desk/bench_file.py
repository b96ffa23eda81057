"""The bench file: what is on the desk, in TOML, typed and checked at once.

`load` is the only reader. Its result is a tree of frozen values, the resources; nothing here opens or starts anything.
A wrong file gives a `BenchFileError` that names file, key, value and what is allowed. Every key is described in
`docs/hil.md`; a test holds the page to this file.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from swapline_bench.desk.bench_mistake import describe
from swapline_wire.topic import is_name

BENCHES = Path(__file__).parents[2] / "benches"
VIRTUAL = BENCHES / "virtual.toml"
PTY = "pty"
CONSOLE = "the node's console"  # what that port is for, as `ports` says
Text = Annotated[str, Field(min_length=1)]
TcpPort = Annotated[int, Field(ge=0, le=65535)]
Pin = Annotated[int, Field(ge=0, le=60)]
PortPath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]  # a file's name, never with a zero in it
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
    """LittleFS on blocks of 4 KiB of a file, as on a board's flash: it can be cut, full, and broken.

    `timed`: erasing and programming take as long as they do on a chip.
    """

    kind: Literal["block_device"]
    size_kib: Annotated[int, Field(ge=64, le=16384)] = 2048
    timed: bool = False


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

    port: PortPath
    baudrate: Annotated[int, Field(ge=1200, le=3000000)] = 115200


class ProcessPower(Table):
    """The node is a process of this computer: killing it is its power cut."""

    kind: Literal["process"] = "process"


class RelayPower(Table):
    """A relay in the supply, on a serial port.

    `protocol` lcus: the common USB relay modules (A0 channel state sum). `text`: it takes the texts `on` and `off`.
    """

    kind: Literal["relay"]
    port: PortPath
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
    adapter: PortPath = PTY
    node_port: PortPath | int | None = None
    tx_pin: Pin | None = None
    rx_pin: Pin | None = None
    direction_pin: Pin | None = None
    devices: tuple[Device, ...] = ()

    @model_validator(mode="after")
    def _has_two_ends(self) -> Self:
        if self.adapter != PTY and self.node_port is None:
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
    """`mosquitto` is started on `host`, on a free port; `external` runs already, at `port`.

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
        if self.kind == "mosquitto" and self.port:
            raise ValueError("port is an external broker's: one that the bench starts takes a free port")
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
        _require_once(self.ports())
        if self.node.driver == "board":
            self._require_board_reaches_all()
        bays = [device.bay for line in self.lines for device in line.devices if device.simulator == "bms"]
        if len(bays) != len(set(bays)):
            raise ValueError(f"two lines have a bms in the same bay: {sorted(bays)}")
        return self

    def _require_board_reaches_all(self) -> None:
        """Raise `ValueError` for what a board cannot have: a UART twice, a broker on this computer's loopback."""
        for line in self.lines:
            if not isinstance(line.node_port, int):
                raise ValueError(  # noqa: TRY004 - pydantic takes no other
                    f"line {line.name!r} needs node_port, the number of the board's UART: node_port = 1"
                )
            if self.node.board == "esp32" and (line.tx_pin is None or line.rx_pin is None):
                raise ValueError(
                    f"line {line.name!r} needs tx_pin and rx_pin: those that an ESP32's UART has by itself may be "
                    "the flash's"
                )
        _require_once((f"UART {line.node_port}", f"line {line.name}") for line in self.lines)
        pins = [(line, key, pin) for line in self.lines for key, pin in line.pins.items()]
        _require_once((f"pin {pin}", f"{key} of line {line.name}") for line, key, pin in pins)
        if self.broker.kind == "mosquitto" and self.broker.advertise is None:
            raise ValueError(
                f"a board cannot reach the broker at {self.broker.host}: [broker] host = '0.0.0.0', and advertise = "
                "this computer's address in the board's network"
            )
        if self.node.board != "linux" and self.network.ssid is None:
            raise ValueError("the board's radio needs the name of its network: [network] ssid = '...'")

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
            yield self.node.console.port, CONSOLE
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


def _require_once(things: Iterable[tuple[str, str]]) -> None:
    """Raise `ValueError` where two have the same; each is what, and what for."""
    taken: dict[str, str] = {}
    for thing, what in things:
        if thing in taken:
            raise ValueError(f"{thing} is named twice: for {taken[thing]} and for {what}")
        taken[thing] = what


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
        sentences = [describe(item, BenchFile) for item in error.errors(include_url=False)]
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
    tables = {name: {"kind": kind} for name, kind in _KINDS.items() if node.get(name) == {}}
    return {**raw, "node": {**node, **tables}}
