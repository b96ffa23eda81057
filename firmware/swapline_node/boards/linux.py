"""Linux (Raspberry Pi or a desk) with MicroPython's unix port: ttys through termios, the kernel has the network."""

import _thread
import asyncio
import os
import select
import socket
import struct
import sys
import time

from micropython import const

from swapline_node.connection import resolve

from .cause import note_cause, take_cause

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

TimedOut = asyncio.TimeoutError  # MicroPython has it under this name only
_TICKS_PERIOD = const(1 << 30)
_DRAIN_MS_MAX = const(1000)  # 960 characters at 9600 baud: a line that takes nothing for so long is dead
_TERMIOS_SPEED = {
    1200: 9,
    2400: 11,
    4800: 12,
    9600: 13,
    19200: 14,
    38400: 15,
    57600: 0x1001,
    115200: 0x1002,
    230400: 0x1003,
    460800: 0x1004,
    500000: 0x1005,
    921600: 0x1007,
    1000000: 0x1008,
}
_PARENB = const(0x100)
_PARODD = const(0x200)
_VTIME = const(5)
_VMIN = const(6)
_PSEUDO_TERMINALS = "/dev/pts"
_FILE_SYSTEM = const(2)  # place in what `os.stat` returns
_AF_UNIX = const(1)
_LOOK_UP_MS = const(20)
_INPUT_BYTES_MAX = const(16)


class PortWriter:
    """Write to a tty without ever blocking the event loop, and give up on a line that takes nothing.

    MicroPython opens files blocking, and a stream's own `write` would wait for ever on a full pseudo-terminal. A tty
    that polls writable takes at least one byte, so bytes go one by one; requests are short. The event loop gets its
    turn only where the line is full: a pause inside a request ends it for the device (Modbus RTU, section 2.5.1.1).
    """

    def __init__(self, file: "Any") -> None:
        self._file = file
        self._stream: "Any" = asyncio.StreamWriter(file, {})
        self._room = select.poll()
        self._room.register(file, select.POLLOUT)
        self._out = b""

    def write(self, data: "bytes | memoryview") -> None:
        """Queue `data`; it leaves in `drain`."""
        self._out += bytes(data)

    async def drain(self) -> None:
        """Send what was queued. Raises OSError where the line takes nothing."""
        data = self._out
        self._out = b""
        sent = 0
        while sent < len(data) and self._room.poll(0):
            self._file.write(data[sent : sent + 1])
            sent += 1
        if sent == len(data):
            return  # as almost always: waiting takes 2 KB of heap
        try:
            await asyncio.wait_for(self._send(data[sent:]), _DRAIN_MS_MAX / 1000)
        except TimedOut:
            raise OSError("the line takes nothing") from None

    async def _send(self, data: bytes) -> None:
        for i in range(len(data)):
            self._stream.out_buf = data[i : i + 1]  # its `drain`, unlike its `write`, waits for room
            await self._stream.drain()

    def close(self) -> None:
        """Close the port."""
        self._file.close()


class NoWatchdog:
    """Stand for a watchdog that the board does not have."""

    def feed(self) -> None:
        """Do nothing."""


class SystemdWatchdog:
    """Tell systemd that the node is alive; `WatchdogSec=` in its unit kills and restarts it where it is not."""

    def __init__(self, address: str) -> None:
        name = ("\0" + address[1:]) if address[0] == "@" else address
        self._socket = socket.socket(_AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(struct.pack("<H", _AF_UNIX) + name.encode())  # MicroPython takes the raw sockaddr
        self._socket.send(b"READY=1")

    def feed(self) -> None:
        """Say that the node is alive."""
        self._socket.send(b"WATCHDOG=1")


class Board:
    """The computer that this process runs on."""

    name = "linux"

    def __init__(self) -> None:
        self._input: "Any" = sys.stdin.buffer
        self._input_poll: "Any" = select.poll()
        self._input_poll.register(self._input, select.POLLIN)
        self._line = b""

    def stop_requested(self) -> bool:
        """Say whether a line "stop" has come on standard input.

        Ctrl-C raises its exception at any instruction, inside the garbage collector too, whose heap then stays locked.
        A program that drives a node asks this way instead.
        """
        while self._input_poll is not None and self._input_poll.poll(0):
            byte = self._input.read(1)
            if not byte:
                self._input_poll = None  # the end: nobody can ask any more
            elif byte == b"\n":
                line = self._line.strip()
                self._line = b""
                return line == b"stop"
            else:
                self._line = (self._line + byte)[-_INPUT_BYTES_MAX:]
        return False

    def ticks_ms(self) -> int:
        """Return milliseconds that wrap at 2**30, as on boards."""
        ticks: "Any" = time.ticks_ms()  # a type of its own in the stubs
        wrapped: int = ticks & (_TICKS_PERIOD - 1)
        return wrapped

    def ticks_diff(self, later: int, earlier: int) -> int:
        """Return `later - earlier` across a wrap."""
        return (later - earlier + _TICKS_PERIOD // 2) % _TICKS_PERIOD - _TICKS_PERIOD // 2

    def open_uart(self, bus: "dict[str, Any]") -> "tuple[Any, Any]":
        """Open a bus's tty raw; return an asyncio reader and a writer. Raises OSError."""
        import termios  # noqa: PLC0415 - the unix port's own, absent from boards

        file = open(bus["port"], "r+b")  # noqa: SIM115 - open as long as the node runs
        termios.setraw(file.fileno())
        attributes: "Any" = termios.tcgetattr(file.fileno())
        speed = _TERMIOS_SPEED.get(bus["baudrate"])
        if speed is None:
            raise OSError("baud rate %d is not one of a tty" % bus["baudrate"])
        attributes[4] = attributes[5] = speed
        attributes[2] &= ~(_PARENB | _PARODD)
        if bus["parity"] != "none":
            attributes[2] |= _PARENB | (_PARODD if bus["parity"] == "odd" else 0)
        # A stream's read(n) goes on reading until it has n bytes; with VMIN and VTIME 0 a tty that has no more says so
        # at once instead of stopping the whole node (measured: 0.7 s a second, from a receiver at 9600 baud).
        attributes[6][_VMIN] = attributes[6][_VTIME] = 0
        try:
            termios.tcsetattr(file.fileno(), termios.TCSANOW, attributes)
        except OSError:
            if os.stat(bus["port"])[_FILE_SYSTEM] != os.stat(_PSEUDO_TERMINALS)[_FILE_SYSTEM]:  # it may be a link
                raise  # a pseudo-terminal has no parity, and Debian's libc calls that an error; it is set all the same
        return asyncio.StreamReader(file), PortWriter(file)

    def reset_cause(self) -> int:
        """Return why the process started: what the last one wrote down, else unknown."""
        return take_cause(0)

    def watchdog(self, timeout_ms: int) -> "Any":
        """Return systemd's watchdog where systemd started this process as `Type=notify`, else one that never bites."""
        address = os.getenv("NOTIFY_SOCKET")
        return SystemdWatchdog(address) if address and timeout_ms else NoWatchdog()

    def rssi_dbm(self) -> "int | None":
        """Return None: the radio, if any, is the kernel's."""
        return None

    async def connect_network(self, network: "dict[str, Any] | None") -> None:
        """Do nothing: the kernel has the network."""

    async def resolve(self, host: str, port: int) -> "tuple[int, Any]":
        """Return family and address of a name, asked for in a thread: a dead name server takes half a minute.

        Raises OSError.
        """
        if all([character in "0123456789." for character in host]):
            return await resolve(host, port)
        answers: "list[Any]" = []

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
                answers.append((found[0], found[-1]))
            except OSError as error:
                answers.append(error)

        _thread.start_new_thread(look_up, ())
        while not answers:  # noqa: ASYNC110 - a thread cannot set an asyncio event here
            await asyncio.sleep(_LOOK_UP_MS / 1000)
        if isinstance(answers[0], OSError):
            raise answers[0]
        answer: "tuple[int, Any]" = answers[0]
        return answer

    def power_good(self, _pin: "int | None") -> "bool | None":
        """Return None: there is no such input, whatever pin is named."""
        return None

    def unique_id(self) -> str:
        """Return the machine's id, or "desk"."""
        try:
            with open("/etc/machine-id") as file:
                return str(file.read()).strip()[:12]
        except OSError:
            return "desk"

    def restart(self, cause: int) -> None:
        """Note why; the caller starts the application anew in this process."""
        note_cause(cause)
