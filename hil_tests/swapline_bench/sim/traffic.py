"""What passes on a simulator's line: said, counted, summed up."""

import struct
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

from swapline_bench.faces.turnaround import Turnaround
from swapline_bench.serial_line import RequestFace

QUIET_S = 0.05  # longer than the 20 ms in which a line gives an answer away piece by piece
KINDS_MAX = 200  # a line that talks nonsense asks for everything


class Traffic:
    """Counts requests by what they ask, and hands lines of text to `say`: each new kind, or with `is_verbose` all."""

    def __init__(self, say: Callable[[str], None], *, is_verbose: bool = False) -> None:
        self._say = say
        self._is_verbose = is_verbose
        self._last_s = time.monotonic()
        self._pending = bytearray()
        self._is_from_node = False
        self._began = ""
        self._pause_ms = 0.0
        self.asked: Counter[str] = Counter()
        self.answered = 0
        self.unanswered: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0

    def on_bytes(self, from_node: bool, data: bytes) -> None:
        """Count bytes, and collect them where everything is to be seen."""
        if from_node:
            self.bytes_in += len(data)
        else:
            self.bytes_out += len(data)
        if not self._is_verbose or not data:
            return
        if from_node != self._is_from_node:
            self.flush()
        if not self._pending:
            self._is_from_node, self._began = from_node, _clock()
            self._pause_ms = (time.monotonic() - self._last_s) * 1000
        self._pending += data
        self._last_s = time.monotonic()

    def flush_if_quiet(self) -> None:
        """Show what was collected once nothing more belongs to it."""
        if time.monotonic() - self._last_s >= QUIET_S:
            self.flush()

    def flush(self) -> None:
        """Show what was collected: the bytes of one direction that came without a pause."""
        if self._pending:
            arrow = "->" if self._is_from_node else "<-"
            self._say(f"{self._began} {arrow} +{self._pause_ms:7.1f} ms  {_shown(bytes(self._pending))}")
            self._pending.clear()

    def note(self, what: str, is_answered: bool) -> None:
        """Count one request; say so when it is the first of its kind."""
        if len(self.asked) >= KINDS_MAX and what not in self.asked:
            what = "others"
        self.flush()
        self.asked[what] += 1
        self.answered += is_answered
        if not is_answered:
            self.unanswered[what] += 1
        if self._is_verbose or self.asked[what] == 1:
            self._say(f"{_clock()} asked: {what}" + ("" if is_answered else "; not answered"))

    def watch(
        self, face: RequestFace, describe: Callable[[bytes], str], turnaround: Turnaround, random: Random
    ) -> None:
        """See what `face` is asked, and let it think as long as its device would."""
        answer = face.answer

        def answer_and_note(request: bytes) -> bytes | None:
            reply = None
            try:
                reply = answer(request)
            except (struct.error, OverflowError, ValueError) as error:
                self._say(f"a value does not fit into its register, so there is no answer ({error})")
            self.note(describe(request), reply is not None)
            face.turnaround_s = turnaround.draw(random)
            return reply

        # On this one face: a subclass of each kind of face would say the same eight times.
        face.answer = answer_and_note  # type: ignore[method-assign]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "asked": sum(self.asked.values()),
            "answered": self.answered,
            "requests": dict(self.asked.most_common()),
            "unanswered": dict(self.unanswered.most_common()),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }

    def summary(self) -> str:
        """Return what was asked, most often first, as lines of text."""
        lines = [f"asked {sum(self.asked.values())} times, answered {self.answered}"]
        for what, count in self.asked.most_common():
            missed = self.unanswered[what]
            lines.append(f"{count:8}  {what}" + (f"  ({missed} not answered)" if missed else ""))
        return "\n".join(lines)


def _shown(data: bytes) -> str:
    """Return bytes for people: NMEA as text with its control characters visible, everything else as hex."""
    return ascii(data.decode("ascii", "replace")) if data.startswith(b"$") else data.hex(" ").upper()


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
