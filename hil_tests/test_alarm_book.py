"""Two gateways on one share and one InfluxDB have one alarm book, whichever of them took a frame or was told."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from swapline_bench import services
from swapline_bench.frame_source import AckListener, FrameSource, row_of
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.services import whole
from swapline_wire.catalogue import ALARM_STREAM

pytestmark = pytest.mark.promise("every replica has the same alarms, and knows who has seen them")
FLEET = "bench"
NODES = 6
SAME_S_MAX = 60.0
Alarms = list[dict[str, Any]]


def replica(folder: Path, broker: services.Server, influxd: services.InfluxServer) -> GatewayProcess:
    settings = {
        "mqtt": {"share_group": "gateways", "fleet": FLEET},
        "sink": {"type": "influxdb1", "url": influxd.url, "database": "alarm_book"},
    }
    return GatewayProcess.unlimited(folder, broker_port=broker.port, settings=settings)


def alarms(gateway: GatewayProcess) -> Alarms:
    with urllib.request.urlopen(f"{gateway.url}/api/alarms", timeout=20) as answer:  # noqa: S310 (our own)
        found: Alarms = json.load(answer)["alarms"]
        return found


async def both(gateways: list[GatewayProcess], condition: Callable[[Alarms], object]) -> Alarms:
    """Wait until all of them say the same, and as wanted."""
    async with asyncio.timeout(SAME_S_MAX):
        while True:
            said = [await asyncio.to_thread(alarms, gateway) for gateway in gateways]
            if all(one == said[0] for one in said) and condition(said[0]):
                return said[0]
            await asyncio.sleep(0.1)


async def tell(client: aiomqtt.Client, node: FrameSource, at_s: int, level: int) -> None:
    row = row_of(ALARM_STREAM, code=1, level=level, signal=7, value=3662, threshold=3650)
    row[2] = 3  # the signal that is called `stream`
    await node.publish(client, node.frame([(at_s * 1000, row)], stream=ALARM_STREAM, bay=1, owner=f"M-{node.node}"))


def acknowledge(gateway: GatewayProcess, alarm: dict[str, Any], by: str) -> dict[str, Any]:
    statement = {name: alarm[name] for name in ("fleet", "node", "bay", "code", "raised_utc_ms")}
    body = json.dumps(statement | {"by": by, "note": ""}).encode()
    request = urllib.request.Request(  # noqa: S310 (our own)
        f"{gateway.url}/api/alarms/acknowledge", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


async def test_replicas_agree_on_alarms_and_acknowledgements_also_after_a_death(
    mosquitto: None, influxd: services.InfluxServer, tmp_path: Path
) -> None:
    del mosquitto
    async with services.mosquitto() as broker, aiomqtt.Client(broker.host, broker.port) as client:
        gateways = [replica(tmp_path / name, broker, influxd) for name in ("a", "b")]
        for gateway in gateways:
            await whole(gateway.start)
        try:
            nodes = [FrameSource(FLEET, f"van-{n:03d}") for n in range(NODES)]
            for node in nodes:
                await tell(client, node, 10, 2)
                await tell(client, node, 40, 3)
            found = await both(gateways, lambda told: len(told) == NODES and all(a["level"] == 3 for a in told))
            said = await asyncio.to_thread(acknowledge, gateways[0], found[0], "Ann")
            again = await asyncio.to_thread(acknowledge, gateways[1], found[0], "Bob")
            assert (said["problem"], again["problem"]) == (None, None)
            found = await both(gateways, lambda told: any(a["acknowledgement"] for a in told))
            assert [a["acknowledgement"]["by"] for a in found if a["acknowledgement"]] == ["Ann"]
            await whole(gateways[0].kill)
            acks = await AckListener(client, nodes[0]).begin()
            await tell(client, nodes[0], 60, 0)
            await acks.wait_for({3})
            await whole(gateways[0].start)
            found = await both(gateways, lambda told: sum(a["cleared_utc_ms"] is None for a in told) == NODES - 1)
            assert len(found) == NODES
            assert [a["acknowledgement"]["by"] for a in found if a["acknowledgement"]] == ["Ann"]
        finally:
            for gateway in gateways:
                await whole(gateway.kill)
