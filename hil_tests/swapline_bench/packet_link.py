"""A bad link of real packets: a network namespace whose only way out is a TUN device that the bench reads. Needs root.

    async with PacketLink(seed=1) as packets:
        async with LinkProxy(broker.host, broker.port, host=packets.host) as door:
            node = NodeProcess(..., prefix=packets.prefix)     # sees the broker at (packets.host, door.port)
            packets.impair(Impairment(loss=0.3))

The near device is in the namespace, the far one here; packets go from one to the other through this process, which
loses, delays and throttles them. Both ends are kernels, so retransmissions, timeouts and the death of a connection are
those of real TCP. A link that is silent loses every packet; one that refuses is not known here (use the proxy).

`resolv_conf` is what processes in the namespace find as /etc/resolv.conf.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Self

from swapline_bench.link_proxy import HEALTHY, Impairment

NETNS_FOLDER = Path("/etc/netns")
_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES_MAX = 2048
_QUEUE_BYTES_MIN = 15000  # ten packets; more where the rate carries more in a second
_numbers = itertools.count()


class PacketLinkError(Exception):
    """The kernel does not let us; the message holds the command that failed."""


def is_available() -> bool:
    """Say whether this process may make network namespaces and TUN devices."""
    return os.geteuid() == 0 and os.access(_TUN, os.R_OK | os.W_OK) and shutil.which("ip") is not None


class PacketLink:
    """A namespace at the far end of a bad link. `host` is this side's address, `prefix` runs a command over there."""

    def __init__(self, *, seed: int = 0) -> None:
        number = next(_numbers)
        self.name = f"swl{os.getpid() % 100_000}n{number}"  # a device's name has 15 characters at most
        block = (os.getpid() * 7 + number) % (2 * 256 * 64)  # 198.18.0.0/15 is for measurements of networks (RFC 2544)
        base = (198 << 24) + (18 << 16) + 4 * block
        self.host, self.far_host = _dotted(base + 1), _dotted(base + 2)
        self.prefix = ("ip", "netns", "exec", self.name)
        self.impairment = HEALTHY
        self.packets = 0
        self.packets_lost = 0
        self._random = random.Random(seed)  # noqa: S311 (a schedule that can be repeated, no secret)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def resolv_conf(self, text: str) -> None:
        """Write the namespace's /etc/resolv.conf; a process sees the one that was there when it started."""
        folder = NETNS_FOLDER / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text, encoding="ascii")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)

    def impair(self, impairment: Impairment) -> None:
        """Make the link as bad as `impairment` says; packets on their way stay as they are."""
        self.impairment = impairment

    def heal(self) -> None:
        """Make the link good again."""
        self.impair(HEALTHY)

    async def _open(self) -> None:
        await ip("netns", "add", self.name)
        self._stack.push_async_callback(ip, "netns", "delete", self.name)
        near, far = self._tun(f"{self.name}a"), self._tun(f"{self.name}b")
        await ip("link", "set", f"{self.name}a", "netns", self.name)
        here: tuple[tuple[str, ...], str, str, str] = ((), f"{self.name}b", self.host, self.far_host)
        there = (("-n", self.name), f"{self.name}a", self.far_host, self.host)
        for namespace, device, own, peer in (here, there):
            await ip(*namespace, "address", "add", own, "peer", peer, "dev", device)
            await ip(*namespace, "link", "set", device, "up")
        await ip("-n", self.name, "link", "set", "lo", "up")
        for source, sink in ((near, far), (far, near)):
            line = _PacketLine(self, source, sink)
            asyncio.get_running_loop().add_reader(source, line.carry)
            self._stack.callback(line.stop)

    def _tun(self, name: str) -> int:
        device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
        self._stack.callback(os.close, device)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        return device

    def draw(self) -> float:
        """Return the next random number from 0 to 1."""
        return self._random.random()


class _PacketLine:
    """One direction: from one device to the other, with a queue that drops what it has no room for."""

    def __init__(self, link: PacketLink, source: int, sink: int) -> None:
        self._link = link
        self._source = source
        self._sink = sink
        self._free_s = 0.0
        self._is_open = True

    def carry(self) -> None:
        """Take what the kernel has sent into the source."""
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(self._source, _PACKET_BYTES_MAX):
                self._link.packets += 1
                if not self._send(packet):
                    self._link.packets_lost += 1

    def stop(self) -> None:
        """Carry nothing any more; what is on its way is forgotten."""
        self._is_open = False
        asyncio.get_running_loop().remove_reader(self._source)

    def _send(self, packet: bytes) -> bool:
        impairment = self._link.impairment
        if impairment.is_silent or self._link.draw() < impairment.loss:
            return False
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        arrival_s = now_s
        if impairment.rate_bit_s is not None:
            waiting_bytes = max(0.0, self._free_s - now_s) * impairment.rate_bit_s / 8
            if waiting_bytes > max(_QUEUE_BYTES_MIN, impairment.rate_bit_s / 8):
                return False
            arrival_s = self._free_s = max(now_s, self._free_s) + len(packet) * 8 / impairment.rate_bit_s
        arrival_s += impairment.delay_s + impairment.jitter_s * self._link.draw()
        loop.call_at(arrival_s, self._deliver, packet)
        return True

    def _deliver(self, packet: bytes) -> None:
        if self._is_open:
            with contextlib.suppress(OSError):  # the device is gone: the namespace is being taken down
                os.write(self._sink, packet)


async def ip(*arguments: str) -> None:
    """Run the command `ip`. Raises `PacketLinkError` with its output where it fails."""
    process = await asyncio.create_subprocess_exec(
        "ip", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise PacketLinkError(f"ip {' '.join(arguments)}: {output.decode(errors='replace').strip()}")


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))
