"""What a page shows of a test's timelines: tracks in order, entries with words, the last second, the sparkline."""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swapline_bench.report import payload, telegram
from swapline_bench.report.telegram import Words
from swapline_bench.report.timeline import FAULTS, FROM_NODE, MARKS, MESSAGES, POWER, Entry, Timeline

LAST_S = 1.0
_LAST_SHOWN_MAX = 6
_LAST_CHARACTERS_MAX = 160
_SPARK_BINS = 80
_SERIAL_COLORS = 3  # of the style sheet's lines; messages and logs have their own
_KINDS = (MARKS, FAULTS, POWER, "serial", MESSAGES, "log")  # from top to bottom
_COLORS = {MARKS: "--accent", FAULTS: "--fill-bad", POWER: "--fill-good", MESSAGES: "--line-4", "log": "--line-5"}
_FAILED = "failed"
_CONTROLS = {code: f"<{code:02x}>" for code in (*range(32), *range(127, 256))} | {10: "<LF>", 13: "<CR>"}


class Lane(NamedTuple):
    """The last entries of one track before the end, oldest first."""

    label: str
    entries: list[dict[str, str]]
    left_out: int


class Track(NamedTuple):
    """One track of the picture: `kind` says how its entries are drawn."""

    name: str
    kind: str
    label: str
    color: str
    protocol: str = ""  # what is spoken on a line


class Story:
    """The timelines of one test, put together and put into words."""

    def __init__(self, timelines: Sequence[Timeline]) -> None:
        self.entries = list(merge(timelines))
        self.begin_utc_s = min((timeline.begin_utc_s for timeline in timelines), default=0.0)
        self.discarded: dict[str, int] = {}
        for timeline in timelines:
            for track, count in timeline.discarded.items():
                self.discarded[track] = self.discarded.get(track, 0) + count
        self.tracks = order_tracks({entry.track for entry in self.entries})
        self._payloads = {
            place: payload.describe(entry.topic, entry.content)
            for place, entry in enumerate(self.entries)
            if isinstance(entry.content, bytes) and entry.track == MESSAGES
        }
        self._telegrams = self._describe_telegrams()

    def _describe_telegrams(self) -> dict[int, Words]:
        words: dict[int, Words] = {}
        for number, track in enumerate(self.tracks):
            if track.kind == "serial":
                places = [place for place, entry in enumerate(self.entries) if entry.track == track.name]
                protocol, described = telegram.describe_all([self.entries[place] for place in places])
                words |= {place: text for place, text in zip(places, described, strict=True) if text}
                self.tracks[number] = track._replace(protocol=protocol)
        self._protocols = {track.name: track.protocol for track in self.tracks}
        return words

    def births(self) -> Iterator[dict[str, Any]]:
        """Yield what nodes said of themselves."""
        for place, entry in enumerate(self.entries):
            if place in self._payloads and self._payloads[place].channel == "status":
                assert isinstance(entry.content, bytes)
                if birth := payload.read_birth(entry.content):
                    yield birth

    def pack(self) -> str:
        """Return everything that the page's scripts need: JSON, compressed, as text that HTML leaves alone."""
        numbers = {track.name: number for number, track in enumerate(self.tracks)}
        packed, before_us = [], 0
        for place, entry in enumerate(self.entries):
            now_us = round(entry.time_s * 1e6)
            packed.append([now_us - before_us, numbers[entry.track], *self._columns(place, entry)])
            before_us = now_us
        streams = {frame["stream"] for found in self._payloads.values() for frame in found.frames}
        tracks = [{**track._asdict(), "discarded": self.discarded.get(track.name, 0)} for track in self.tracks]
        data = {"begin_utc_s": self.begin_utc_s, "tracks": tracks, "entries": packed}
        data["streams"] = payload.columns(streams)
        text = json.dumps(data, separators=(",", ":")).encode()
        return base64.b64encode(gzip.compress(text, compresslevel=6, mtime=0)).decode()

    def _columns(self, place: int, entry: Entry) -> list[Any]:
        """Return tone, content, words, duration and details; what is empty at the end is left out."""
        content = entry.content.hex() if isinstance(entry.content, bytes) else log_text(entry.content)
        duration_us = round((entry.end_s - entry.time_s) * 1e6) if entry.end_s is not None else 0
        details: dict[str, Any] = {"topic": entry.topic} if entry.topic else {}
        if place in self._payloads and self._payloads[place].frames:
            details["frames"] = self._payloads[place].frames
        columns = [self.tone(place), content, self.words(place), duration_us, details]
        while len(columns) > 2 and not columns[-1]:
            columns.pop()
        return columns

    def words(self, place: int) -> str:
        """Return what an entry means, where that is not its content."""
        if place in self._payloads:
            found = self._payloads[place]
            return f"{found.channel}  {found.text}"
        if place not in self._telegrams:
            return ""
        protocol, text = self._telegrams[place]
        return text if protocol == self._protocols[self.entries[place].track] else f"{protocol} {text}"

    def tone(self, place: int) -> str:
        """Return the word that decides how an entry is coloured."""
        entry = self.entries[place]
        if place in self._payloads:
            return self._payloads[place].channel
        if isinstance(entry.content, bytes):
            words = self._telegrams.get(place)
            side = "from" if entry.kind == FROM_NODE else "to"
            return f"{side} damaged" if words and words.text == telegram.DAMAGED else side
        if entry.track.startswith("log "):
            return log_level(entry.content)
        if entry.track == MARKS:
            return _FAILED if " failed: " in entry.content else "mark"
        return entry.content.partition(" ")[0] if entry.track == POWER else "fault"

    def last_second(self) -> list[Lane]:
        """Return each track's last second before the first failure, or before the end; at least its last entry."""
        end_s = next((entry.time_s for place, entry in enumerate(self.entries) if self.tone(place) == _FAILED), None)
        if end_s is None:
            end_s = self.entries[-1].time_s if self.entries else 0.0
        return [self._last(track, end_s) for track in self.tracks if track.kind != MARKS]

    def _last(self, track: Track, end_s: float) -> Lane:
        places = [p for p, entry in enumerate(self.entries) if entry.track == track.name and entry.time_s <= end_s]
        late = [place for place in places if self.entries[place].time_s > end_s - LAST_S] or places[-1:]
        shown = late[-_LAST_SHOWN_MAX:]
        entries = [{"at": f"{self.entries[p].time_s - end_s:+.3f}", "text": self.line(p)} for p in shown]
        return Lane(track.label, entries, len(late) - len(shown))

    def line(self, place: int) -> str:
        """Return an entry as one line of text."""
        entry = self.entries[place]
        if place in self._payloads:
            return self.words(place)[:_LAST_CHARACTERS_MAX]
        if isinstance(entry.content, str):
            return log_text(entry.content)[:_LAST_CHARACTERS_MAX]
        arrow = "node \u2192" if entry.kind == FROM_NODE else "\u2192 node"
        text = f"{arrow}  {self.words(place)}  {visible(entry.content)}"
        return text if len(text) <= _LAST_CHARACTERS_MAX else text[: _LAST_CHARACTERS_MAX - 1] + "\u2026"

    def spark(self) -> str:
        """Return a small picture of what happened when, as SVG: lines, messages and logs as bars, trouble in red."""
        if not self.entries:
            return ""
        end_s = max(self.entries[-1].time_s, 0.001)
        bins = [0] * _SPARK_BINS
        trouble: set[int] = set()
        for place, entry in enumerate(self.entries):
            column = min(_SPARK_BINS - 1, max(0, int(entry.time_s / end_s * _SPARK_BINS)))
            bins[column] += 1
            if entry.track == FAULTS or self.tone(place) in (_FAILED, "error", "alarm"):
                trouble.add(column)
        most = max(bins)
        bars = [_bar(column, (count / most) ** 0.5, column in trouble) for column, count in enumerate(bins) if count]
        return f'<svg class="spark" viewBox="0 0 {_SPARK_BINS * 2} 22" aria-hidden="true">{"".join(bars)}</svg>'


def _bar(column: int, share: float, is_trouble: bool) -> str:
    height = 2 + 18 * share
    color = "bad" if is_trouble else "info"
    place = f'x="{2 * column}" y="{22 - height:.1f}" width="1.6" height="{height:.1f}"'
    return f'<rect {place} fill="var(--fill-{color})"/>'


def merge(timelines: Iterable[Timeline]) -> Iterator[Entry]:
    """Yield the entries of all timelines on the clock of the earliest, in the order of time."""
    made = list(timelines)
    begin_utc_s = min((timeline.begin_utc_s for timeline in made), default=0.0)
    moved = [_moved(entry, timeline.begin_utc_s - begin_utc_s) for timeline in made for entry in timeline.entries]
    return iter(sorted(moved, key=lambda entry: entry.time_s))


def _moved(entry: Entry, by_s: float) -> Entry:
    end_s = None if entry.end_s is None else entry.end_s + by_s
    return entry._replace(time_s=entry.time_s + by_s, end_s=end_s) if by_s else entry


def order_tracks(names: Iterable[str]) -> list[Track]:
    """Return the tracks from top to bottom, with what to call them and their colours."""
    tracks: list[Track] = []
    serial = 0
    for name in sorted(names, key=lambda name: (_KINDS.index(track_kind(name)), name != "log node", name)):
        kind = track_kind(name)
        color = _COLORS.get(kind, f"--line-{serial % _SERIAL_COLORS}")
        serial += kind == "serial"
        label = name.removeprefix("serial ") if kind == "serial" else name
        tracks.append(Track(name, kind, label, color))
    return tracks


def track_kind(name: str) -> str:
    """Return the kind of a track by its name; what we do not know is shown as a log."""
    kind = name.partition(" ")[0]
    return kind if kind in _KINDS else "log"


def _read_json_log(line: str) -> dict[str, Any]:
    """Return what a gateway logged; nothing where the line is not JSON."""
    if not line.startswith("{"):
        return {}
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def log_text(line: str) -> str:
    """Return a log line for people: a gateway's JSON as level, part, event and the rest; any other as it is."""
    said = _read_json_log(line)
    if "event" not in said:
        return line
    head = [str(said.pop(key)) for key in ("level", "part", "event") if key in said]
    said.pop("timestamp", None)
    return "  ".join([" ".join(head), *(f"{key}={value}" for key, value in said.items())])


def log_level(line: str) -> str:
    """Return the level of a log line: second word of a node's, a key of a gateway's JSON; `info` if there is none."""
    level = str(_read_json_log(line).get("level") or next(iter(line.split(" ", 2)[1:2]), ""))
    if line.startswith("Traceback"):
        return "error"
    return level if level in ("debug", "warning", "error") else "error" if level == "critical" else "info"


def visible(data: bytes) -> str:
    """Return bytes as text where they are text, control characters by name, else as hex."""
    printable = sum(32 <= byte < 127 or byte in (10, 13) for byte in data)
    if printable < 0.9 * len(data):
        return data.hex(" ")
    return data.decode("latin-1").translate(_CONTROLS)


def load_story(folder: Path, names: Iterable[str]) -> tuple[Story, list[str]]:
    """Read a test's timelines; return them and what could not be read of them."""
    timelines, problems = [], []
    for name in names:
        try:
            timelines.append(Timeline.load(folder / name))
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error}")
            continue
        if count := timelines[-1].damaged_lines:
            problems.append(f"{name}: {count} lines cannot be read: the run ended while they were written")
    return Story(timelines), problems
