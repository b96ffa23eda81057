"""A device that is only known from a recording: it answers what it was asked then, and counts what it was not."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from swapline_bench.replay import Exchange
from swapline_bench.request_face import RequestFace
from swapline_bench.serial_line import SerialLine

TURNAROUND_S_MIN = 0.005  # where none was recorded, or the recorded time is shorter than the answer takes on the line
QUIET_S = 0.05  # a request that no recording knows ended when the line was quiet for so long
UNKNOWN_MAX = 100


class TranscriptFace(RequestFace):
    """Answers each request's recorded answers in their order, over and over; recorded silence is silence.

    `asked` counts requests that the recording knows, `unknown` all others. `note` is told of each one, and whether an
    answer follows.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        *,
        speed: float = 1.0,
        note: Callable[[str, bool], None] | None = None,
    ) -> None:
        super().__init__(silence_s=QUIET_S)
        self.asked: Counter[bytes] = Counter()
        self.unknown: Counter[bytes] = Counter()
        self._note = note
        self._speed = speed
        self._character_s = 0.0
        self._handled = asyncio.Condition()
        grouped: dict[bytes, list[Exchange]] = {}
        for exchange in exchanges:
            grouped.setdefault(exchange.request, []).append(exchange)
        self._answers: dict[bytes, Iterator[Exchange]] = {request: cycle(group) for request, group in grouped.items()}

    def take_request(self, received: bytearray) -> bytes | None:
        """Take the first known request; what stands before it nobody knows."""
        places = [(received.find(request), request) for request in self._answers]
        found = min(((place, -len(request), request) for place, request in places if place >= 0), default=None)
        if found is None:
            return None
        place, _, request = found
        self._miss(bytes(received[:place]))
        del received[: place + len(request)]
        return request

    def answer(self, request: bytes) -> bytes | None:
        """Return the next recorded answer, to begin so that it ends when the recorded one did."""
        exchange = next(self._answers[request])
        length = 0 if exchange.response is None else len(exchange.response)
        rest_s = exchange.latency_s / self._speed - length * self._character_s
        self.turnaround_s = max(rest_s, TURNAROUND_S_MIN)
        self.asked[request] += 1
        if self._note is not None:
            self._note(_words(request), exchange.response is not None)
        return exchange.response

    async def run(self, line: SerialLine) -> None:
        """Answer for ever; what is followed by silence and was never recorded is counted as unknown."""
        self._character_s = line.character_s
        received = bytearray()
        while True:
            data = await line.read(self.silence_s if received else None)
            if not data:
                self._miss(bytes(received))
                received.clear()
            received += data
            while (request := self.take_request(received)) is not None:
                reply = self.answer(request)
                if reply is not None:
                    await self._say(line, request, reply)
                async with self._handled:
                    self._handled.notify_all()

    async def wait_asked(self, request: bytes, count: int) -> None:
        """Wait until `request` has been asked `count` times, and answered or met with silence."""
        async with self._handled:
            await self._handled.wait_for(lambda: self.asked[request] >= count)

    def _miss(self, data: bytes) -> None:
        if not data:
            return
        if len(self.unknown) < UNKNOWN_MAX or data in self.unknown:
            self.unknown[data] += 1
        if self._note is not None:
            self._note(f"unknown: {_words(data)}", False)

    def never_asked(self) -> list[bytes]:
        """Return the recorded requests that nobody has asked yet."""
        return [request for request in self._answers if request not in self.asked]

    def as_dict(self) -> dict[str, Any]:
        """Return what was not known and what was never asked."""
        return {
            "unknown": {data.hex(" "): count for data, count in self.unknown.most_common()},
            "never_asked": [request.hex(" ") for request in self.never_asked()],
        }

    def summary(self) -> str:
        """Return the same as lines of text."""
        unknown = [f"{count:8}  {_words(data)}" for data, count in self.unknown.most_common()]
        never = [f"          {_words(request)}" for request in self.never_asked()]
        lines = ["asked and not in the recording:", *unknown] if unknown else ["everything asked was in the recording"]
        return "\n".join([*lines, *(["in the recording and never asked:", *never] if never else [])])


def _words(data: bytes) -> str:
    return data.hex(" ").upper()
