"""Two gateways on one shared subscription and one InfluxDB keep the books that one gateway keeps."""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import aiomqtt

from swapline_bench import services
from swapline_bench.frame_source import KeepingNode
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import CLAIM, CONTRADICTION, MODULE_HOUR, STAY, SWAP, Row
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.due import FIGURES
from tests.gateway.battery.swap_story import MODULES, tell
from tests.gateway.battery.test_keeper_crash import send

PATIENCE_S = 60.0


def waits(folder: Path) -> int:
    """Count frames and hours that wait in a gateway's spool."""
    with closing(sqlite3.connect(f"file:{folder}/spool.sqlite?mode=ro", uri=True)) as connection:
        (frames,) = connection.execute("SELECT COUNT(*) FROM frame").fetchone()
        (hours,) = connection.execute("SELECT COUNT(*) FROM due WHERE hour_utc_ms <> ?", (FIGURES,)).fetchone()
    return int(frames + hours)


def sink_of(influx: services.InfluxServer, database: str) -> dict[str, Any]:
    return {"type": "influxdb1", "url": influx.url, "database": database}


async def derive(
    folder: Path, influx: services.InfluxServer, database: str, start_ms: int, *, gateways: int
) -> list[int]:
    """Have so many gateways keep the books of the story; return how many frames each took."""
    settings = {
        "sink": sink_of(influx, database),
        "mqtt": {"share_group": "replicas"},
        "battery": {"settle_s": 2},
    }
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(services.mosquitto())
        processes = [
            GatewayProcess.unlimited(folder / f"{database}-{i}", broker_port=broker.port, settings=settings)
            for i in range(gateways)
        ]
        for process in processes:
            await stack.enter_async_context(process)
        client = await stack.enter_async_context(aiomqtt.Client(broker.host, broker.port))
        nodes: list[KeepingNode] = [await send(client, teller) for teller in tell(start_ms)]
        for node in nodes:
            await node.send_until_acknowledged()
        deadline_s = time.monotonic() + PATIENCE_S
        while any(waits(process.folder) for process in processes):
            assert time.monotonic() < deadline_s, [waits(process.folder) for process in processes]
            await asyncio.sleep(0.2)
        return [process.figures()["frames_taken"] for process in processes]


def rows_of(store: InfluxqlStore) -> list[tuple[Any, ...]]:
    """Return all rows of the tables that are derived of rows alone."""

    def plain(row: Row) -> tuple[Any, ...]:
        return (*row.key, sorted(row.fields.items()))

    return [plain(row) for table in (MODULE_HOUR, CLAIM, STAY, SWAP, CONTRADICTION) for row in store.read(table)]


async def test_two_gateways_keep_the_books_that_one_keeps(influx: services.InfluxServer, tmp_path: Path) -> None:
    start_ms = (time.time_ns() // 1_000_000 // 3_600_000 - 6) * 3_600_000
    (all_frames,), shares = await asyncio.gather(
        derive(tmp_path, influx, "alone", start_ms, gateways=1),
        derive(tmp_path, influx, "together", start_ms, gateways=2),
    )
    assert min(shares) > 0
    assert sum(shares) == all_frames
    stores = [
        InfluxqlStore(Influxdb1Config.model_validate(sink_of(influx, database))) for database in ("alone", "together")
    ]
    with closing(stores[0]) as alone, closing(stores[1]) as together:
        rows = rows_of(together)
        assert rows == rows_of(alone)
        assert len(Books(together).custody.swaps()) == 2
        assert {row[2][0] for row in rows if row[0] == "stay"} == set(MODULES)
        assert Books(together).custody.rebuild(is_check=True).rows_changed == 0
