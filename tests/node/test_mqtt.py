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
