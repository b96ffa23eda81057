"""Modules that an ESP32 or RP2 has and MicroPython's unix port has not, for a played board; runs in MicroPython.

So the firmware's own board files run, not only compile: `machine` with UARTs (serial ports of this machine), watchdog,
timers and reset, `network` with a radio that always finds its network, `esp32` and `flashbdev`. What concerns the board
as a whole (reset, watchdog) is told to the player, which does it.
"""

import _thread
import io
import sys
import time

import vfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESET_CAUSES = {
    "esp32": {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5},
    "rp2": {"PWRON_RESET": 1, "WDT_RESET": 3},
}
_GET_FILENO = 10  # MP_STREAM_GET_FILENO of py/stream.h
_SPEEDS = {9600: 13, 19200: 14, 38400: 15, 57600: 0x1001, 115200: 0x1002, 230400: 0x1003}  # of termios on Linux
_PARENB, _PARODD = 0x100, 0x200
_VTIME, _VMIN = 5, 6


class Module:
    """A module made of attributes."""

    def __init__(self, **members: "Any") -> None:
        for name, member in members.items():
            setattr(self, name, member)


class System:
    """`sys` with the platform of the played board."""

    def __init__(self, platform: str) -> None:
        self.platform = platform

    def __getattr__(self, name: str) -> "Any":
        return getattr(sys, name)


class Uart(io.IOBase):
    """A UART whose pins lead to a serial port of this machine."""

    def __init__(self, path: str, baudrate: int, parity: "int | None") -> None:
        file_system: "Any" = vfs
        self._file: "Any" = file_system.VfsPosix("/").open(path, "r+b")
        import termios  # noqa: PLC0415 - MicroPython's own

        terminal: "Any" = termios
        terminal.setraw(self._file.fileno())
        settings = terminal.tcgetattr(self._file.fileno())
        settings[4] = settings[5] = _SPEEDS[baudrate]
        settings[2] &= ~(_PARENB | _PARODD)
        if parity is not None:
            settings[2] |= _PARENB | (_PARODD if parity else 0)
        settings[6][_VMIN] = settings[6][_VTIME] = 0
        try:
            terminal.tcsetattr(self._file.fileno(), 0, settings)
        except OSError:
            pass  # a pseudo terminal has no parity

    def ioctl(self, request: int, _argument: int) -> int:
        """Let `select.poll` wait on the port itself."""
        return int(self._file.fileno()) if request == _GET_FILENO else 0

    def read(self, count: int = -1) -> "Any":
        """Return what has come, None where nothing has."""
        return self._file.read(count) or None

    def readinto(self, buffer: "Any", *count: int) -> "Any":
        """Read what has come into `buffer`."""
        return self._file.readinto(buffer, *count) or None

    def write(self, data: "Any") -> int:
        """Send."""
        written: int = self._file.write(data)
        return written

    def flush(self) -> None:
        """Return when everything has left: at once, a port of this machine has its own buffer."""

    def deinit(self) -> None:
        """Give the pins up."""
        self._file.close()


class Pin:
    """A pin with nothing on it: an input is high, as with a pull-up."""

    IN, OUT, PULL_UP, PULL_DOWN = 0, 1, 2, 3

    def __init__(self, number: int, _mode: int = 0, _pull: int = -1, value: int = 1) -> None:
        self.number = number
        self._value = value

    def __call__(self, value: "int | None" = None) -> int:
        if value is not None:
            self._value = value
        return self._value

    value = __call__


class Timer:
    """A periodic timer, a thread here. It ends with the interpreter."""

    PERIODIC, ONE_SHOT = 1, 0

    def __init__(self, _number: int = -1) -> None:
        self._generation = 0

    def init(self, *, period: int, callback: "Any", mode: int = 1) -> None:
        """Call `callback` every `period` milliseconds, or once."""
        self._generation += 1
        _thread.start_new_thread(self._run, (self._generation, period, callback, mode))

    def deinit(self) -> None:
        """Stop."""
        self._generation += 1

    def _run(self, generation: int, period: int, callback: "Any", mode: int) -> None:
        while True:
            time.sleep(period / 1000)
            if generation != self._generation:
                return
            callback(self)
            if mode == self.ONE_SHOT:
                return


class Wlan:
    """A radio in a place where every network is in reach."""

    def __init__(self, _interface: int) -> None:
        self._is_connected = False

    def active(self, _is_active: bool) -> None:
        """Switch the radio."""

    def connect(self, _ssid: str, _password: str) -> None:
        """Connect."""
        self._is_connected = True

    def disconnect(self) -> None:
        """Disconnect."""
        self._is_connected = False

    def isconnected(self) -> bool:
        """Say whether there is a network."""
        return self._is_connected

    def status(self, _what: str) -> int:
        """Return the signal strength."""
        return -60


class Partition:
    """Flash without a partition for the journal: it lies in the root file system."""

    TYPE_DATA = 1

    @staticmethod
    def find(_kind: int, label: str = "") -> "list[Any]":
        """Return none of this label."""
        assert label
        return []


class NoLittleFs:
    """The root's block device, which holds no LittleFS: the firmware leaves the folder as it is mounted."""

    def readblocks(self, _block: int, buffer: "Any", _offset: int = 0) -> None:
        """Read erased flash."""
        for index in range(len(buffer)):
            buffer[index] = 0xFF

    def writeblocks(self, _block: int, _buffer: "Any", _offset: int = 0) -> None:
        """Refuse."""
        raise OSError(30)

    def ioctl(self, request: int, _argument: int) -> "int | None":
        """Tell the size."""
        return {4: 16, 5: 4096}.get(request)


def install(repl: "Any", platform: str, cause: int, ports: "dict[str, str]") -> None:
    """Put the modules of `platform` where `import` finds them. `ports`: UART number -> path of a serial port."""

    class Wdt:
        def __init__(self, _number: int = 0, timeout: int = 5000) -> None:
            repl.tell("wdt %d" % timeout)

        def feed(self) -> None:
            repl.tell("fed")

    def open_uart(number: int, baudrate: int, parity: "int | None" = None, **_pins: int) -> Uart:
        path = ports.get(str(number))
        if path is None:
            raise ValueError("UART(%d) does not exist" % number)
        return Uart(path, baudrate, parity)

    modules: "dict[str, Any]" = {
        "machine": Module(
            UART=open_uart, Pin=Pin, WDT=Wdt, Timer=Timer, reset=lambda: repl.end("reset"),
            reset_cause=lambda: cause, unique_id=lambda: b"\x24\x0a\xc4\x00\x00\x01", **RESET_CAUSES[platform]
        ),
        "network": Module(WLAN=Wlan, STA_IF=0, hostname=lambda _name: None),
        "sys": System(platform),
    }  # fmt: skip
    if platform == "esp32":
        modules["esp32"] = Module(Partition=Partition)
        modules["flashbdev"] = Module(bdev=NoLittleFs())
    sys.modules.update(modules)
