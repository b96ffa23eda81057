"""kill -9 of a real gateway around each commit of its books: afterwards they are what a rebuild makes of the rows."""

import asyncio
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import aiomqtt

from swapline_bench import services
from swapline_bench.frame_source import KeepingNode
from swapline_bench.gateway_process import GatewayProcess
from swapline_gateway import config as configuration
from swapline_gateway.battery.access import open_books
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.hour import HOUR_MS
from swapline_gateway.due import FIGURES
from tests.gateway.battery.swap_story import MODULES, Teller, tell

KILL_AT = Path(__file__).parents[1] / "kill_at.py"
PATIENCE_S = 60.0
SETTINGS = {"battery": {"settle_s": 1}}
KILLS = (
    ("after_sink_commit_before_spool_delete", 1),
    ("before_books_write", 1),
    ("after_books_write", 2),
    ("after_step_before_done", 1),
    ("after_done", 1),
)


def wait_until_derived(gateway: GatewayProcess) -> None:
    """Wait until no hour is due any more: what is left are passports, which wait for company."""
    deadline_s = time.monotonic() + PATIENCE_S
    spool = gateway.folder / "spool.sqlite"
    while True:
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
            (frames,) = connection.execute("SELECT COUNT(*) FROM frame").fetchone()
            (hours,) = connection.execute("SELECT COUNT(*) FROM due WHERE hour_utc_ms <> ?", (FIGURES,)).fetchone()
        if not frames and not hours:
            return
        assert time.monotonic() < deadline_s, f"{frames} frames, {hours} hours wait"
        time.sleep(0.1)


async def send(client: aiomqtt.Client, teller: Teller) -> KeepingNode:
    node = KeepingNode(client, teller.source)
    node.frames = dict(enumerate(teller.frames, 1))
    await node.acks.begin()
    await node.send()
    return node


def check_against_rebuild(books: Books) -> None:
    """Derive everything again: nothing may differ."""
    for module in MODULES:
        span = books.store.span(module)
        assert span is not None
        hours = range(span[0] // HOUR_MS * HOUR_MS, span[1] + 1, HOUR_MS)
        assert not books.hours.refresh(module, hours), "an hour was forgotten"
    figures = books.custody.rebuild(is_check=True)
    assert (figures.rows_changed, figures.swaps) == (0, 2)


async def test_kill_around_any_commit_of_the_books_forgets_nothing(tmp_path: Path) -> None:
    van, station = tell()
    with services.mosquitto() as broker:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            for number, (point, count) in enumerate(KILLS):
                command = [sys.executable, str(KILL_AT), point, str(count), "gateway"]
                doomed = GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=SETTINGS, command=command)
                await asyncio.to_thread(doomed.start)
                if number == 0:
                    nodes = [await send(client, van)]
                elif number == 1:
                    nodes.append(await send(client, station))
                    await nodes[0].send()
                assert await asyncio.to_thread(doomed.wait) == -signal.SIGKILL, point
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=SETTINGS) as gateway:
                for node in nodes:
                    await node.send_until_acknowledged()
                await asyncio.to_thread(wait_until_derived, gateway)
                assert await asyncio.to_thread(gateway.stop) == 0
    config = configuration.load(gateway.config_path)
    with open_books(config, is_writing=True) as books:
        check_against_rebuild(books)
