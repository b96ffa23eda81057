"""Parts of a chaos run: what was killed is told from what ended by itself."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from swapline_bench.chaos_parts import GatewayPart, make_broker


@pytest.mark.usefixtures("mosquitto")
async def test_a_gateway_that_ends_by_itself_is_noted_and_started_again_and_is_no_kill(tmp_path: Path) -> None:
    broker = make_broker(tmp_path / "broker")
    tables: dict[str, dict[str, Any]] = {"sink": {"type": "duckdb"}, "http": {"port": 0, "console": False}}
    gateway = GatewayPart("gateway-1", tmp_path / "gateway", tables)
    try:
        await broker.revive()
        gateway.process.tables["mqtt"] = {"host": broker.server.host, "port": broker.server.port, "fleet": "chaos"}
        await gateway.revive()
        await gateway.watch()
        assert await gateway.kill()
        assert not await gateway.kill()
        await gateway.revive()
        assert gateway.ends == []
        os.kill(gateway.process.pid, signal.SIGTERM)
        await asyncio.to_thread(gateway.process.wait)
        await gateway.watch()
        assert gateway.process.is_running
        assert len(gateway.ends) == 1
        assert gateway.ends[0].startswith("gateway-1 ended by itself with 0; its last lines:")
    finally:
        await gateway.kill()
        await broker.close()
