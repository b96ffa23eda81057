"""Time for nodes without a clock: an acknowledgement of no ranges that carries the gateway's UTC.

Given when a birth says `clock_quality` 0, and again in intervals until a later birth says otherwise: an offer may get
lost, and a node without any time does not send frames that would say so.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from swapline_wire import message, topic
from swapline_wire.catalogue import TIME_NONE

from .ingest import Sender
from .pipeline import PipelineFigures
from .spool import now_utc_ms
from .uplink import Uplink

WAITING_MAX = 10_000
# A gateway whose own clock was never set must not hand it on: 2024-01-01, before this code existed.
UTC_MS_PLAUSIBLE = 1_704_067_200_000


def offered_utc_ms() -> int:
    """Return the time that acknowledgements carry: ours, or 0 (not offered) while our own clock cannot be true."""
    utc_ms = now_utc_ms()
    return utc_ms if utc_ms >= UTC_MS_PLAUSIBLE else 0


class TimeOffers:
    """See the module's header."""

    def __init__(self, *, uplink: Uplink, figures: PipelineFigures) -> None:
        self._uplink = uplink
        self._figures = figures
        self._waiting: OrderedDict[Sender, int] = OrderedDict()  # sender -> journal

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
        utc_ms = offered_utc_ms()
        if not utc_ms:
            return
        name = topic.format_topic(sender.fleet, sender.node, topic.ACK)
        if self._uplink.publish(name, message.pack_ack(journal, utc_ms, [])):
            self._figures.time_offers += 1
