"""Time for nodes without a clock: an acknowledgement of no ranges that carries the gateway's UTC.

Given when a birth says `clock_quality` 0, and again in intervals until a later birth says otherwise: an offer may get
lost, and a node without any time does not send frames that would say so.

A gateway whose own clock is wrong must not hand it on. Nodes that know the time from GNSS or SNTP show it: their rows
come from the future, or none of them is younger than ten minutes. While most of those heard say so, and at least two,
nothing is offered, in acknowledgements neither.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from swapline_wire import message, topic
from swapline_wire.catalogue import TIME_NONE, TIME_NTP

from .ingest import Item, Sender
from .log import get
from .pipeline import PipelineFigures
from .spool import now_utc_ms
from .uplink import Uplink

WAITING_MAX = 10_000
# A gateway whose own clock was never set must not hand it on: 2024-01-01, before this code existed.
UTC_MS_PLAUSIBLE = 1_704_067_200_000


WITNESSES_MAX = 1000
WITNESSES_MIN = 2
WITNESS_S_MAX = 600.0  # what a node's rows said about our clock is judged anew so often
LIVE_S = 60.0  # within so long a node that has old rows to send has sent new ones too
JUDGE_INTERVAL_S = 1.0  # asking a thousand witnesses takes 0.1 ms
FUTURE_MS_MAX = 10_000
PAST_MS_MAX = 600_000


class FleetTime:
    """What the nodes that know the time by themselves say about this computer's clock."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._witnesses: OrderedDict[Sender, tuple[float, int]] = OrderedDict()  # since when, delay of the newest row

    def take(self, sender: Sender, time_quality: int, delay_ms: int) -> None:
        """Note by how much a row was older than our clock when it came."""
        if time_quality < TIME_NTP:
            return
        now_s = self._monotonic_s()
        since_s, least_ms = self._witnesses.get(sender, (now_s, delay_ms))
        if now_s - since_s > WITNESS_S_MAX:
            since_s, least_ms = now_s, delay_ms
        self._witnesses[sender] = (since_s, min(least_ms, delay_ms))
        if len(self._witnesses) > WITNESSES_MAX:
            self._witnesses.popitem(last=False)

    def is_contradicted(self) -> bool:
        """Say whether most of the nodes that can tell show that our clock is wrong."""
        now_s = self._monotonic_s()
        heard = [witness for witness in self._witnesses.values() if now_s - witness[0] <= 2 * WITNESS_S_MAX]
        against = sum(
            least_ms < -FUTURE_MS_MAX or (least_ms > PAST_MS_MAX and now_s - since_s > LIVE_S)
            for since_s, least_ms in heard
        )
        return against >= WITNESSES_MIN and 2 * against > len(heard)


class TimeOffers:
    """See the module's header."""

    def __init__(self, *, uplink: Uplink, figures: PipelineFigures) -> None:
        self._uplink = uplink
        self._figures = figures
        self._waiting: OrderedDict[Sender, int] = OrderedDict()  # sender -> journal
        self._fleet_time = FleetTime()
        self._is_contradicted = False
        self._judged_s = -JUDGE_INTERVAL_S
        self._log = get("time")

    def witness(self, items: Iterable[Item], received_utc_ms: int) -> None:
        """Compare our clock with the rows of frames that have just come."""
        for item in items:
            delay_ms = received_utc_ms - item.anchor_utc_ms - item.decoded.rows[-1][0]
            self._fleet_time.take(item.sender, item.time_quality, delay_ms)
        now_s = time.monotonic()
        if now_s - self._judged_s < JUDGE_INTERVAL_S:
            return
        self._judged_s = now_s
        is_contradicted = self._fleet_time.is_contradicted()
        if is_contradicted and not self._is_contradicted:
            self._log.error("this computer's clock is wrong, say the nodes: no time is offered to those without")
        self._is_contradicted = is_contradicted

    def utc_ms(self) -> int:
        """Return the time that acknowledgements carry: ours, or 0 (not offered) while our own clock cannot be true."""
        utc_ms = now_utc_ms()
        return utc_ms if utc_ms >= UTC_MS_PLAUSIBLE and not self._is_contradicted else 0

    def take(self, sender: Sender, birth: Mapping[str, Any]) -> None:
        """Note what a birth says about its node's clock, and offer time if it has none."""
        journal = birth.get("journal")
        is_without = birth.get("online") is True and birth.get("clock_quality") == TIME_NONE
        if not is_without or not isinstance(journal, int) or not 0 <= journal <= 0xFFFFFFFF:
            self.forget(sender)
            return
        self._waiting[sender] = journal
        if len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        self._offer(sender, journal)

    def forget(self, sender: Sender) -> None:
        """Offer this node nothing any more."""
        self._waiting.pop(sender, None)

    def repeat(self) -> None:
        """Offer time again to all that still wait."""
        for sender, journal in self._waiting.items():
            self._offer(sender, journal)

    def _offer(self, sender: Sender, journal: int) -> None:
        utc_ms = self.utc_ms()
        if not utc_ms:
            return
        name = topic.format_topic(sender.fleet, sender.node, topic.ACK)
        if self._uplink.publish(name, message.pack_ack(journal, utc_ms, [])):
            self._figures.time_offers += 1
