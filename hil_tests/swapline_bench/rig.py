"""A holder on the desk: its serial lines with faces, and the node that reads them.

A van has a line a bay, one to its controller and one from its GNSS receiver; a station has a line a slot, one bus with
all chargers and one with the grid meter. A van whose last module leaves loses power, and so does its node.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from swapline_bench.faces import gnss, jbd, jbd_up16s, jk, sdm630, seplos_v3, slot_charger, vcu
from swapline_bench.faces.modbus import ModbusFace
from swapline_bench.faces.witness import Scribe, UnitWitnesses
from swapline_bench.faces.witness_bms import bms_witness
from swapline_bench.faces.witness_device import GnssWitness, MapWitness, MeterWitness
from swapline_bench.module import Module
from swapline_bench.node_process import NodeProcess
from swapline_bench.serial_line import Face, RequestFace, SerialLine
from swapline_bench.statement import StatementLog
from swapline_bench.station import Station
from swapline_bench.van import Van

HUSH_S_MAX = 10.0
LOOK_S = 0.02
SEAL_INTERVAL_MS = 2000  # people watch: a row is seen 2 s later at most
JOURNAL_LIMIT_BYTES = 1_500_000
STREAMS = {"van": ("module", "cells", "vehicle", "position"), "station": ("module", "cells", "slot", "meter")}
BMS_DRIVERS = {  # driver -> baud rate, unit address
    "seplos_v3": (seplos_v3.BAUDRATE, 1),
    "jbd": (jbd.BAUDRATE, 0),
    "jbd_up16s": (jbd_up16s.BAUDRATE, 1),
    "jk": (jk.BAUDRATE, 0),
}


class Laid(NamedTuple):
    """A line that was laid: the bench's end of it, and what the node's configuration says of its own (port, pins)."""

    line: SerialLine
    node_end: dict[str, Any]


class Lay(Protocol):
    """Lays a line of a rig: `bus` is its name there (`bay1`, `vcu`, `gnss`, `chargers`, `meter`)."""

    def __call__(self, holder: str, bus: str, *, baudrate: int, parity: str) -> Laid:
        """Return the line. Raises `OSError` where it cannot be opened."""


def lay_pty(holder: str, bus: str, *, baudrate: int, parity: str) -> Laid:
    """Lay a pseudo terminal."""
    line = SerialLine(f"{holder} {bus}", baudrate=baudrate, parity=parity)
    return Laid(line, {"port": line.path})


class HolderRig:
    """Lines, faces and node of one van or station. Its lines are pseudo terminals unless `lay` gives others."""

    def __init__(
        self, name: str, kind: str, folder: Path, statements: StatementLog | None = None, *, lay: Lay = lay_pty
    ) -> None:
        self.name = name
        self.kind = kind
        self.folder = folder
        self.statements = statements
        self.node: NodeProcess | None = None
        self.fixtures: list[tuple[str, int]] = []  # stream and bay of the devices that are always there
        self.van: Van | None = None
        self.station: Station | None = None
        self.lines: dict[str, SerialLine] = {}  # by the name of the bus
        self._lay = lay
        self._buses: list[dict[str, Any]] = []
        self._plugs: list[tuple[SerialLine, Face]] = []

    @property
    def journal_folder(self) -> Path:
        """Return the folder of the node's journal."""
        return self.folder / "journal"

    def add_line(
        self, name: str, face: Face, devices: list[dict[str, Any]], *, baudrate: int, parity: str = "none"
    ) -> SerialLine:
        """Lay a line and write it into the node's configuration."""
        line, node_end = self._lay(self.name, name, baudrate=baudrate, parity=parity)
        self.lines[name] = line
        self._plugs.append((line, face))
        self._buses.append({"name": name, **node_end, "baudrate": baudrate, "parity": parity, "devices": devices})
        return line

    def config(self, *, fleet: str, host: str, port: int) -> dict[str, Any]:
        """Return the node's configuration. Where statements are written down, every reading is to become a row."""
        reports = {stream: {"report": "all"} for stream in STREAMS[self.kind]} if self.statements else {}
        return {
            "fleet": fleet,
            "node": self.name,
            "holder": self.kind,
            "link": {"host": host, "port": port},
            "journal": {"path": "journal", "limit_bytes": JOURNAL_LIMIT_BYTES},
            "seal_interval_ms": SEAL_INTERVAL_MS,
            "streams": reports,
            "buses": self._buses,
        }

    def plug(self) -> None:
        """Let all faces speak."""
        for line, face in self._plugs:
            line.attach(face)

    def unplug(self) -> None:
        """Let all faces fall silent; the lines stay."""
        for line, _ in self._plugs:
            line.detach()

    async def hush(self, is_heard: Callable[[], bool] | None = None) -> None:
        """Let all faces fall silent, and wait until the node, if it runs, has taken in what they said.

        Before a node is stopped in order: it ends the polls that are under way, and nobody declares those lost. Raises
        `TimeoutError` for a node that runs and does not read. `is_heard` says whether it runs where it is not `node`.
        """
        self.unplug()
        is_heard = is_heard or self._is_heard
        async with asyncio.timeout(HUSH_S_MAX):
            while is_heard() and any(line.unread_bytes() for line, _ in self._plugs):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def interrupt(self) -> None:
        """Let all devices that are asked fall silent in the middle of a poll: its question stays without an answer.

        So no reading is half of what a device says before and half of what it says when it is plugged in again. Raises
        `TimeoutError` for a node that does not ask.
        """
        self.unplug()
        asked = [line for line, face in self._plugs if isinstance(face, RequestFace)]
        async with asyncio.timeout(HUSH_S_MAX):
            while not all(line.unheard_bytes() for line in asked):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(LOOK_S)

    def _is_heard(self) -> bool:
        return self.node is None or self.node.is_running

    @property
    def faces(self) -> list[Face]:
        """Return the faces on all lines."""
        return [face for _, face in self._plugs]

    async def close(self) -> None:
        """Cut the node's power if it still runs, and take the lines away."""
        if self.node is not None:
            await self.node.cut_power()
        for line, _ in self._plugs:
            await line.close()
        self._plugs.clear()


def bms_face(driver: str, module: Callable[[], Module | None]) -> RequestFace:
    """Return the face of a bay's line for the node's `driver`."""
    if driver == "jbd":
        return jbd.JbdFace(module)
    if driver == "jk":
        return jk.JkFace(module)
    if driver == "jbd_up16s":
        return jbd_up16s.Up16sFace({1: jbd_up16s.Up16s(module)})
    return ModbusFace({1: seplos_v3.SeplosV3(module)})


def _driver_of(drivers: str | Sequence[str], index: int) -> str:
    """Return what a bay's docking interface speaks: the same as all, or what stands at its place."""
    return drivers if isinstance(drivers, str) else drivers[index]


def _add_bay(rig: HolderRig, bay: int, driver: str, module: Callable[[], Module | None]) -> None:
    baudrate, address = BMS_DRIVERS[driver]
    device = {"driver": driver, "address": address, "bay": bay}
    face = bms_face(driver, module)
    if rig.statements:
        face.witness = bms_witness(driver, Scribe(rig.statements, rig.name, bay), module)
    rig.add_line(f"bay{bay}", face, [device], baudrate=baudrate)


def make_van_rig(
    van: Van,
    folder: Path,
    *,
    bms_driver: str | Sequence[str] = "seplos_v3",
    statements: StatementLog | None = None,
    lay: Lay = lay_pty,
    has_controller: bool = True,
    receiver: Face | None = None,
    has_receiver: bool = True,
) -> HolderRig:
    """Return the rig of a van; its bays' docking interfaces all speak `bms_driver`, or each the one of its place.

    With `statements`, the devices write down what they say; a `receiver` of the caller's own does not.
    """
    rig = HolderRig(van.name, "van", folder, statements, lay=lay)
    rig.van = van
    for index in range(len(van.bays)):
        _add_bay(rig, index + 1, _driver_of(bms_driver, index), lambda index=index: van.bays[index])  # type: ignore[misc]
    if has_controller:
        _add_controller(rig, van)
    if has_receiver:
        _add_receiver(rig, van, receiver)
    return rig


def _add_controller(rig: HolderRig, van: Van) -> None:
    unit = vcu.Vcu(van)
    controller = ModbusFace({1: unit})
    if rig.statements:
        controller.witness = MapWitness(Scribe(rig.statements, rig.name), "vehicle", unit)
    rig.add_line("vcu", controller, [{"driver": "vcu", "address": 1}], baudrate=vcu.BAUDRATE, parity="even")
    rig.fixtures.append(("vehicle", 0))


def _add_receiver(rig: HolderRig, van: Van, receiver: Face | None) -> None:
    if receiver is None:
        receiver = gnss.GnssFace(van)
        if rig.statements:
            receiver.witness = GnssWitness(Scribe(rig.statements, rig.name))
    rig.add_line("gnss", receiver, [{"driver": "gnss"}], baudrate=gnss.BAUDRATE)
    rig.fixtures.append(("position", 0))


def make_station_rig(
    station: Station,
    folder: Path,
    *,
    bms_driver: str | Sequence[str] = "seplos_v3",
    statements: StatementLog | None = None,
    lay: Lay = lay_pty,
    has_chargers: bool = True,
    has_meter: bool = True,
) -> HolderRig:
    """Return the rig of a station. With `statements`, the devices write down what they say."""
    rig = HolderRig(station.name, "station", folder, statements, lay=lay)
    rig.station = station
    for index, slot in enumerate(station.slots):
        _add_bay(rig, index + 1, _driver_of(bms_driver, index), lambda slot=slot: slot.module)  # type: ignore[misc]
    if has_chargers:
        _add_chargers(rig, station)
    if has_meter:
        _add_meter(rig, station)
    return rig


def _add_chargers(rig: HolderRig, station: Station) -> None:
    units = {bay: slot_charger.SlotCharger(slot) for bay, slot in enumerate(station.slots, 1)}
    chargers = ModbusFace(units)
    if rig.statements:
        scribes = {bay: Scribe(rig.statements, rig.name, bay) for bay in units}
        chargers.witness = UnitWitnesses({bay: MapWitness(scribes[bay], "slot", unit) for bay, unit in units.items()})
    devices = [{"driver": "slot_charger", "address": bay, "bay": bay} for bay in units]
    rig.add_line("chargers", chargers, devices, baudrate=slot_charger.BAUDRATE, parity="even")
    rig.fixtures += [("slot", bay) for bay in units]


def _add_meter(rig: HolderRig, station: Station) -> None:
    meter = ModbusFace({1: sdm630.Sdm630(station.meter)})
    if rig.statements:
        meter.witness = MeterWitness(Scribe(rig.statements, rig.name), station.meter)
    rig.add_line("meter", meter, [{"driver": "sdm630", "address": 1}], baudrate=sdm630.BAUDRATE)
    rig.fixtures.append(("meter", 0))
