"""From the bytes of an `up` message to what the spool stores: each frame on its own, the good beside the spoiled.

Whatever cannot be read becomes `Spoiled`, with its reason and its bytes, and never costs its neighbours. A spoiled
frame whose CRC is good has a key: it is durable and acknowledged (an unknown stream or a newer protocol version is
replayed after an upgrade). Without a good CRC its number cannot be believed: it is kept and counted, but never
acknowledged, so a node that still has the frame sends it again.
"""

from dataclasses import dataclass

from swapline_wire import message
from swapline_wire.catalogue import TIME_NONE
from swapline_wire.decode import Decoded, decode
from swapline_wire.error import WireError
from swapline_wire.frame import read_prefix, verify

NO_TIME = "no_time"  # neither the frame nor its message says when its boot began
FUTURE = "future"  # its rows are later than any wrong clock of an honest node makes them


@dataclass(frozen=True, slots=True)
class Sender:
    """Who published: fleet and node of the topic. The broker's access list vouches for it."""

    fleet: str
    node: str


@dataclass(frozen=True, slots=True)
class Item:
    """A readable frame with the anchor that its times count from."""

    sender: Sender
    decoded: Decoded
    anchor_utc_ms: int
    time_quality: int
    data: bytes

    @property
    def key(self) -> tuple[int, int]:
        """Return journal and sequence number."""
        return self.decoded.header.journal, self.decoded.header.seq


@dataclass(frozen=True, slots=True)
class Spoiled:
    """Bytes that go to quarantine. `key` (journal, seq) is None where no good CRC vouches for it."""

    sender: Sender
    reason: str
    detail: str
    data: bytes
    key: tuple[int, int] | None = None
    anchor_utc_ms: int = 0
    time_quality: int = TIME_NONE


@dataclass(slots=True)
class Examined:
    """What one message held."""

    items: list[Item]
    spoiled: list[Spoiled]


def count_frames(payload: bytes) -> int:
    """Return how many frames a message seems to hold (one, if it cannot be read), by a look at their lengths only.

    What a quota refuses must cost less than what it allows: reading a frame takes ten times as long.
    """
    try:
        offset = message.read_up_head(payload)[2]
        return len(message.split_frames(payload, offset))
    except WireError:
        return 1


def examine_message(sender: Sender, payload: bytes) -> Examined:
    """Take a message apart. Never raises on bytes from outside."""
    found = Examined([], [])
    try:
        journal, anchors, offset = message.read_up_head(payload)
    except WireError as error:
        found.spoiled.append(Spoiled(sender, error.reason, f"message: {error.detail}", payload))
        return found
    by_boot = {anchor.boot: anchor for anchor in anchors}
    view = memoryview(payload)
    while offset < len(view):
        try:
            length = read_prefix(view[offset:]).length
        except WireError as error:
            found.spoiled.append(Spoiled(sender, error.reason, f"frame: {error.detail}", bytes(view[offset:])))
            break
        data = bytes(view[offset : offset + length])
        result = examine_frame(sender, data, by_boot, journal)
        if isinstance(result, Item):
            found.items.append(result)
        else:
            found.spoiled.append(result)
        offset += length
    return found


def examine_frame(
    sender: Sender, data: bytes, anchors: dict[int, message.Anchor], anchors_journal: int
) -> Item | Spoiled:
    """Read one frame and find its anchor: its own, else the message's for its boot."""
    try:
        decoded = decode(data)
    except WireError as error:
        return Spoiled(sender, error.reason, f"frame: {error.detail}", data, _trusted_key(data))
    header = decoded.header
    if header.time_quality != TIME_NONE:
        return Item(sender, decoded, header.anchor_utc_ms, header.time_quality, data)
    anchor = anchors.get(header.boot) if header.journal == anchors_journal else None
    if anchor is None:
        detail = f"frame {header.seq} of boot {header.boot} came without an anchor"
        return Spoiled(sender, NO_TIME, detail, data, (header.journal, header.seq))
    resolved = decoded._replace(header=header._replace(time_quality=anchor.quality))
    return Item(sender, resolved, anchor.utc_ms, anchor.quality, data)


def refuse_future(found: Examined, limit_utc_ms: int) -> Examined:
    """Return what was found, with frames of rows later than `limit_utc_ms` spoiled.

    Databases keep a file a week: a node that writes into every week of a century would fill the disk with files.
    """
    items = []
    for item in found.items:
        last_utc_ms = item.anchor_utc_ms + max((row[0] for row in item.decoded.rows), default=0)
        if last_utc_ms <= limit_utc_ms:
            items.append(item)
        else:
            detail = f"rows of UTC ms {last_utc_ms}, the limit is {limit_utc_ms}"
            found.spoiled.append(
                Spoiled(item.sender, FUTURE, detail, item.data, item.key, item.anchor_utc_ms, item.time_quality)
            )
    return Examined(items, found.spoiled)


def _trusted_key(data: bytes) -> tuple[int, int] | None:
    try:
        prefix = verify(data)
    except WireError:
        return None
    return prefix.journal, prefix.seq
