"""What the bench stages networks with beside its proxy: silent brokers, silent name servers, links of packets."""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from swapline_bench import packet_link
from swapline_bench.blackhole_broker import BlackholeBroker
from swapline_bench.link_proxy import Impairment
from swapline_bench.name_server import PORT, Mood, NameServer
from swapline_bench.packet_link import PacketLink, PacketLinkError
from swapline_bench.services import MQTT_CONNECT

SOON_S = 30.0
SILENCE_S = 0.3  # nothing has come for so long: nothing will
TYPE_A, TYPE_AAAA = 1, 28


async def test_blackhole_broker_acknowledges_and_delivers_nothing() -> None:
    async with BlackholeBroker() as hole, aiomqtt.Client(hole.host, hole.port) as client:
        await client.subscribe("a/#", qos=1)
        for _ in range(3):
            await client.publish("a/b", b"x", qos=1, timeout=SOON_S)
        await client.publish("a/b", bytes(300), qos=1, timeout=SOON_S)
        assert hole.publishes == 4
        assert hole.connections == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await anext(aiter(client.messages))


async def test_blackhole_broker_answers_pings() -> None:
    async with BlackholeBroker() as hole:
        reader, writer = await asyncio.open_connection(hole.host, hole.port)
        writer.write(MQTT_CONNECT + b"\xc0\x00")
        assert await asyncio.wait_for(reader.readexactly(6), SOON_S) == b"\x20\x02\x00\x00\xd0\x00"
        writer.close()


async def test_mute_broker_takes_everything_and_answers_nothing() -> None:
    async with BlackholeBroker(is_mute=True) as hole:
        reader, writer = await asyncio.open_connection(hole.host, hole.port)
        writer.write(MQTT_CONNECT)
        async with asyncio.timeout(SOON_S):
            while hole.bytes_swallowed < len(MQTT_CONNECT):  # noqa: ASYNC110 (a counter, no event)
                await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SILENCE_S)
        assert hole.bytes_swallowed == len(MQTT_CONNECT)
        writer.close()


def question(name: str, kind: int = TYPE_A) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


async def ask(host: str, data: bytes, timeout_s: float = SOON_S) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.setblocking(False)
        asker.connect((host, PORT))
        await loop.sock_sendall(asker, data)
        return await asyncio.wait_for(loop.sock_recv(asker, 512), timeout_s)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Run one at an address of its own: port 53 of 127.0.0.1 may be somebody's."""
    async with NameServer("127.53.53.53", {"broker.example": "198.18.0.1"}) as names:
        yield names


needs_root = pytest.mark.skipif(not packet_link.is_available(), reason="port 53 and network namespaces need root")


@needs_root
async def test_name_server_knows_its_names_and_no_others() -> None:
    async with name_server():
        answer = await ask("127.53.53.53", question("Broker.Example"))
        assert struct.unpack_from(">HHHHHH", answer) == (7, 0x8180, 1, 1, 0, 0)
        assert answer.endswith(socket.inet_aton("198.18.0.1"))
        no_address = await ask("127.53.53.53", question("broker.example", TYPE_AAAA))
        assert struct.unpack_from(">HHHHHH", no_address) == (7, 0x8180, 1, 0, 0, 0)
        unknown = await ask("127.53.53.53", question("other.example"))
        assert struct.unpack_from(">HHHHHH", unknown) == (7, 0x8183, 1, 0, 0, 0)


@needs_root
async def test_name_server_can_fail_and_fall_silent() -> None:
    async with name_server() as names:
        names.mood = Mood.FAILING
        assert struct.unpack_from(">HH", await ask("127.53.53.53", question("broker.example"))) == (7, 0x8182)
        names.mood = Mood.SILENT
        with pytest.raises(TimeoutError):
            await ask("127.53.53.53", question("broker.example"), SILENCE_S)
        assert names.questions == 2


# The far end of a packet link: connects, sends so many zero bytes and waits until the other side closes.
SENDER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as end:
    end.sendall(bytes(int(sys.argv[3])))
    end.shutdown(socket.SHUT_WR)
    end.recv(1)
"""


async def send_through(packets: PacketLink, count: int) -> float:
    """Send `count` bytes from the namespace and return how long they took to arrive."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[int] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(len(await reader.read()))
        writer.close()

    server = await asyncio.start_server(serve, packets.host, limit=count + 1)
    port = server.sockets[0].getsockname()[1]
    start_s = loop.time()
    command = [*packets.prefix, sys.executable, "-I", "-c", SENDER, packets.host, str(port), str(count)]
    sender = await asyncio.create_subprocess_exec(*command)
    try:
        assert await asyncio.wait_for(arrived, SOON_S) == count
        return loop.time() - start_s
    finally:
        if sender.returncode is None and not arrived.done():
            sender.kill()
        await sender.wait()
        server.close()


@needs_root
async def test_packet_link_carries_tcp_and_is_gone_afterwards() -> None:
    async with PacketLink() as packets:
        await send_through(packets, 200_000)
        assert packets.packets > 100
        assert packets.packets_lost == 0
    with pytest.raises(PacketLinkError, match=packets.name):
        await packet_link.ip("-n", packets.name, "link", "show")


@needs_root
async def test_packet_link_loses_and_tcp_sends_again() -> None:
    async with PacketLink(seed=3) as packets:
        packets.impair(Impairment(loss=0.1))
        await send_through(packets, 40_000)
        assert packets.packets_lost > 0


@needs_root
async def test_packet_link_delays_and_throttles() -> None:
    async with PacketLink() as packets:
        packets.impair(Impairment(delay_s=0.2, rate_bit_s=400_000))
        assert await send_through(packets, 50_000) >= 0.6 + 1.0  # handshake and data one way each; 1 s for the bytes


@needs_root
async def test_packet_link_that_is_silent_carries_nothing() -> None:
    async with PacketLink() as packets:
        packets.impair(Impairment(is_silent=True))
        sending = asyncio.create_task(send_through(packets, 10))
        async with asyncio.timeout(SOON_S):
            while packets.packets_lost < 2:  # noqa: ASYNC110 (the kernel's attempts, no event)
                await asyncio.sleep(0.05)
        assert not sending.done()
        packets.heal()
        await sending
