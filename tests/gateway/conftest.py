import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import services
from swapline_gateway import config as configuration
from swapline_gateway.gateway import Gateway

MakeGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(scope="module")
def broker() -> Iterator[services.Server]:
    with services.mosquitto() as server:
        yield server


@pytest.fixture
def make_gateway(broker: services.Server, tmp_path: Path) -> MakeGateway:
    """Return what runs a gateway in this process, with its files in the test's folder, until the block ends."""

    @contextlib.asynccontextmanager
    async def run(**tables: dict[str, Any]) -> AsyncIterator[Gateway]:
        raw = {
            "mqtt": {"port": broker.port, **tables.pop("mqtt", {})},
            "sink": {"type": "duckdb"},
            "state": {"interval_s": 0.05},
            **tables,
        }
        gateway = Gateway(configuration.parse(raw, source="test", folder=tmp_path))
        running = asyncio.create_task(gateway.run())
        ready = asyncio.create_task(gateway.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            ready.cancel()
            running.result()
        try:
            yield gateway
        finally:
            gateway.stop()
            await running

    return run
