"""The end of a chaos run: wait until nothing is on its way any more, then ask the witnesses what became of it."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from swapline_bench import chaos_report
from swapline_bench.chaos_parts import GatewayPart, NodePart
from swapline_bench.chaos_report import ChaosReport, Disturbance
from swapline_bench.database import DuckDatabase, Influx1Database
from swapline_bench.journal_reader import JournalContents, JournalError, read_journal
from swapline_bench.oracle import Truth, judge

SETTLE_S_MAX = 240.0
_ASK_AGAIN_S = 1.0
_SAY_AGAIN_S = 10.0
_GATEWAY = "gateway-1"  # DuckDB has one user


class Witness:
    """What was stored. `url` is that of an InfluxDB 1.x; without one, DuckDB in the first gateway's folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    @property
    def database(self) -> Influx1Database | DuckDatabase:
        """Return the database, which may be asked when its gateway has ended (InfluxDB: always)."""
        if self._url:
            return Influx1Database(self._url, "swapline")
        return DuckDatabase(self._folder / _GATEWAY / "swapline.duckdb")

    def stored_seqs(self, node: str) -> set[int]:
        """Return the frames of a node that are stored, while the gateways run."""
        if self._url:
            return {frame.seq for frame in chaos_report.read_frames(self.database, node)}
        with tempfile.TemporaryDirectory() as copy:
            for path in (self._folder / _GATEWAY).glob("swapline.duckdb*"):
                shutil.copy(path, copy)
            frames = chaos_report.read_frames(DuckDatabase(Path(copy) / "swapline.duckdb"), node)
            return {frame.seq for frame in frames}

    def judge(
        self,
        report: ChaosReport,
        journals: Mapping[str, Path],
        truth: Truth,
        disturbances: Sequence[Disturbance],
    ) -> None:
        """Write into `report` what the database, the journals and the oracle say."""
        database = self.database
        stored = {node: chaos_report.read_frames(database, node) for node in journals}
        contents: dict[str, JournalContents] = {}
        for node, folder in journals.items():
            try:
                contents[node] = read_journal(folder)
            except JournalError as error:
                report.problems.append(f"{node}: {error}")
        chaos_report.count_frames(report, contents, stored, database)
        chaos_report.add_recovery(report, chaos_report.measure_recovery(disturbances, stored))
        chaos_report.add_verdict(report, judge(truth, database))
        peaks = [row.get("heap_peak_bytes") or 0 for node in journals for row in database.rows("node", node)]
        report.heap_peak_bytes_max = max(peaks, default=None)


class Settling:
    """Waits until all journals and spools are empty, as far as the database does not have what is in them."""

    def __init__(
        self,
        nodes: Mapping[str, NodePart],
        gateways: Mapping[str, GatewayPart],
        witness: Witness,
        *,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._nodes = nodes
        self._gateways = gateways
        self._witness = witness
        self._on_step = on_step

    async def wait(self, hurrying: asyncio.Event, timeout_s: float = SETTLE_S_MAX) -> list[str]:
        """Return nothing when all has arrived, else what is stuck, in sentences. `hurrying` ends the wait."""
        began_s = said_s = time.monotonic()
        while True:
            stuck = await self._look()
            now_s = time.monotonic()
            if not stuck or hurrying.is_set() or now_s - began_s > timeout_s:
                return stuck
            if now_s - said_s >= _SAY_AGAIN_S:
                said_s = now_s
                self._on_step("settling: " + "; ".join(stuck))
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _look(self) -> list[str]:
        found = []
        for gateway in self._gateways.values():
            figures = await gateway.figures()
            if figures is None:
                found.append(f"{gateway.name} does not answer")
            elif figures["spool"]["frames"]:
                found.append(f"{gateway.name} has {figures['spool']['frames']} frames in its spool")
        for node in self._nodes.values():
            if not node.process.is_running:
                found.append(f"{node.name} does not run")
            elif waiting := await asyncio.to_thread(self._waiting, node):
                found.append(f"{node.name} holds {waiting} frames that are not stored")
        return found

    def _waiting(self, node: NodePart) -> int:
        """Return how many frames a running node holds that the database does not have."""
        for _ in range(3):  # the folder changes while it is read
            with suppress(OSError, JournalError, duckdb.Error):
                held = read_journal(node.rig.journal_folder).frames
                return len(held.keys() - self._witness.stored_seqs(node.name))
        return 1
