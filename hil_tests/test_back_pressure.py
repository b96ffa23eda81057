"""A gateway whose spool is full, because its database is gone, takes nothing more: a real node holds what it seals.

Another node's frames have filled the spool to its limit. When the database is back, everything is stored, once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiomqtt

from swapline_bench import services
from swapline_bench.database import Influx1Database
from swapline_bench.end_to_end import FLEET, EndToEnd
from swapline_bench.frame_source import FrameSource, KeepingNode
from swapline_bench.gateway_process import GatewayProcess
from swapline_bench.journal_reader import read_journal
from swapline_bench.link_fault_path import LinkedNode
from swapline_bench.link_proxy import LinkProxy
from swapline_wire.decode import decode

SPOOL_BYTES = 65536
NEIGHBOUR_FRAMES = 1000  # twice what the spool takes
HELD_EPOCHS = 10  # of a second, sealed and sent while nobody takes them
NODE, NEIGHBOUR = "held", "neighbour"


async def fill_until_the_node_is_refused(path: EndToEnd, gateway: GatewayProcess, neighbour: KeepingNode) -> None:
    await neighbour.send()
    await asyncio.to_thread(gateway.wait_for_figures, lambda figures: figures["refused"].get("spool_full", 0) > 0)
    heard = path.tap[NODE]
    count = heard.row_count("position")
    await path.tap.wait(lambda: heard.row_count("position") >= count + HELD_EPOCHS, "rows that nobody takes")
    assert not heard.is_acknowledged()
    assert neighbour.unacknowledged


async def test_node_holds_what_a_full_spool_refuses_until_the_database_is_back(
    mosquitto: None, require: Callable[[str], Path], tmp_path: Path
) -> None:
    del mosquitto
    require("influxd")
    folder = tmp_path / "influxdb"
    folder.mkdir()
    with services.influxd(folder) as influx:
        async with EndToEnd(tmp_path) as path:
            broker = path.broker
            settings = {"spool": {"limit_bytes": SPOOL_BYTES}, "sink": {"type": "influxdb1", "url": influx.url}}
            link = await path.stack.enter_async_context(LinkProxy(broker.host, broker.port))
            node = await LinkedNode(path, NODE, link).add()
            client = await path.stack.enter_async_context(aiomqtt.Client(broker.host, broker.port))
            neighbour = KeepingNode(client, FrameSource(fleet=FLEET, node=NEIGHBOUR))
            neighbour.frames = {seq: neighbour.source.frame() for seq in range(1, NEIGHBOUR_FRAMES + 1)}
            await neighbour.acks.begin()
            with GatewayProcess.unlimited(tmp_path, broker_port=broker.port, settings=settings) as gateway:
                await node.start()
                influx.kill()
                await fill_until_the_node_is_refused(path, gateway, neighbour)
                await asyncio.to_thread(influx.start)
                await neighbour.send_until_acknowledged()
                await node.receiver.finish()
                await node.wait_content()
                await path.stop()
                await asyncio.to_thread(gateway.wait_for_figures, lambda figures: not figures["spool"]["frames"])
                assert gateway.stop() == 0
        database = Influx1Database(influx.url, "swapline")
        stored = Counter(int(row["seq"]) for row in database.rows("frames", NODE))
        assert set(stored.values()) == {1}
        journal = read_journal(tmp_path / NODE / "journal")
        late = set(range(1, journal.next_seq)) - stored.keys()  # the last words of the node's own health
        assert [decode(journal.frames[seq]).stream.name for seq in sorted(late)].count("position") == 0
        # A second is a speed, so each is told from the others; the first epoch may have been heard in half.
        speeds = [speed for row in database.rows("position", NODE) if (speed := row.get("speed_kmh")) is not None]
        assert Counter(speeds) == Counter(epoch.speed_kmh for epoch in node.receiver.said[-len(speeds) :])
        assert len(speeds) > HELD_EPOCHS
        assert Counter(int(row["seq"]) for row in database.rows("frames", NEIGHBOUR)) == Counter(list(neighbour.frames))
