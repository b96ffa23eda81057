"""A database that is damaged, or that cannot be asked: what becomes of the books."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiomqtt
from click.testing import CliRunner

from swapline_bench import services
from swapline_bench.gateway_process import to_toml
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.derivation import BOOKS_VERSION, Derivation
from swapline_gateway.battery.store_duckdb import DuckdbStore
from swapline_gateway.battery.table import ACKNOWLEDGEMENT, BOOK_STATE, MODULE_HOUR, STAY
from swapline_gateway.cli import main
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.error import EXIT_UNAVAILABLE
from swapline_gateway.sinks.duckdb_file import DuckdbSink
from tests.gateway.battery.swap_story import MODULES, tell
from tests.gateway.battery.test_keeper_crash import send
from tests.gateway.conftest import MakeGateway
from tests.gateway.written import write

PATIENCE_S = 60.0


def damage_header(path: Path) -> None:
    """Make the checksums of the file's headers wrong."""
    data = bytearray(path.read_bytes())
    for page in range(3):
        data[page * 4096 + 3000] ^= 0xFF
    path.write_bytes(data)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.05)


def test_damaged_file_keeps_acknowledgements_and_has_its_books_derived_again(tmp_path: Path) -> None:
    path = tmp_path / "swapline.duckdb"
    tags = {"fleet": "test", "node": "van-001", "bay": "1", "code": "3"}
    said = ACKNOWLEDGEMENT.row(1_800_000_000_000, tags, said_by="Ada", note="seen")
    with closing(DuckdbSink(DuckdbConfig(path=path))) as sink:
        sink.open()
        for teller in tell():
            write(sink, teller.source, *teller.frames)
        store = DuckdbStore(sink.cursor)
        derivation = Derivation(store)
        for module in MODULES:
            _, end = derivation.whole(module, None)
            assert end is None
        derivation.mark_up_to_date()
        assert not derivation.is_outdated()
        store.put([said])
        before = [store.read(table) for table in (MODULE_HOUR, STAY)]
        assert all(before)
    damage_header(path)
    with closing(DuckdbSink(DuckdbConfig(path=path))) as sink:
        sink.open()
        assert list(tmp_path.glob("*.damaged-*"))
        store = DuckdbStore(sink.cursor)
        assert store.repair_count() == 1
        assert store.read(ACKNOWLEDGEMENT) == [said]
        assert Derivation(store).is_outdated()
        assert [store.read(table) for table in (MODULE_HOUR, STAY)] == before


def test_books_of_another_version_are_outdated(tmp_path: Path) -> None:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as sink:
        sink.open()
        store = DuckdbStore(sink.cursor)
        derivation = Derivation(store, Books(store))
        assert derivation.is_outdated()
        derivation.mark_up_to_date()
        assert not derivation.is_outdated()
        store.put([BOOK_STATE.row(0, {"book": "all"}, version=BOOKS_VERSION - 1, repair_count=0)])
        assert derivation.is_outdated()


async def test_database_without_influxql_takes_frames_and_has_no_books(
    make_gateway: MakeGateway, broker: services.Server, tmp_path: Path
) -> None:
    path = tmp_path / "asked.toml"
    async with services.victoria_metrics() as server:
        sink = {"type": "influxdb2", "url": server.url}
        path.write_text(to_toml({"sink": sink}))
        async with make_gateway(sink=sink) as gateway, aiomqtt.Client(broker.host, broker.port) as client:
            van, _ = tell()
            node = await send(client, van)
            await node.send_until_acknowledged()
            await until(lambda: gateway.figures.frames_stored == len(van.frames))
            await until(lambda: bool(gateway.keeper.figures.off))
            assert "InfluxQL" in gateway.keeper.figures.off
            assert not gateway.keeper.figures.errors
        for words in (
            ["module", "X"],
            ["holder", "f/n"],
            ["warnings"],
            ["alarms"],
            ["missing"],
            ["custody", "rebuild"],
        ):
            asked = await asyncio.to_thread(CliRunner().invoke, main, [*words, "--config", str(path)])
            assert (asked.exit_code, "cannot be asked for them in InfluxQL" in asked.stderr) == (EXIT_UNAVAILABLE, True)


async def test_gateway_that_finds_rows_without_books_derives_them(
    make_gateway: MakeGateway, broker: services.Server, tmp_path: Path
) -> None:
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as sink:
        sink.open()
        for teller in tell():
            write(sink, teller.source, *teller.frames)
    del broker  # the gateway's own
    async with make_gateway() as gateway:
        await until(lambda: gateway.keeper.figures.hours_derived >= 2 * 3)
    with closing(DuckdbSink(DuckdbConfig(path=tmp_path / "swapline.duckdb"))) as sink:
        sink.open()
        assert len(Books(DuckdbStore(sink.cursor)).custody.swaps()) == 2
