"""Which of a holder's buses goes over which of the bench file's lines."""

import asyncio
from pathlib import Path

from swapline_bench.desk.bench_file import BenchFile, DeskError, Line
from swapline_bench.replay import read_nmea
from swapline_bench.rig import Laid
from swapline_bench.serial_line import Face, SerialLine


class Wiring:
    """The lines of one bench. `lay` is a rig's `Lay`."""

    def __init__(self, file: BenchFile) -> None:
        self._file = file
        self._laid: dict[str, tuple[str, SerialLine]] = {}  # line of the file -> bus and line

    def lay(self, holder: str, bus: str, *, baudrate: int, parity: str) -> Laid:
        """Lay a bus on the line that the bench file has for it.

        Raises `DeskError` where there is none or another bus has it, `OSError` where it cannot be opened.
        """
        line = self._line_for(bus)
        if line is None:
            raise DeskError(
                f"Bench {self._file.bench.name} has no line for {bus}: "
                f"add a [[lines]] with its device to {self._file.path}."
            )
        if line.name in self._laid:
            raise DeskError(
                f"Line {line.name} of bench {self._file.bench.name} is taken by {self._laid[line.name][0]}, and {bus} "
                "needs it as well: give one of them a line of its own, or leave it out."
            )
        port = None if line.is_pty else line.adapter
        laid = SerialLine(f"{holder} {bus}", baudrate=baudrate, parity=parity, port=port)
        self._laid[line.name] = (bus, laid)
        node_port = laid.path if line.node_port is None else line.node_port
        return Laid(laid, {"port": node_port, **line.pins})

    def has_line_for(self, bus: str) -> bool:
        """Say whether the bench has a line for a bus."""
        return self._line_for(bus) is not None

    def recorded_receiver(self) -> Face | None:
        """Return a receiver that plays the bench file's log, None where it is synthetic."""
        gnss = self._file.gnss
        return None if gnss is None or gnss.file is None else RecordedReceiver(gnss.file)

    async def close(self) -> None:
        """Take all lines away."""
        for _, line in self._laid.values():
            await line.close()
        self._laid.clear()

    def _line_for(self, bus: str) -> Line | None:
        if bus.startswith("bay"):
            return self._file.line_of("bms", int(bus.removeprefix("bay")))
        if bus == "vcu":
            return self._file.line_of("vcu")
        if bus == "chargers":
            return self._file.line_of("slot_charger")
        if bus == "meter":
            return self._file.line_of("sdm630")
        assert bus == "gnss", bus
        return self._file.gnss_line


class RecordedReceiver:
    """A receiver that says what a log of NMEA sentences says, over and over."""

    def __init__(self, path: Path) -> None:
        self._chunks = read_nmea(path)

    async def run(self, line: SerialLine) -> None:
        """Speak until cancelled."""
        while True:
            for chunk in self._chunks:
                await asyncio.sleep(chunk.pause_s)
                await line.write(chunk.data)
