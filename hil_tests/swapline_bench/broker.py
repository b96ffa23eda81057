"""The demo's MQTT broker: mosquitto where it is installed, else amqtt from PyPI, as a child process on a free port."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from swapline_bench.services import HOST, MQTT_CONNECT, MissingBinaryError, find_binary, free_port

READY_S_MAX = 15.0
STOP_S_MAX = 10.0
AUTO, MOSQUITTO, AMQTT = "auto", "mosquitto", "amqtt"
KINDS = (AUTO, MOSQUITTO, AMQTT)

# Persistence every 10 s: what a killed broker forgets, the nodes send again, because only the gateway's answer counts.
# The queue holds some minutes of a gateway's absence; mosquitto's default of 1000 drops silently beyond it.
_MOSQUITTO_CONF = """
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 10
max_queued_messages 20000
log_dest stderr
log_type error
log_type warning
log_type notice
"""
_AMQTT_CONF = """
listeners:
  default:
    type: tcp
    bind: {host}:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


class BrokerError(Exception):
    """No broker could be started; the message says what to do."""


def find_mosquitto() -> str | None:
    """Return where mosquitto is installed, None if it is not."""
    try:
        return str(find_binary(MOSQUITTO, MOSQUITTO))
    except MissingBinaryError:
        return None


def choose(kind: str) -> str:
    """Return which broker to run for `kind`. Raises `BrokerError` if it is not installed."""
    has_amqtt = importlib.util.find_spec("amqtt") is not None
    if kind == MOSQUITTO or (kind == AUTO and find_mosquitto()):
        if find_mosquitto() is None:
            raise BrokerError("mosquitto is not installed: apt-get install mosquitto, or use --broker amqtt.")
        return MOSQUITTO
    if not has_amqtt:
        raise BrokerError("No broker: apt-get install mosquitto, or pip install 'swapline[bench]' for amqtt.")
    return AMQTT


class Broker:
    """One broker process with its files in `folder`. Raises `BrokerError` when it does not come up."""

    def __init__(self, folder: Path, *, kind: str = AUTO) -> None:
        self.kind = choose(kind)
        self.host = HOST
        self.port = 0
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log_path(self) -> Path:
        """Return the file that holds what the broker printed."""
        return self._folder / "broker.log"

    async def start(self) -> Self:
        """Start on a free port and return when it answers an MQTT client."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        await self._wait_ready()
        return self

    async def stop(self) -> None:
        """Stop in order; a broker that does not is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _command(self) -> Sequence[str]:
        if self.kind == MOSQUITTO:
            path = self._folder / "mosquitto.conf"
            text = _MOSQUITTO_CONF.format(host=self.host, port=self.port, folder=self._folder)
            if os.getuid() == 0:
                text += "user root\n"  # else mosquitto becomes a user that may not write here
            path.write_text(text, encoding="utf-8")
            return (find_mosquitto() or MOSQUITTO, "-c", str(path))
        path = self._folder / "amqtt.yaml"
        path.write_text(_AMQTT_CONF.format(host=self.host, port=self.port), encoding="utf-8")
        return (sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(path))

    async def _wait_ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S_MAX):
                while self._process.returncode is None:
                    if await self._answers():
                        return
                    await asyncio.sleep(0.05)
        await self.stop()
        self._process = None
        raise BrokerError(f"{self.kind} did not start on {self.host}:{self.port}: {self._last_words()}")

    async def _answers(self) -> bool:
        """Say whether our own process speaks MQTT: the kernel, or a stranger, takes connections before it does."""
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        answer = asyncio.ensure_future(_greet(self.host, self.port))
        try:
            await asyncio.wait({ended, answer}, return_when=asyncio.FIRST_COMPLETED)
            return self._process.returncode is None and answer.result()
        finally:
            ended.cancel()
            answer.cancel()
            await asyncio.gather(ended, answer, return_exceptions=True)

    def _last_words(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [line for line in lines if "rror" in line]
        return (errors or lines or [f"it wrote nothing to {self.log_path}"])[0 if errors else -1]


async def _greet(host: str, port: int) -> bool:
    """Connect as an MQTT client and say whether the broker answers."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(MQTT_CONNECT)
        return bool(await reader.read(1))
    except OSError:
        return False
    finally:
        writer.close()
