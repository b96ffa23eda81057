"""Record what happens around a node during a test: serial bytes, MQTT messages, log lines, power, faults, marks.

Memory is bounded by track, so that a talkative line cannot push out the log. A full track forgets its oldest entries,
for a failure is explained by what came last, and counts them. With `follow` the entries also go to a file as they come:
a test that is killed leaves it behind.
"""

import io
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

ENTRIES_MAX = 50_000  # of one track
BYTES_MAX = 8 * 2**20  # of one track
FOLLOW_BYTES_MAX = 32 * 2**20  # of each of the two files that a followed timeline goes to
# A line delivers an answer in portions of 20 ms; what one side says within this silence is one telegram of at most so
# many bytes. Devices take at least 5 ms to answer, and an answer from the other side always begins a new entry.
TELEGRAM_SILENCE_S = 0.06
TELEGRAM_BYTES_MAX = 1024

MESSAGES, POWER, FAULTS, MARKS = "messages", "power", "faults", "marks"
FROM_NODE, TO_NODE = "from_node", "to_node"

_FORMAT = 1
_ENTRY_BYTES = 100  # what an entry costs besides its content, for the bound


class TimelineError(Exception):
    """A file is not a timeline; the message says why."""


class Entry(NamedTuple):
    """One thing that happened, in seconds since the timeline began.

    Content is bytes for serial lines and messages, else text.
    """

    time_s: float
    track: str
    kind: str
    content: str | bytes
    topic: str = ""
    end_s: float | None = None  # when the last byte of a telegram came

    def as_json(self) -> dict[str, Any]:
        """Return the entry as one line of a file."""
        line: dict[str, Any] = {"time_s": round(self.time_s, 6), "track": self.track, "kind": self.kind}
        if self.end_s is not None:
            line["end_s"] = round(self.end_s, 6)
        if self.topic:
            line["topic"] = self.topic
        if isinstance(self.content, bytes):
            return {**line, "hex": self.content.hex()}
        return {**line, "text": self.content}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> "Entry":
        """Return what `as_json` was made of. Raises `KeyError`, `TypeError` or `ValueError` for any other object."""
        content = bytes.fromhex(line["hex"]) if "hex" in line else str(line["text"])
        end_s = line.get("end_s")
        times = float(line["time_s"]), None if end_s is None else float(end_s)
        return cls(times[0], str(line["track"]), str(line["kind"]), content, str(line.get("topic", "")), times[1])


class _Track:
    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.size_bytes = 0


_on_new: list[Callable[["Timeline"], None]] = []


def tell_new(listener: Callable[["Timeline"], None]) -> Callable[[], None]:
    """Call `listener` with every timeline that is made from now on; return what ends that.

    The report hears so of timelines whose test failed before it could hand them over.
    """
    _on_new.append(listener)
    return lambda: _on_new.remove(listener)


class Timeline:
    """What happened, by track. Calls may come from any thread; `clock` counts seconds and never goes back."""

    def __init__(
        self,
        *,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.discarded: Counter[str] = Counter()  # entries by track
        self.damaged_lines = 0  # of the file that this was loaded from
        self.follow_error: OSError | None = None
        self.begin_utc_s = time.time()
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._begin_s = clock()
        self._tracks: dict[str, _Track] = {}
        self._lock = threading.Lock()
        self._follower: _Follower | None = None
        for listener in _on_new:
            listener(self)

    def serial(self, line: str, from_node: bool, data: bytes) -> None:
        """Record bytes on a serial line. What one side says without a pause becomes one entry."""
        now_s = self.now_s()
        entry = Entry(now_s, f"serial {line}", FROM_NODE if from_node else TO_NODE, bytes(data), "", now_s)
        self._record(entry)

    def message(self, topic: str, payload: bytes) -> None:
        """Record an MQTT message."""
        self._record(Entry(self.now_s(), MESSAGES, "message", bytes(payload), topic))

    def log(self, text: str, source: str = "node") -> None:
        """Record a line of the node's log, or of another program's."""
        self._record(Entry(self.now_s(), f"log {source}", "log", text))

    def power(self, state: str) -> None:
        """Record what became of the node's supply: `on`, `off`, `cut`, `browning out`."""
        self._record(Entry(self.now_s(), POWER, "power", state))

    def fault(self, text: str) -> None:
        """Record a fault that the bench caused."""
        self._record(Entry(self.now_s(), FAULTS, "fault", text))

    def mark(self, text: str) -> None:
        """Record where the test is."""
        self._record(Entry(self.now_s(), MARKS, "mark", text))

    def now_s(self) -> float:
        """Return the seconds since the timeline began."""
        return self._clock() - self._begin_s

    @property
    def entries(self) -> list[Entry]:
        """Return everything that is kept, in the order of time."""
        with self._lock:
            return sorted((entry for track in self._tracks.values() for entry in track.entries), key=_time)

    def follow(self, path: Path) -> None:
        """Write what is kept to `path`, and from now on every entry as it comes."""
        with self._lock:
            try:
                self._follower = _Follower(path, self._head())
            except OSError as error:
                self.follow_error = error
            for track in self._tracks.values():
                for entry in track.entries:
                    self._tell_follower(entry)

    def save(self, path: Path) -> None:
        """Write everything that is kept to `path` as JSON lines; ends following."""
        entries = self.entries
        self.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".new")
        with unfinished.open("wb") as file:
            for line in (self._head(), *(entry.as_json() for entry in entries), {"discarded": dict(self.discarded)}):
                file.write(_pack_line(line))
        unfinished.replace(path)
        _older(path).unlink(missing_ok=True)

    def close(self) -> None:
        """End following; the file stays as it is."""
        with self._lock:
            follower, self._follower = self._follower, None
        if follower is not None:
            follower.close()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` or `follow` wrote. A last line that was cut short is counted, not an error.

        Raises `TimelineError` where the file is no timeline, `OSError` where it cannot be read.
        """
        timeline = cls(entries_max=2**31, bytes_max=2**62, clock=lambda: 0.0)
        entries: list[Entry] = []
        for part in (_older(path), path):
            if part == path or part.exists():
                entries += timeline._read(part)
        for entry in sorted(entries, key=_time):
            timeline._add(entry)  # a followed file holds a telegram's portions
        return timeline

    def _read(self, path: Path) -> Iterator[Entry]:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = _parse(file.readline())
            if head is None or head.get("timeline") != _FORMAT:
                raise TimelineError(f"{path} is not a timeline of format {_FORMAT}.")
            self.begin_utc_s = float(head.get("begin_utc_s", 0))
            for text in file:
                line = _parse(text)
                if line is not None and "discarded" in line:
                    self.discarded.update(line["discarded"])
                    continue
                try:
                    yield Entry.from_json(line or {})
                except (KeyError, TypeError, ValueError):
                    self.damaged_lines += 1

    def _head(self) -> dict[str, Any]:
        return {"timeline": _FORMAT, "begin_utc_s": round(self.begin_utc_s, 3)}

    def _record(self, entry: Entry) -> None:
        with self._lock:
            self._add(entry)
            self._tell_follower(entry)

    def _tell_follower(self, entry: Entry) -> None:
        """Write an entry to the followed file. A full disk there must not fail the test."""
        try:
            if self._follower is not None:
                self._follower.write(entry)
        except OSError as error:
            self._follower, self.follow_error = None, error

    def _extend(self, track: _Track, portion: Entry) -> bool:
        """Add bytes to a line's last telegram, if they belong to it."""
        last = track.entries[-1] if track.entries else None
        if last is None or last.end_s is None or last.kind != portion.kind:
            return False
        assert isinstance(last.content, bytes)
        assert isinstance(portion.content, bytes)
        is_full = len(last.content) + len(portion.content) > TELEGRAM_BYTES_MAX
        if is_full or portion.time_s - last.end_s > TELEGRAM_SILENCE_S:
            return False
        track.entries[-1] = last._replace(content=last.content + portion.content, end_s=portion.end_s)
        track.size_bytes += len(portion.content)
        return True

    def _add(self, entry: Entry) -> None:
        track = self._tracks.setdefault(entry.track, _Track())
        if entry.end_s is None or not self._extend(track, entry):
            track.entries.append(entry)
            track.size_bytes += _size(entry)
        while len(track.entries) > self._entries_max or track.size_bytes > self._bytes_max:
            track.size_bytes -= _size(track.entries.popleft())
            self.discarded[entry.track] += 1


class _Follower:
    """Two files, the older one replaced when the newer is full, so that the newest entries are always there."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._head = head
        self._file = self._open()

    def _open(self) -> io.FileIO:
        file = io.FileIO(self._path, "w")  # not buffered: what a killed process has recorded is in the file
        try:
            self._bytes = file.write(_pack_line(self._head))
        except OSError:
            file.close()
            raise
        return file

    def write(self, entry: Entry) -> None:
        if self._bytes > FOLLOW_BYTES_MAX:
            self._file.close()
            self._path.replace(_older(self._path))
            self._file = self._open()
        try:
            self._bytes += self._file.write(_pack_line(entry.as_json()))
        except OSError:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".older")


def _time(entry: Entry) -> float:
    return entry.time_s


def _size(entry: Entry) -> int:
    return _ENTRY_BYTES + len(entry.content) + len(entry.topic)


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _pack_line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
