import asyncio

import pytest

from swapline_node.mqtt import (
    PUBLISH,
    Mqtt,
    MqttError,
    encode_length,
    pack_connect,
    pack_publish_head,
    pack_subscribe,
    parse_publish,
)


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += bytes(data)

    async def drain(self) -> None:
        return


def connection(data: bytes) -> Mqtt:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return Mqtt(reader, Sink())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (16384, "808001"), (268435455, "ffffff7f")],
)
def test_length_is_encoded_as_the_standard_says(length: int, encoded: str) -> None:
    assert encode_length(length).hex() == encoded


def test_connect_packet_has_will_and_credentials() -> None:
    packet = pack_connect("id", keepalive_s=30, will_topic="w", will=b"bye", username="u", password="p")  # noqa: S106
    assert packet.hex() == "101c00044d51545404ee001e0002696400017700036279650001750001" + "70"


def test_publish_and_subscribe_packets() -> None:
    assert pack_publish_head(b"a/b", 10, 2, retain=True).hex() == "33090003612f62000a"
    assert pack_subscribe(1, ["a"]).hex() == "820600010001" + "6101"


async def test_refused_connection_says_why() -> None:
    with pytest.raises(MqttError, match="not authorised"):
        await connection(bytes.fromhex("20020005")).connect(b"")


async def test_broker_that_closes_is_an_eof() -> None:
    with pytest.raises(EOFError):
        await connection(b"").connect(b"")


async def test_packet_that_is_too_large_is_read_past() -> None:
    data = b"\x30" + encode_length(70000) + bytes(70000) + bytes.fromhex("20020000")
    mqtt = connection(data)
    assert await mqtt.read_packet() == (PUBLISH, 0, b"")
    assert await mqtt.read_packet() == (2, 0, b"\x00\x00")


async def test_publish_that_is_too_large_is_acknowledged_so_that_the_broker_does_not_wait_for_it() -> None:
    body = bytes.fromhex("0003612f62002a") + bytes(9000)
    reader = asyncio.StreamReader()
    reader.feed_data(b"\x32" + encode_length(len(body)) + body + bytes.fromhex("d000"))
    sink = Sink()
    mqtt = Mqtt(reader, sink)  # type: ignore[arg-type]
    assert await mqtt.read_packet() == (PUBLISH, 2, b"")
    await mqtt.drain()
    assert sink.data.hex() == "4002002a"
    assert (await mqtt.read_packet())[0] == 13


async def test_malformed_length_is_refused() -> None:
    with pytest.raises(MqttError):
        await connection(bytes.fromhex("30ffffffffff01")).read_packet()


def test_publish_is_parsed() -> None:
    assert parse_publish(2, bytes.fromhex("0003612f62000a") + b"hi") == ("a/b", b"hi", 10)
    assert parse_publish(0, bytes.fromhex("0003612f62") + b"hi") == ("a/b", b"hi", 0)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\x09abc", b"\x00\x01a", b"\x00\x01\xff\x00\x01"])
def test_broken_publish_is_an_mqtt_error(body: bytes) -> None:
    with pytest.raises(MqttError):
        parse_publish(2, body)


class SlowWriter:
    """Behaves as MicroPython's stream: `drain` forgets what is written while it waits for room."""

    def __init__(self) -> None:
        self.sent = b""
        self.has_room = asyncio.Event()
        self._out = b""

    def write(self, data: bytes) -> None:
        self._out += bytes(data)

    async def drain(self) -> None:
        data = self._out
        await self.has_room.wait()
        self.sent += data
        self._out = b""


async def test_answers_written_while_a_message_waits_for_room_leave_after_it() -> None:
    writer = SlowWriter()
    mqtt = Mqtt(asyncio.StreamReader(), writer)  # type: ignore[arg-type]
    mqtt.publish(b"a", b"payload", 1)
    draining = asyncio.create_task(mqtt.drain())
    await asyncio.sleep(0)
    mqtt.acknowledge(7)
    mqtt.ping()
    writer.has_room.set()
    await draining
    assert writer.sent == pack_publish_head(b"a", 1, 7, retain=False) + b"payload" + bytes.fromhex("40020007c000")


async def test_broker_that_sends_for_ever_and_reads_nothing_is_given_up() -> None:
    mqtt = Mqtt(asyncio.StreamReader(), SlowWriter())  # type: ignore[arg-type]
    for packet_id in range(512):
        mqtt.acknowledge(packet_id)
    with pytest.raises(MqttError, match="does not read"):
        mqtt.acknowledge(512)
