"""What ESP32 and RP2 boards have in common: UARTs, RS-485 direction, Wi-Fi, watchdog, reset."""

import asyncio
import binascii
import time

import machine
import network
from micropython import const

from swapline_node.connection import resolve

from .cause import note_cause, take_cause

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_RX_BYTES = const(1024)  # one second at 9600 baud: a long flash erase loses nothing
_TX_BYTES = const(256)
_CONNECT_MS_MAX = const(20000)  # association and DHCP on a weak signal
_BITS_PER_CHARACTER = const(11)


class UartWriter:
    """Write to a UART; hold the RS-485 transceiver's direction pin while the characters leave.

    The last characters are awaited without giving way, so that the line is released within one character: a Modbus
    slave may answer after 3.5 of them.
    """

    def __init__(self, uart: "Any", baudrate: int, direction: "Any | None") -> None:
        self._uart = uart
        self._baudrate = baudrate
        self._direction = direction
        self._out = b""

    def write(self, data: "bytes | memoryview") -> None:
        """Queue `data`; it leaves in `drain`."""
        self._out += bytes(data)

    async def drain(self) -> None:
        """Send what was queued."""
        data = self._out
        self._out = b""
        if not data:
            return
        if self._direction is not None:
            self._direction(1)
        self._uart.write(data)
        await asyncio.sleep(max(0, len(data) - 2) * _BITS_PER_CHARACTER / self._baudrate)
        if self._direction is not None:
            self._uart.flush()
            self._direction(0)

    def close(self) -> None:
        """Give the UART up."""
        self._uart.deinit()


class Microcontroller:
    """A board with `machine` and `network`. Subclasses name it and its reset causes."""

    name = ""
    RESET_CAUSES: "dict[str, int]" = {}  # attribute of `machine` -> reset cause of the catalogue

    def __init__(self) -> None:
        self._wlan = network.WLAN(network.STA_IF)
        self._power_good: "Any | None" = None

    def ticks_ms(self) -> int:
        """Return milliseconds that wrap at 2**30."""
        ticks: "Any" = time.ticks_ms()  # a type of its own in the stubs
        wrapped: int = ticks
        return wrapped

    def ticks_diff(self, later: int, earlier: int) -> int:
        """Return `later - earlier` across a wrap."""
        return time.ticks_diff(later, earlier)

    def open_uart(self, bus: "dict[str, Any]") -> "tuple[Any, Any]":
        """Open a bus's UART; return an asyncio reader and a writer. Raises OSError or ValueError."""
        options = {"rxbuf": _RX_BYTES, "txbuf": _TX_BYTES}
        for key, pin in (("tx", bus["tx_pin"]), ("rx", bus["rx_pin"])):
            if pin is not None:
                options[key] = pin
        parity = {"none": None, "even": 0, "odd": 1}[bus["parity"]]
        uart = machine.UART(bus["port"], bus["baudrate"], bits=8, parity=parity, stop=1, **options)
        direction = None
        if bus["direction_pin"] is not None:
            direction = machine.Pin(bus["direction_pin"], machine.Pin.OUT, value=0)
        return asyncio.StreamReader(uart), UartWriter(uart, bus["baudrate"], direction)

    def reset_cause(self) -> int:
        """Return why the board started, in the catalogue's codes."""
        cause = machine.reset_cause()
        hardware = 0
        for name, code in self.RESET_CAUSES.items():
            if getattr(machine, name, None) == cause:
                hardware = code
        return take_cause(hardware)

    def watchdog(self, timeout_ms: int) -> "Any":
        """Start the hardware watchdog; it cannot be stopped again."""
        return machine.WDT(timeout=timeout_ms)

    def rssi_dbm(self) -> "int | None":
        """Return the signal strength, None while there is no connection."""
        if not self._wlan.isconnected():
            return None
        return max(-126, min(0, self._wlan.status("rssi")))

    async def connect_network(self, config: "dict[str, Any]") -> None:
        """Connect to the Wi-Fi network unless connected. Raises OSError."""
        wlan = self._wlan
        if wlan.isconnected():
            return
        if config["hostname"]:
            network.hostname(config["hostname"])
        wlan.active(True)
        wlan.connect(config["ssid"], config["password"])
        started = time.ticks_ms()
        while not wlan.isconnected():
            if time.ticks_diff(time.ticks_ms(), started) > _CONNECT_MS_MAX:
                wlan.disconnect()
                raise OSError("no Wi-Fi network %s" % config["ssid"])
            await asyncio.sleep(0.1)

    async def resolve(self, host: str, port: int) -> "tuple[int, Any]":
        """Return family and address of a name; blocks for as long as the resolver takes. Raises OSError."""
        return await resolve(host, port)

    def power_good(self, pin: "int | None") -> "bool | None":
        """Return whether the supply is good, None where no input is wired."""
        if pin is None:
            return None
        if self._power_good is None:
            self._power_good = machine.Pin(pin, machine.Pin.IN)
        return bool(self._power_good())

    def unique_id(self) -> str:
        """Return the chip's number in hexadecimal."""
        return binascii.hexlify(machine.unique_id()).decode()

    def restart(self, cause: int) -> None:
        """Reset the board; the next boot reports `cause`."""
        note_cause(cause)
        machine.reset()
