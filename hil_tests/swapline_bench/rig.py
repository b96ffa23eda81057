"""A holder on the desk: its serial lines with faces, and the node that reads them.

A van has a line a bay, one to its controller and one from its GNSS receiver; a station has a line a slot, one bus with
all chargers and one with the grid meter. A van whose last module leaves loses power, and so does its node.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swapline_bench.faces import gnss, jbd, sdm630, seplos_v3, slot_charger, vcu
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
BMS_DRIVERS = {"seplos_v3": (seplos_v3.BAUDRATE, 1), "jbd": (jbd.BAUDRATE, 0)}  # driver -> baud rate, unit address


class HolderRig:
    """Lines, faces and node of one van or station."""

    def __init__(self, name: str, kind: str, folder: Path, statements: StatementLog | None = None) -> None:
        self.name = name
        self.kind = kind
        self.folder = folder
        self.statements = statements
        self.node: NodeProcess | None = None
        self.fixtures: list[tuple[str, int]] = []  # stream and bay of the devices that are always there
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
        line = SerialLine(f"{self.name} {name}", baudrate=baudrate, parity=parity)
        self._plugs.append((line, face))
        bus = {"name": name, "port": line.path, "baudrate": baudrate, "parity": parity, "devices": devices}
        self._buses.append(bus)
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

    async def hush(self) -> None:
        """Let all faces fall silent, and wait until the node, if it runs, has taken in what they said.

        Before a node is stopped in order: it ends the polls that are under way, and nobody declares those lost. Raises
        `TimeoutError` for a node that runs and does not read.
        """
        self.unplug()
        async with asyncio.timeout(HUSH_S_MAX):
            while self._is_heard() and any(line.unread_bytes() for line, _ in self._plugs):  # noqa: ASYNC110
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
    return ModbusFace({1: seplos_v3.SeplosV3(module)})


def _add_bay(rig: HolderRig, bay: int, driver: str, module: Callable[[], Module | None]) -> None:
    baudrate, address = BMS_DRIVERS[driver]
    device = {"driver": driver, "address": address, "bay": bay}
    face = bms_face(driver, module)
    if rig.statements:
        face.witness = bms_witness(driver, Scribe(rig.statements, rig.name, bay), module)
    rig.add_line(f"bay{bay}", face, [device], baudrate=baudrate)


def make_van_rig(
    van: Van, folder: Path, *, bms_driver: str = "seplos_v3", statements: StatementLog | None = None
) -> HolderRig:
    """Return the rig of a van; its bays' docking interfaces all speak `bms_driver`.

    With `statements`, the devices write down what they say.
    """
    rig = HolderRig(van.name, "van", folder, statements)
    for index in range(len(van.bays)):
        _add_bay(rig, index + 1, bms_driver, lambda index=index: van.bays[index])  # type: ignore[misc]
    unit = vcu.Vcu(van)
    controller = ModbusFace({1: unit})
    receiver = gnss.GnssFace(van)
    if statements:
        controller.witness = MapWitness(Scribe(statements, rig.name), "vehicle", unit)
        receiver.witness = GnssWitness(Scribe(statements, rig.name))
    rig.add_line("vcu", controller, [{"driver": "vcu", "address": 1}], baudrate=vcu.BAUDRATE, parity="even")
    rig.add_line("gnss", receiver, [{"driver": "gnss"}], baudrate=gnss.BAUDRATE)
    rig.fixtures = [("vehicle", 0), ("position", 0)]
    return rig


def make_station_rig(station: Station, folder: Path, *, statements: StatementLog | None = None) -> HolderRig:
    """Return the rig of a station. With `statements`, the devices write down what they say."""
    rig = HolderRig(station.name, "station", folder, statements)
    for index, slot in enumerate(station.slots):
        _add_bay(rig, index + 1, "seplos_v3", lambda slot=slot: slot.module)  # type: ignore[misc]
    units = {bay: slot_charger.SlotCharger(slot) for bay, slot in enumerate(station.slots, 1)}
    chargers = ModbusFace(units)
    meter = ModbusFace({1: sdm630.Sdm630(station.meter)})
    if statements:
        scribes = {bay: Scribe(statements, rig.name, bay) for bay in units}
        chargers.witness = UnitWitnesses({bay: MapWitness(scribes[bay], "slot", unit) for bay, unit in units.items()})
        meter.witness = MeterWitness(Scribe(statements, rig.name), station.meter)
    devices = [{"driver": "slot_charger", "address": bay, "bay": bay} for bay in units]
    rig.add_line("chargers", chargers, devices, baudrate=slot_charger.BAUDRATE, parity="even")
    rig.add_line("meter", meter, [{"driver": "sdm630", "address": 1}], baudrate=sdm630.BAUDRATE)
    rig.fixtures = [("meter", 0), *(("slot", bay) for bay in units)]
    return rig
