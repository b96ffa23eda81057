"""`swapline bench alarm` measures what it says: every change once, as message and row, beside a backlog."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.backlog_fleet import BacklogNode, Figures
from swapline_bench.bench_alarm import Load, quantiles_ms, run
from swapline_gateway.ingest import Sender, examine_message
from swapline_wire import topic

pytestmark = pytest.mark.promise("alarm to broker within 500 ms p99 and to the database within 1 s p99")
CHANGES = 24
MACHINE_S_MAX = 10.0  # of a machine that runs other tests beside; `swapline bench alarm` states the figures


async def test_every_change_is_a_message_and_a_row_once_while_others_drain_their_backlog(
    mosquitto: None, influxd: services.InfluxServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    del mosquitto, influxd  # only: they are installed
    result = await run(tmp_path, Load(changes=CHANGES, nodes=20, frames=20_000), lambda _: None)
    record_property("bench alarm", json.dumps(result))
    assert result["alarms"] >= CHANGES
    assert set(result["by_source"]) >= {"jbd", "seplos_v3", "vcu"}
    for figures in (result["mqtt"], result["database"]):
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"] < 1000 * MACHINE_S_MAX
    assert result["mqtt"]["p50_ms"] <= result["database"]["p50_ms"]
    assert result["backlog"]["acknowledged"] > 0
    assert result["backlog"]["left"] > 0


def test_quantiles_are_nearest_ranks_in_milliseconds() -> None:
    assert quantiles_ms([n / 1000 for n in range(1, 201)]) == {"p50_ms": 100, "p99_ms": 198, "max_ms": 200}


async def test_backlog_is_of_readable_frames_each_once_and_sent_again_until_acknowledged(mosquitto: None) -> None:
    del mosquitto
    with services.mosquitto() as broker:
        figures = Figures()
        node = BacklogNode("f", 5, 60, figures)
        seen: list[int] = []
        async with aiomqtt.Client(broker.host, broker.port) as listener:
            await listener.subscribe(topic.format_topic("f", "+", topic.UP), 1)
            async with aiomqtt.Client(broker.host, broker.port) as client:
                running = asyncio.create_task(node.run(client))
                async with asyncio.timeout(30):
                    async for incoming in listener.messages:
                        found = examine_message(Sender("f", "node-0005"), incoming.payload)
                        assert not found.spoiled
                        seen += [item.key[1] for item in found.items]
                        if len(seen) == 60:
                            break
                running.cancel()
                await asyncio.wait([running])
    assert sorted(seen) == list(range(1, 61))
    assert (node.left, figures.sent, figures.acknowledged) == (60, 60, 0)
