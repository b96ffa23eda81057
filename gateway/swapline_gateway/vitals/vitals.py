"""The gateway about itself: measures its own figures, disks and certificates, and hands points to the database.

Measured whatever the database is, for `/metrics`; written where the database is an InfluxDB. What cannot be measured
(a disk that is gone, a file that cannot be read) is logged once a minute at most, and left out.
"""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from swapline_gateway.battery.keeper import KeeperFigures
from swapline_gateway.config import MqttConfig, TlsConfig, VitalsConfig
from swapline_gateway.log import Novelty, get
from swapline_gateway.pipeline import PipelineFigures
from swapline_gateway.spool import now_utc_ms
from swapline_gateway.worker import Worker

from .broker import BrokerFigures
from .certificate import DAY_S, end_s, first_end_s, own_end_s
from .point import Point, make_point
from .sender import PointSender
from .table import BROKER, CERTIFICATE, DISK, GATEWAY

DISK_S = 60.0
CERTIFICATE_S = 3600.0
Subject = TypeVar("Subject")
Measured = TypeVar("Measured")


class Link(Protocol):
    """The connection to the broker (`uplink.py`)."""

    connected: asyncio.Event
    connection_count: int

    def server_certificate(self) -> bytes | None:
        """Return the broker's certificate in DER form; None without TLS, or without a connection."""


class Disk(NamedTuple):
    """How full a disk is."""

    free_bytes: int
    total_bytes: int

    @property
    def free_share(self) -> float:
        """Return the free part of all, 0 to 1."""
        return self.free_bytes / self.total_bytes if self.total_bytes else 0.0


class Vitals:
    """See the module's header. Without a sender nothing is written."""

    def __init__(
        self,
        config: VitalsConfig,
        *,
        mqtt: MqttConfig,
        folders: Sequence[Path],
        figures: PipelineFigures,
        keeper: KeeperFigures,
        link: Link,
        broker: BrokerFigures,
        sender: PointSender | None = None,
        now_ms: Callable[[], int] = now_utc_ms,
    ) -> None:
        self.name = config.name or socket.gethostname()
        self.disks: dict[str, Disk] = {}
        self.certificate_ends_s: dict[str, float] = {}
        self.broker = broker
        self.sender = sender
        self._interval_s = config.interval_s
        self._folders = list(dict.fromkeys((*folders, *config.disks)))
        self._tls = mqtt.tls
        self._address = f"{mqtt.host}:{mqtt.port}"
        self._figures = figures
        self._keeper = keeper
        self._link = link
        self._now_ms = now_ms
        self._disks_s = self._certificates_s = -CERTIFICATE_S
        self._connections = 0  # in this one of the link's the server's certificate was looked at
        self._worker = Worker("vitals")  # a disk on a network may keep us waiting
        self._novelty = Novelty()
        self._log = get("vitals")

    async def run(self) -> None:
        """Measure and send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure_for_ever(), name="vitals")
            if self.sender is not None:
                group.create_task(self.sender.run(), name="vitals of the database")

    async def _measure_for_ever(self) -> None:
        while True:
            points = await self.measure()
            if self.sender is not None:
                self.sender.add(points)
            await asyncio.sleep(self._interval_s)

    async def measure(self) -> list[Point]:
        """Return the points that are due now."""
        now_ms, now_s = self._now_ms(), time.monotonic()
        points = [self._gateway_point(now_ms)]
        if self._link.connected.is_set() and self.broker.values:
            points.append(make_point(BROKER, now_ms, self.name, self._address, **self.broker.values))
        if now_s - self._disks_s >= DISK_S:
            self._disks_s = now_s
            points += await self._measure_disks(now_ms)
        is_new = self._link.connected.is_set() and self._connections != self._link.connection_count
        if is_new or now_s - self._certificates_s >= CERTIFICATE_S:
            self._certificates_s = now_s
            points += await self._measure_certificates(now_ms)
        return points

    def _gateway_point(self, now_ms: int) -> Point:
        figures, keeper, backlog = self._figures, self._keeper, self._figures.backlog
        mean_s, max_s = figures.sink_write.look()
        return make_point(
            GATEWAY,
            now_ms,
            self.name,
            **{name: getattr(figures, name) for name in _TOTALS},
            **{name: getattr(figures, name).total() for name in ("refused", "lost")},
            quarantined=figures.quarantined_by_reason.total(),
            spool_frames=backlog.frame_count,
            spool_bytes=backlog.size_bytes,
            spool_limit_bytes=figures.spool_limit_bytes,
            spool_oldest_s=max(0, now_ms - (backlog.oldest_utc_ms or now_ms)) / 1000,
            sink_write_ms_mean=None if mean_s is None else 1000 * mean_s,
            sink_write_ms_max=None if max_s is None else 1000 * max_s,
            broker_connected=int(figures.is_connected),
            sink_working=int(not figures.sink_error),
            books_due=None if keeper.off else keeper.due.entry_count,
            books_behind_s=None if keeper.off else keeper.behind_s,
            memory_bytes=memory_bytes(),
            cpu_s=time.process_time(),
            uptime_s=time.monotonic() - figures.started_monotonic_s,
            ended=0,
        )

    async def say_goodbye(self) -> None:
        """Tell that this gateway ends because it was asked to, so that nobody takes it for one that fell silent."""
        if self.sender is not None:
            await self.sender.finish([make_point(GATEWAY, self._now_ms(), self.name, ended=1)])

    async def _measure_disks(self, now_ms: int) -> list[Point]:
        for folder in self._folders:
            disk = await self._worker.run(self._try, f"disk of {folder}", measure_disk, folder)
            if disk is None:
                self.disks.pop(str(folder), None)
            else:
                self.disks[str(folder)] = disk
        return [
            make_point(DISK, now_ms, self.name, path, **disk._asdict(), free_share=disk.free_share)
            for path, disk in self.disks.items()
        ]

    async def _measure_certificates(self, now_ms: int) -> list[Point]:
        certificate = self._link.server_certificate()
        self._connections = self._link.connection_count if self._link.connected.is_set() else 0
        ends = {} if self._tls is None else await self._worker.run(self._own_ends, self._tls)
        if certificate is not None:
            ends["broker"] = self._try("certificate of the broker", end_s, certificate)
        elif "broker" in self.certificate_ends_s:
            ends["broker"] = self.certificate_ends_s["broker"]  # as it was when we last saw it
        self.certificate_ends_s = {name: end for name, end in ends.items() if end is not None}
        return [
            make_point(CERTIFICATE, now_ms, self.name, name, days_left=days)
            for name, days in self.days_left(now_ms).items()
        ]

    def _own_ends(self, tls: TlsConfig) -> dict[str, float | None]:
        """Read the files anew: they are renewed while we run."""
        readers = {"client": (tls.certificate, own_end_s), "ca": (tls.ca, first_end_s)}
        return {
            name: self._try(f"certificate {path}", read, path)
            for name, (path, read) in readers.items()
            if path is not None
        }

    def _try(self, what: str, measure: Callable[[Subject], Measured], subject: Subject) -> Measured | None:
        try:
            return measure(subject)
        except (OSError, ValueError) as error:
            if self._novelty.take(what):
                self._log.warning("cannot be measured", what=what, error=str(error))
            return None

    def days_left(self, now_ms: int) -> Mapping[str, float]:
        """Return for how many days the certificates are still good; negative where one has ended."""
        return {name: (end - now_ms / 1000) / DAY_S for name, end in self.certificate_ends_s.items()}

    def close(self) -> None:
        """End the threads and connections."""
        self._worker.close()
        if self.sender is not None:
            self.sender.close()


_TOTALS = (
    "frames_received",
    "frames_taken",
    "frames_stored",
    "rows_stored",
    "duplicates",
    "sink_failures",
    "link_failures",
)


def measure_disk(path: Path) -> Disk:
    """Return how full the disk of a folder is. Raises `OSError`."""
    usage = shutil.disk_usage(path)
    return Disk(usage.free, usage.total)


def memory_bytes() -> int | None:
    """Return how much of the machine's memory this process has, where the system tells (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
