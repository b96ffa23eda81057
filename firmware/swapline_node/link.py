"""Link: the node's one connection to the broker. Connects, retries, sends what the publisher chooses, hears answers.

Everything below only fails; the retrying is here: capped, jittered backoff, every failure counted. QoS 1 publishes are
counted against a window, a quarter of which is kept for live frames; the backlog takes no more of the link than its
delay allows (`backlog_share.py`). A connection is dead when the broker is silent, answers no PUBLISH, or seems to have
lost the subscription.
"""

import asyncio
import json
import random

from micropython import const

from swapline_wire import topic as topics
from swapline_wire.error import WireError
from swapline_wire.message import read_ack

from .backlog_share import BacklogShare
from .connection import open_stream, resolve
from .mqtt import PINGRESP, PUBACK, PUBLISH, SUBACK, Mqtt, MqttError, pack_connect, parse_publish
from .publisher import MESSAGE_BYTES

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .counter import Counters
    from .log import Log
    from .publisher import Publisher
    from .settings import Settings

_CONNECT_S = const(10)  # with TLS twice as long; a link of 2 s delay takes 8 s, and 16 s with TLS
_RESOLVE_S = const(4)  # where it takes longer, the last address known is tried
_PUBACK_MS_MAX = const(20000)  # a broker answers in one round trip; a mobile link may hold a packet for ten seconds
_PUBACK_LIMITS_MAX = const(6)  # so many times longer for one of a queue that moves on: 32 KB at 2.2 kbit/s
_TIMEOUTS_MAX = const(3)  # time limits of the publisher without an acknowledgement: after 20 + 40 + 80 s at most
_OUTBOX_MAX = const(8)
_STABLE_MS = const(10000)  # a connection that lived so long ends the series of failures
IDLE_S = 0.25  # the backlog's rate limit is looked at so often
TimedOut = asyncio.TimeoutError  # MicroPython has it under this name only
_CONNECTION_ERRORS = (OSError, EOFError, MqttError, TimedOut)


class Link:
    """Own the connection. `on_ack(ack)`, `on_down(payload)` and `on_session()` are called from its tasks."""

    def __init__(
        self,
        config: "Settings",
        counters: "Counters",
        log: "Log",
        uptime_ms: "Callable[[], int]",
        *,
        puback_ms_max: int = _PUBACK_MS_MAX,
    ) -> None:
        self.publisher: "Publisher | None" = None
        self.is_connected = False
        self.rtt_ms = 0
        self.on_ack: "Callable[[Any], None]" = _ignore
        self.on_down: "Callable[[bytes], None]" = _ignore
        self.on_session: "Callable[[], None]" = _nothing
        self.connect_network: "Callable[[], Awaitable[None]] | None" = None
        self.resolve: "Callable[[str, int], Awaitable[tuple[int, Any]]]" = resolve
        self._config = config
        self._counters = counters
        self._log = log
        self._uptime_ms = uptime_ms
        self._puback_ms_max = puback_ms_max
        self._topic_live = self._topic(topics.LIVE).encode()
        self._topic_up = self._topic(topics.UP).encode()
        self._topic_status = self._topic(topics.STATUS)
        self._mqtt: "Mqtt | None" = None
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: "Exception | None" = None
        self._unacknowledged: "dict[int, int]" = {}  # packet id -> uptime in ms when it was sent
        self._backlog_bytes: "dict[int, int]" = {}  # packet id -> size of those that carry backlog
        self._share = BacklogShare(MESSAGE_BYTES)
        self._address: "tuple[int, Any] | None" = None
        self._connect_s_min = _CONNECT_S if config.link["tls"] is None else 2 * _CONNECT_S
        self._connect_s = self._connect_s_min  # every other time twice that, until it works
        self._answered_ms = 0
        self._timeouts = 0  # the publisher's, as last looked at
        self._packet_id = 0
        self._connected_ms = 0
        self._heard_ms = 0
        self._pinged_ms = 0
        self._outbox: "list[tuple[str, bytes, bool]]" = []
        self._failures = 0

    def wake(self) -> None:
        """Have the sender look whether there is something to send."""
        self._wake.set()

    def send(self, channel: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue a small message for one of the node's channels; the oldest is discarded when too many wait."""
        if len(self._outbox) == _OUTBOX_MAX:
            self._outbox.pop(0)
            self._log.warning("link", "outbox full, a message is discarded")
        self._outbox.append((self._topic(channel), payload, retain))
        self._wake.set()

    async def run(self) -> None:
        """Connect and stay connected, for ever. Cancelled, it just closes: the last will says that the node is away."""
        backoff_ms = self._config.link["backoff_ms_min"]
        while True:
            self._connected_ms = 0
            try:
                await self._session()
            except _CONNECTION_ERRORS as error:
                self._counters.link_failures += 1
                self._note_failure(error)
            finally:
                self._disconnect()
            if self._connected_ms and self._uptime_ms() - self._connected_ms > _STABLE_MS:
                backoff_ms = self._config.link["backoff_ms_min"]
            await asyncio.sleep(random.randint(backoff_ms // 2, backoff_ms) / 1000)  # noqa: S311 - jitter
            backoff_ms = min(backoff_ms * 2, self._config.link["backoff_ms_max"])

    def _topic(self, channel: str) -> str:
        return topics.format_topic(self._config.fleet, self._config.node, channel)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        text = "%s:%d %s %s" % (self._config.link["host"], self._config.link["port"], type(error).__name__, error)
        if self._failures == 1:
            self._log.warning("link", text)
        else:
            self._log.debug("link", text)

    def _disconnect(self) -> None:
        self.is_connected = False
        if self._mqtt is not None:
            self._mqtt.close()
            self._mqtt = None

    async def _session(self) -> None:
        if self.connect_network is not None:
            await self.connect_network()
        try:
            await asyncio.wait_for(self._connect(), self._connect_s)
        except TimedOut:
            self._connect_s = self._connect_s_min * 2 if self._connect_s == self._connect_s_min else self._connect_s_min
            raise
        except ValueError as error:  # MicroPython's TLS: a certificate that does not verify or cannot be read
            raise MqttError("TLS: %s" % str(error).strip().replace("\n", "; ")) from None
        self._counters.link_connects += 1
        self._log.info("link", "connected to %s:%d" % (self._config.link["host"], self._config.link["port"]))
        self._failures = 0
        self._unacknowledged = {}
        self._backlog_bytes = {}
        self._heard_ms = self._connected_ms = self._answered_ms = self._uptime_ms()
        self._share.restart(self._heard_ms)
        self._ended.clear()
        self._error = None
        self._subscribe()
        self.on_session()
        if self.publisher is not None:
            self.publisher.restart()
        self.is_connected = True
        tasks = [asyncio.create_task(self._guard(part())) for part in (self._receive, self._transmit, self._watch)]
        try:
            await self._ended.wait()
        finally:
            for task in tasks:
                task.cancel()
        if self._error is not None:
            raise self._error

    async def _connect(self) -> None:
        link = self._config.link
        tls = link["tls"]
        family, address = await self._find_broker(link["host"], link["port"])
        if tls is None:
            stream = await open_stream(family, address)
        else:
            name = tls["server_hostname"] or link["host"]
            stream = await open_stream(family, address, context=_tls_context(tls), server_hostname=name)
        self._mqtt = Mqtt(stream, stream)
        await self._mqtt.connect(
            pack_connect(
                "swapline-%s-%s" % (self._config.fleet, self._config.node),
                keepalive_s=link["keepalive_s"],
                will_topic=self._topic_status,
                will=json.dumps({"online": False}).encode(),
                username=link["username"],
                password=link["password"],
            )
        )

    async def _find_broker(self, host: str, port: int) -> "tuple[int, Any]":
        """Return the broker's address; the last one known where the name service does not answer."""
        try:
            found: "tuple[int, Any]" = await asyncio.wait_for(self.resolve(host, port), _RESOLVE_S)
        except (OSError, TimedOut):
            if self._address is None:
                raise
            return self._address
        self._address = found
        return found

    def _subscribe(self) -> None:
        assert self._mqtt is not None
        packet_id = self._next_packet_id()
        self._unacknowledged[packet_id] = self._uptime_ms()  # a broker that never answers it would never bring an ack
        self._mqtt.subscribe(packet_id, [self._topic(topics.ACK), self._topic(topics.DOWN)])

    async def _guard(self, part: "Awaitable[None]") -> None:
        """Run one part of the session; its failure ends the session, and `run` deals with it."""
        try:
            await part
        except _CONNECTION_ERRORS as error:
            self._error = self._error or error
        except Exception as error:
            self._error = self._error or error
            raise
        finally:
            self._ended.set()

    async def _receive(self) -> None:
        mqtt = self._mqtt
        assert mqtt is not None
        while True:
            kind, flags, body = await mqtt.read_packet()
            self._heard_ms = self._uptime_ms()
            if kind == PUBACK and len(body) == 2:
                self._take_puback(body[0] << 8 | body[1])
            elif kind == PUBLISH:
                self._hear(mqtt, flags, body)
            elif kind == SUBACK:
                if len(body) != 4 or b"\x80" in body[2:]:
                    raise MqttError("broker refuses the subscription")
                self._unacknowledged.pop(body[0] << 8 | body[1], None)
            elif kind != PINGRESP:
                raise MqttError("unexpected packet of kind %d" % kind)

    def _take_puback(self, packet_id: int) -> None:
        sent_ms = self._unacknowledged.pop(packet_id, None)
        if sent_ms is not None:
            self._answered_ms = self._heard_ms
            self.rtt_ms = self._heard_ms - sent_ms
            size_bytes = self._backlog_bytes.pop(packet_id, 0)
            if size_bytes:
                self._share.answered(size_bytes, sent_ms, self._heard_ms)
        self._wake.set()

    def _hear(self, mqtt: Mqtt, flags: int, body: bytes) -> None:
        if not body:
            self._log.warning("link", "a message larger than the node can hold was skipped")
            return
        topic, payload, packet_id = parse_publish(flags, body)
        if topic.endswith("/" + topics.ACK):
            try:
                self.on_ack(read_ack(payload))
            except WireError as error:
                self._log.warning("link", "unreadable acknowledgement: %s" % error)
        elif topic.endswith("/" + topics.DOWN):
            self.on_down(payload)
        if packet_id:
            mqtt.acknowledge(packet_id)
        self._wake.set()

    async def _transmit(self) -> None:
        """Send while the window has room: queued small messages first, then frames."""
        mqtt = self._mqtt
        assert mqtt is not None
        while True:
            self._wake.clear()
            while len(self._unacknowledged) < self._config.link["window"] and self._send_one(mqtt):
                await mqtt.drain()
            await mqtt.drain()
            try:
                await asyncio.wait_for(self._wake.wait(), IDLE_S)
            except TimedOut:
                pass  # time to look at the backlog again

    def _send_one(self, mqtt: Mqtt) -> bool:
        if self._outbox:
            topic, payload, retain = self._outbox.pop(0)
            self._publish(mqtt, topic.encode(), payload, retain=retain)
            return True
        publisher = self.publisher
        if publisher is None:
            return False
        message = publisher.next_message(has_backlog_room=self._has_backlog_room())
        if message is None:
            return False
        topic_frames = self._topic_up if publisher.is_backlog else self._topic_live
        packet_id = self._publish(mqtt, topic_frames, message, retain=False)
        if publisher.is_backlog:
            self._backlog_bytes[packet_id] = len(message)
            self._share.sent(len(message))
        return True

    def _has_backlog_room(self) -> bool:
        """Say whether backlog may be sent: some places of the window stay free for what is sealed next."""
        window = self._config.link["window"]
        return len(self._unacknowledged) < window - window // 4 and self._share.has_room()

    def _publish(self, mqtt: Mqtt, topic: bytes, payload: "bytes | memoryview", *, retain: bool) -> int:
        packet_id = self._next_packet_id()
        self._unacknowledged[packet_id] = self._uptime_ms()
        mqtt.publish(topic, payload, packet_id, retain=retain)
        return packet_id

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 65535 + 1
        return self._packet_id

    async def _watch(self) -> None:
        """Ping, and end a session whose other end is silent."""
        mqtt = self._mqtt
        assert mqtt is not None
        keepalive_ms = self._config.link["keepalive_s"] * 1000
        while True:
            await asyncio.sleep(1)
            now_ms = self._uptime_ms()
            if now_ms - self._heard_ms > keepalive_ms + keepalive_ms // 2:
                raise MqttError("broker is silent")
            self._check_pubacks(now_ms)
            self._check_acknowledgements()
            if now_ms - max(self._heard_ms, self._pinged_ms) > keepalive_ms // 2:
                self._pinged_ms = now_ms
                mqtt.ping()
                self._wake.set()

    def _check_pubacks(self, now_ms: int) -> None:
        """Raise MqttError where an answer is overdue. While others come, the link may just be slow."""
        for sent_ms in self._unacknowledged.values():
            waited_ms = now_ms - sent_ms
            if min(waited_ms, now_ms - self._answered_ms) > self._puback_ms_max:
                raise MqttError("broker does not acknowledge")
            if waited_ms > self._puback_ms_max * _PUBACK_LIMITS_MAX:
                raise MqttError("broker does not acknowledge one message")

    def _check_acknowledgements(self) -> None:
        """Where the gateway is not heard, subscribe anew: the broker may have forgotten. Raise MqttError after some."""
        before = self._timeouts
        timeouts = self._timeouts = self.publisher.timeouts if self.publisher is not None else 0
        if timeouts <= before:
            return
        self._log.warning("link", "no acknowledgement within the time limit, %d in a row" % timeouts)
        if timeouts // _TIMEOUTS_MAX > before // _TIMEOUTS_MAX:
            raise MqttError("no gateway acknowledges")
        self._subscribe()
        self._wake.set()


def _ignore(_: "Any") -> None:
    """Stand for a listener that nobody has set."""


def _nothing() -> None:
    """Stand for a listener that nobody has set."""


def _tls_context(tls: "dict[str, Any]") -> "Any":
    """Return an SSL context that verifies the broker and shows the node's certificate. Files are DER."""
    import ssl  # noqa: PLC0415 - 20 KB of heap that a link without TLS does not need

    context: "Any" = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED  # MicroPython's default lets any certificate pass
    context.load_verify_locations(cadata=_read(tls["ca"]))
    if tls["certificate"]:
        context.load_cert_chain(_read(tls["certificate"]), _read(tls["key"]))
    return context


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return bytes(file.read())
