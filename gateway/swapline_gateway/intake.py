"""The intake: messages out of the inbox, taken apart, made durable in one transaction, then acknowledged.

While one group is on its way to the disk the next one gathers: the slower the disk, the larger the groups. But none
is larger than what is taken apart and shown in `GROUP_S_MAX`. What is live comes on a connection of its own
(`uplink.py`) into an inbox and groups of its own, and waits for one transaction of the backlog at most. Nobody else in
the event loop waits longer than `TURN_S_MAX` for a turn.
"""

import asyncio
import json
import time

import aiomqtt

from swapline_wire import catalogue, message, topic
from swapline_wire.error import WireError

from .alarm.watch import AlarmWatch
from .error import StorageError
from .inbox import Inbox
from .ingest import Item, Sender, Spoiled, count_frames, examine_message, refuse_future
from .log import Novelty, get
from .pipeline import PipelineFigures
from .publisher import Publisher
from .pump import Pump
from .quota import Quota
from .ranges import as_ranges
from .spool import Outcome, Spool, now_utc_ms
from .state import FleetState
from .time_offer import UTC_MS_PLAUSIBLE, TimeOffers
from .uplink import Uplink
from .worker import Worker

GROUP_MESSAGES_MAX = 1000
GROUP_BYTES_MAX = 4 << 20
GROUP_BYTES_MIN = 64 << 10
GROUP_S_MAX = 0.05
TURN_S_MAX = 0.001  # a connection reads one message a turn
STATUS_BYTES_MAX = 4096
FUTURE_MS_MAX = 366 * 86_400_000  # a gateway whose own clock was last set a year ago still takes what is right
SPOILED_BYTES_MAX = 2 * message.MESSAGE_BYTES_MAX  # of a message that is longer than any may be, the beginning is kept


class Turn:
    """How long one group has worked in the event loop, without waiting for the disk, and when others had a turn."""

    def __init__(self) -> None:
        self.worked_s = 0.0
        self._began_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Work from here on."""
        self._began_s = time.monotonic()

    def end(self) -> None:
        """Work until here."""
        self.worked_s += time.monotonic() - self._began_s

    async def give_way(self) -> None:
        """Let others have a turn where this one is over."""
        if time.monotonic() - self._began_s >= TURN_S_MAX:
            self.end()
            await asyncio.sleep(0)
            self.begin()


def fit_group(bytes_max: int, size_bytes: int, worked_s: float) -> int:
    """Return how large the next group may be, by how long one of this size took in the event loop."""
    if worked_s > GROUP_S_MAX:
        return max(GROUP_BYTES_MIN, round(size_bytes * GROUP_S_MAX / worked_s))
    if 2 * size_bytes >= bytes_max:
        return min(GROUP_BYTES_MAX, bytes_max * (16 if 3 * worked_s < GROUP_S_MAX else 9) // 8)
    return bytes_max


class Intake:
    """See the module's header."""

    def __init__(
        self,
        *,
        live: Inbox,
        backlog: Inbox,
        spool: Spool,
        spool_worker: Worker,
        uplink: Uplink,
        pump: Pump,
        quota: Quota,
        state: FleetState,
        publisher: Publisher,
        offers: TimeOffers,
        figures: PipelineFigures,
        alarms: AlarmWatch,
    ) -> None:
        self._live = live
        self._backlog = backlog
        self._spool = spool
        self._spool_worker = spool_worker
        self._uplink = uplink
        self._pump = pump
        self._quota = quota
        self._state = state
        self._publisher = publisher
        self._offers = offers
        self._figures = figures
        self._alarms = alarms
        self._log = get("intake")
        self._novelty = Novelty()

    async def run(self) -> None:
        """Work until both inboxes are closed and empty."""
        tasks = [asyncio.create_task(self._run(inbox)) for inbox in (self._live, self._backlog)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _run(self, inbox: Inbox) -> None:
        bytes_max = GROUP_BYTES_MIN
        while messages := await inbox.take(messages_max=GROUP_MESSAGES_MAX, bytes_max=bytes_max):
            worked_s = await self.take(messages)
            bytes_max = fit_group(bytes_max, sum(len(incoming.payload) for incoming in messages), worked_s)

    async def take(self, messages: list[aiomqtt.Message]) -> float:
        """Work off one group; return for how many seconds it worked in the event loop."""
        items: list[Item] = []
        spoiled: list[Spoiled] = []
        received_utc_ms = now_utc_ms()
        turn = Turn()
        for incoming in messages:
            await turn.give_way()
            try:
                address = topic.parse_topic(str(incoming.topic))
            except WireError as error:
                self._figures.refused[error.reason] += 1
                continue
            sender = Sender(address.fleet, address.node)
            if address.channel in topic.FRAMES:
                self._examine(sender, incoming.payload, received_utc_ms, items, spoiled)
            elif address.channel != topic.STATUS:
                self._take_alarm(address, incoming)
            elif self._is_allowed(sender, 1, len(incoming.payload)):
                self._take_status(sender, incoming.payload)
        turn.end()
        if items or spoiled:
            await self._store(items, spoiled, received_utc_ms, turn)
        return turn.worked_s

    def _examine(
        self, sender: Sender, payload: bytes, received_utc_ms: int, items: list[Item], spoiled: list[Spoiled]
    ) -> None:
        count = count_frames(payload)
        self._figures.received(sender, len(payload), count, received_utc_ms)
        if not self._is_allowed(sender, count, len(payload)):
            return
        found = examine_message(sender, payload[:SPOILED_BYTES_MAX])
        if received_utc_ms >= UTC_MS_PLAUSIBLE:
            found = refuse_future(found, received_utc_ms + FUTURE_MS_MAX)
        items += found.items
        spoiled += found.spoiled

    def _is_allowed(self, sender: Sender, count: int, size_bytes: int) -> bool:
        """Charge a message to its node's quota, and count it where that is used up."""
        reason = self._quota.allow(sender, frame_count=count, size_bytes=size_bytes)
        if reason:
            self._figures.refuse(sender.fleet, sender.node, reason, count)
        return not reason

    async def _store(self, items: list[Item], spoiled: list[Spoiled], received_utc_ms: int, turn: Turn) -> None:
        try:
            outcome = await self._spool_worker.run(self._spool.store, items, spoiled, received_utc_ms)
        except StorageError as error:
            self._say_storage(error)
            for sender in [item.sender for item in items] + [bad.sender for bad in spoiled]:
                self._figures.refuse(sender.fleet, sender.node, "spool_error", 1)
            return
        self._figures.spool_works("intake")
        turn.begin()
        self._offers.witness(outcome.stored, received_utc_ms)
        self._acknowledge(outcome)
        self._count(outcome, received_utc_ms)
        self._pump.wake(is_urgent=any(item.decoded.header.priority for item in outcome.stored))
        await self._show(outcome.stored, turn)
        turn.end()

    def _say_storage(self, error: StorageError) -> None:
        say = self._log.debug if self._figures.spool_error else self._log.error
        self._figures.spool_fails("intake", str(error))
        say("nothing is acknowledged", error=str(error))

    def _acknowledge(self, outcome: Outcome) -> None:
        utc_ms = self._offers.utc_ms()
        for (sender, journal), seqs in outcome.acknowledge.items():
            ranges = as_ranges(seqs)
            name = topic.format_topic(sender.fleet, sender.node, topic.ACK)
            for start in range(0, len(ranges), message.ACK_RANGES_MAX):
                part = ranges[start : start + message.ACK_RANGES_MAX]
                if self._uplink.publish(name, message.pack_ack(journal, utc_ms, part)):
                    self._figures.acks_sent += 1

    def _count(self, outcome: Outcome, received_utc_ms: int) -> None:
        figures = self._figures
        figures.taken(outcome.stored, received_utc_ms)
        figures.repeated(outcome.duplicates)
        for sender, reason, count in outcome.refused:
            figures.refuse(sender.fleet, sender.node, reason, count)
            figures.is_spool_full = figures.is_spool_full or reason == "spool_full"
        for bad in outcome.quarantined:
            figures.quarantined(bad.sender.fleet, bad.sender.node, bad.reason)
            count = self._novelty.take((bad.sender, bad.reason))
            if count:
                who = {"fleet": bad.sender.fleet, "node": bad.sender.node}
                self._log.warning("quarantined", reason=bad.reason, detail=bad.detail, items=count, **who)

    async def _show(self, items: list[Item], turn: Turn) -> None:
        """Bring the fleet's state up to date; a database that is away does not stop it."""
        for item in items:
            await turn.give_way()
            decoded = item.decoded
            if decoded.stream is catalogue.ALARM_STREAM:
                self._publisher.publish_alarms(item)
            if decoded.header.priority:
                self._alarms.take_item(item)
            if not any(signal.kind == catalogue.KEY for signal in decoded.signals):
                decoded = decoded._replace(rows=decoded.rows[-1:])  # the newest; the database gets all of them
            self._publisher.take(self._state.apply(item.sender.fleet, item.sender.node, decoded, item.anchor_utc_ms))

    def _take_alarm(self, address: topic.Address, incoming: aiomqtt.Message) -> None:
        """Take what gateways tell each other: alarms, and who has seen them. Nothing of it is stored from here."""
        if address.channel == topic.ALARM:
            is_known = self._alarms.take_message(address, incoming.payload)
        else:
            is_known = self._alarms.take_said(str(incoming.topic), incoming.payload)
        if not is_known:
            self._figures.refused["bad_alarm"] += 1

    def _take_status(self, sender: Sender, payload: bytes) -> None:
        if not payload:
            self._state.forget(sender.fleet, sender.node)
            self._offers.forget(sender)
            return
        try:
            birth = json.loads(payload) if len(payload) <= STATUS_BYTES_MAX else None
        except (ValueError, RecursionError):
            birth = None
        if not isinstance(birth, dict):
            self._figures.refused["bad_status"] += 1
            return
        self._state.apply_status(sender.fleet, sender.node, birth)
        self._offers.take(sender, birth)
