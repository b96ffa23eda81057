"""What the gateway reads from outside, as functions of arbitrary bytes: the same rules as in `node_target.py`."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiomqtt import Message

from swapline_bench.frame_source import FrameSource
from swapline_gateway import config
from swapline_gateway.alarm.watch import AlarmWatch
from swapline_gateway.error import ConfigurationError, StorageError
from swapline_gateway.inbox import Inbox
from swapline_gateway.ingest import Sender, examine_message
from swapline_gateway.intake import Intake
from swapline_gateway.pipeline import PipelineFigures
from swapline_gateway.publisher import Publisher
from swapline_gateway.pump import Pump
from swapline_gateway.quota import Quota
from swapline_gateway.reading import read_rows
from swapline_gateway.sinks.line_protocol import format_frames
from swapline_gateway.spool import Spool
from swapline_gateway.state import FleetState
from swapline_gateway.time_offer import TimeOffers
from swapline_gateway.uplink import Uplink
from swapline_gateway.worker import Worker
from swapline_wire.error import WireError

TOPICS = (
    "swapline/v1/test/van-001/up",
    "swapline/v1/test/van-001/live",
    "swapline/v1/test/van-001/status",
    "swapline/v1/test/van-002/up",
    "swapline/v1/test/../up",
    "swapline/v1/test/van-001/alarm",
    "swapline/v1/test/van-001/state/acknowledged/1/32",
)
OWN_TOPIC = 128  # a message that begins so brings its topic
SPOOL_LIMIT_BYTES = 1 << 20
_SPOOL_FRAMES = 40


class Nowhere:
    """The connection's place: keeps nothing of what is published."""

    def publish(self, name: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> bool:
        del name, payload, qos, retain
        return True

    def is_congested(self) -> bool:
        return False


class IntakeRig:
    """The gateway's way from a message to the lines of a sink, without broker and database."""

    def __init__(self, folder: Path) -> None:
        uplink = cast("Uplink", Nowhere())
        settings = config.GatewayConfig()
        figures = PipelineFigures(spool_limit_bytes=SPOOL_LIMIT_BYTES, sink_name="none")
        self.loop = asyncio.new_event_loop()
        self.spool = Spool(
            folder / "spool.sqlite", limit_bytes=SPOOL_LIMIT_BYTES, quarantine_bytes_max=SPOOL_LIMIT_BYTES
        )
        self.publisher = Publisher(settings.state, uplink=uplink, figures=figures)
        self.intake = Intake(
            live=Inbox(bytes_max=1 << 20),
            backlog=Inbox(bytes_max=1 << 20),
            spool=self.spool,
            spool_worker=Worker("spool"),
            uplink=uplink,
            pump=cast("Pump", SimpleNamespace(wake=lambda is_urgent: None)),  # noqa: ARG005
            quota=Quota(config.QuotaConfig(frames_per_s=1e9, bytes_per_s=1e9, bytes_per_day=10**15)),
            state=FleetState(),
            publisher=self.publisher,
            offers=TimeOffers(uplink=uplink, figures=figures),
            figures=figures,
            alarms=AlarmWatch(FleetState(), uplink),
        )

    def take(self, name: str, payload: bytes) -> None:
        try:
            message = Message(cast("Any", name), payload, 1, retain=False, mid=1, properties=None)
        except ValueError:
            return  # no topic of MQTT: empty, or with a wildcard
        self.loop.run_until_complete(self.intake.take([message]))
        self.publisher.flush()
        while frames := self.spool.batch(frames_max=1000, bytes_max=1 << 20):
            format_frames([read_rows(frame) for frame in frames], stored_utc_ms=0)
            self.spool.remove(frames)


@cache
def _rig() -> IntakeRig:
    return IntakeRig(Path(tempfile.mkdtemp(prefix="swapline-fuzz-")))


def read_message(data: bytes) -> None:
    """The first byte chooses the topic; from 128 on it is what stands before the first line's end.

    Whatever comes, the gateway takes it and its spool stays readable.
    """
    choice, rest = data[:1] or b"\0", data[1:]
    if choice[0] < OWN_TOPIC:
        _rig().take(TOPICS[choice[0] % len(TOPICS)], rest)
    else:
        name, _, payload = rest.partition(b"\n")
        _rig().take(name.decode(errors="replace"), payload)


def read_toml(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_bytes(data)
        with contextlib.suppress(ConfigurationError):
            config.load(path)


@cache
def _whole_spool() -> bytes:
    """Return the file of a sound spool with frames, repeats and an entry in quarantine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.sqlite"
        _fill(Spool(path, limit_bytes=SPOOL_LIMIT_BYTES), first=1)
        return path.read_bytes()


def _fill(spool: Spool, *, first: int) -> int:
    source = FrameSource()
    sender = Sender(source.fleet, source.node)
    items = [
        examine_message(sender, source.message(source.frame(seq=seq))).items[0]
        for seq in range(first, first + _SPOOL_FRAMES)
    ]
    try:
        for frame in spool.batch(frames_max=1000, bytes_max=1 << 20):
            with contextlib.suppress(WireError):
                format_frames([read_rows(frame)], stored_utc_ms=0)
        return len(spool.store(items, examine_message(sender, b"garbage").spoiled, 99).stored)
    finally:
        spool.close()


def read_spool(data: bytes) -> None:
    """Patches of a spool's file (place in units of 16 bytes, length, bytes; odd lengths cut the file there).

    It opens, by itself, and takes new frames: at the third attempt at the latest.
    """
    whole = bytearray(_whole_spool())
    rest = data
    while len(rest) > 3:
        place, length = (rest[0] << 8 | rest[1]) * 16 % len(whole), rest[2]
        if length & 1:
            del whole[max(place, 16) :]
        else:
            whole[place : place + len(rest[3 : 3 + length])] = rest[3 : 3 + length]
        rest = rest[3 + length :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.sqlite"
        path.write_bytes(whole)
        for first in (1000, 2000):  # damage that is found while it works costs one attempt each
            with contextlib.suppress(StorageError):
                _fill(Spool(path, limit_bytes=SPOOL_LIMIT_BYTES), first=first)
        assert _fill(Spool(path, limit_bytes=SPOOL_LIMIT_BYTES), first=3000) <= _SPOOL_FRAMES


TARGETS: dict[str, Callable[[bytes], None]] = {"message": read_message, "spool": read_spool, "toml": read_toml}
