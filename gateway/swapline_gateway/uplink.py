"""A connection to the broker: the one place that connects, subscribes and publishes, and that retries.

A gateway has two of them. A broker sends a client everything in one line, so a live frame (an alarm) would stand behind
a thousand messages of other nodes' backlog: what is live comes on a connection of its own.

QoS is only transport here. Frames are acknowledged by `ack` messages after they are durable; so a message that the
broker forgets, or an acknowledgement that is lost, costs a repeat and nothing else.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client
from paho.mqtt.reasoncodes import ReasonCode

from swapline_wire import topic

from .alarm.acknowledge import CHANNEL as ACKNOWLEDGED
from .broker_client import BrokerClient, explain_alert
from .config import MqttConfig
from .error import AccessError, ConfigurationError, UnavailableError
from .inbox import Inbox
from .log import get
from .pipeline import PipelineFigures
from .retry import Backoff
from .vitals.broker import SYS, BrokerFigures

# Reason codes of MQTT 5, to which paho translates those of 3.1.1.
_CREDENTIALS_REFUSED = (134, 135, 140)
_REFUSED = 128  # and above, in a SUBACK
_NOT_CONNECTED = "not connected yet"
_CONNECT_S_MAX = 10.0
_DELIVER_S_MAX = 5.0
_UNANSWERED_MAX = 2  # connections that ended before the broker answered a subscription that we can do without


def live_filters(config: MqttConfig) -> list[str]:
    """Return what the live connection subscribes to: live frames, shared; births, alarms, acknowledgements for all."""
    channels = (topic.STATUS, topic.ALARM, f"{ACKNOWLEDGED}/#")
    return [_shared(config, topic.LIVE), *(topic.format_topic(config.fleet, "+", channel) for channel in channels)]


def backlog_filters(config: MqttConfig) -> list[str]:
    """Return what the other connection subscribes to: frames that come late, shared."""
    return [_shared(config, topic.UP)]


def _shared(config: MqttConfig, channel: str) -> str:
    name = topic.format_topic(config.fleet, "+", channel)
    return f"$share/{config.share_group}/{name}" if config.share_group else name


def tls_context(config: MqttConfig) -> ssl.SSLContext | None:
    """Return the TLS settings, or None without TLS. Raises `ConfigurationError` naming the file that is wrong."""
    if config.tls is None:
        return None
    tls = config.tls
    for file in (tls.ca, tls.certificate, tls.key):
        _need_readable(file)
    files = str(tls.ca)
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            files = f"{tls.certificate} with the key {tls.key or 'in it'}"
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"mqtt.tls: {files} cannot be used: {error}.") from error
    return context


def _need_readable(file: Path | None) -> None:
    """Raise `ConfigurationError` for a file that cannot be read: the TLS library does not say which."""
    try:
        if file is not None:
            file.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"mqtt.tls: {file} cannot be read: {error.strerror}.") from error


def make_client(config: MqttConfig, **options: Any) -> aiomqtt.Client:
    """Return a client for this broker, not yet connected."""
    password = config.password.get_secret_value() if config.password else None
    return BrokerClient(
        config.host,
        config.port,
        username=config.username,
        password=password,
        identifier=config.client_id,
        clean_session=config.client_id is None,
        keepalive=config.keepalive_s,
        tls_context=tls_context(config),
        timeout=_CONNECT_S_MAX,
        **options,
    )


def explain(config: MqttConfig, error: Exception) -> AccessError | UnavailableError:
    """Turn what a connection attempt raised into one sentence for people."""
    where = f"The broker at {config.host}:{config.port}"
    code = getattr(error, "rc", None)
    if isinstance(code, ReasonCode) and code.value in _CREDENTIALS_REFUSED:
        user = "no user name" if config.username is None else f"user {config.username!r}"
        return AccessError(f"{where} refuses us ({str(code).lower()}, {user}): check mqtt.username and mqtt.password.")
    if isinstance(code, ReasonCode):
        return UnavailableError(f"{where} refuses the connection: {str(code).lower()}.")
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return UnavailableError(
            f"{where} shows a certificate that we do not believe: {text}. It must be signed by mqtt.tls.ca, be for"
            " mqtt.host, and not have ended."
        )
    certificate = config.tls.certificate if config.tls is not None else None
    alert = None if config.tls is None else explain_alert(error, None if certificate is None else str(certificate))
    if alert is not None:
        return UnavailableError(f"{where} {alert}.")
    return UnavailableError(f"{where} cannot be reached: {text}. Is it running, and are mqtt.host and mqtt.port right?")


async def subscribe(client: aiomqtt.Client, wanted: list[str]) -> None:
    """Subscribe to all filters with QoS 1. Raises `AccessError` where the broker refuses one."""
    granted: Any = await client.subscribe([(name, 1) for name in wanted])
    for name, code in zip(wanted, granted, strict=True):
        if (code.value if isinstance(code, ReasonCode) else code) >= _REFUSED:
            raise AccessError(f"The broker refuses the subscription to {name}: check its access list for this user.")


class Uplink:
    """See the module's header."""

    def __init__(
        self,
        config: MqttConfig,
        *,
        name: str,
        wanted: list[str],
        inbox: Inbox,
        figures: PipelineFigures,
        backoff: Backoff,
        broker: BrokerFigures | None = None,
    ) -> None:
        """`broker` takes what the broker tells about itself, where it does."""
        self.connected = asyncio.Event()
        self.connection_count = 0
        self._config = config
        self._name = name
        self._wanted = wanted
        self._inbox = inbox
        self._figures = figures
        self._backoff = backoff
        self._client: aiomqtt.Client | None = None
        self._paho: paho.mqtt.client.Client | None = None
        self._was_connected = False
        self._broker = broker
        self._unanswered = 0
        self._log = get("uplink").bind(connection=name)
        figures.link_fails(name, _NOT_CONNECTED)

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises `AccessError` if the broker refuses us the first time, `ConfigurationError` if a file of TLS is wrong
        then; later both may be somebody at work (certificates being renewed), so they are tried again.
        """
        while True:
            try:
                await self._serve()
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                problem: Exception = explain(self._config, error)
            except (AccessError, ConfigurationError) as error:
                problem = error
            finally:
                self._client = self._paho = None
                self.connected.clear()
                self._figures.link_fails(self._name, _NOT_CONNECTED)
            if isinstance(problem, (AccessError, ConfigurationError)) and not self._was_connected:
                raise problem
            await self._pause(problem)

    async def _pause(self, problem: Exception) -> None:
        delay_s = self._backoff.fail()
        self._figures.link_failures += 1
        self._figures.link_fails(self._name, str(problem))
        say = self._log.warning if self._backoff.is_first() else self._log.debug
        say("no connection", error=str(problem), retry_s=round(delay_s, 2))
        await asyncio.sleep(delay_s)

    async def _serve(self) -> None:
        client = make_client(self._own_config(), queue_type=lambda **_: self._inbox)
        # aiomqtt has no call for manual PUBACKs, nor for publishing without waiting for them, nor for messages that are
        # none of the inbox's.
        inner = client._client  # noqa: SLF001
        inner.manual_ack_set(True)
        if self._broker is not None:
            inner.message_callback_add(f"{SYS}#", self._hear_broker)
        async with client:
            self._inbox.attach(lambda message: inner.ack(message.mid, message.qos))
            self._client, self._paho = client, inner
            await subscribe(client, self._wanted)
            self._backoff.succeed()
            self._was_connected = True
            self._figures.link_works(self._name)
            self.connection_count += 1
            self.connected.set()
            self._log.info("connected", host=self._config.host, port=self._config.port)
            asking = asyncio.create_task(self._ask_broker(client))
            try:
                async for _ in client.messages:  # never yields: our inbox keeps the messages; raises when the link ends
                    pass
            finally:
                asking.cancel()

    async def _ask_broker(self, client: aiomqtt.Client) -> None:
        """Subscribe to what the broker tells about itself. A broker that refuses, or hangs up over it, need not."""
        if self._broker is None or self._unanswered >= _UNANSWERED_MAX:
            return
        self._broker.forget()
        self._unanswered += 1
        with contextlib.suppress(aiomqtt.MqttError):
            await client.subscribe([(name, 0) for name in self._broker.topics])
            self._unanswered = 0

    def _hear_broker(self, _client: object, _userdata: object, message: paho.mqtt.client.MQTTMessage) -> None:
        if self._broker is not None:
            self._broker.take(message.topic, bytes(message.payload))

    def _own_config(self) -> MqttConfig:
        """Return the configuration with a name of this connection's own: a broker knows one connection by each."""
        client_id = self._config.client_id
        return self._config.model_copy(update={"client_id": client_id and f"{client_id}-{self._name}"})

    def publish(self, name: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> bool:
        """Hand a message to the connection; say whether there is one. Nothing waits for the broker here."""
        if self._paho is None or not self.connected.is_set():
            return False
        code: int = self._paho.publish(name, payload, qos, retain).rc
        return code == 0

    async def deliver(self, name: str, payload: str) -> bool:
        """Publish a retained message and wait until the broker has confirmed it; say whether it has."""
        if self._client is None or not self.connected.is_set():
            return False
        try:
            await self._client.publish(name, payload, qos=1, retain=True, timeout=_DELIVER_S_MAX)
        except (aiomqtt.MqttError, ValueError):
            return False
        return True

    def server_certificate(self) -> bytes | None:
        """Return the broker's certificate in DER form; None without TLS, or without a connection."""
        connection = None if self._paho is None else self._paho.socket()
        return connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None

    def is_congested(self) -> bool:
        """Say whether earlier messages still wait for the socket."""
        return self._paho is not None and self._paho.want_write()

    async def stop_receiving(self) -> None:
        """End the subscriptions, but keep the connection for acknowledgements."""
        if self._client is not None and self.connected.is_set():
            with contextlib.suppress(aiomqtt.MqttError):
                await self._client.unsubscribe(self._wanted, timeout=2)
