"""Frames into an InfluxDB, and the points that it refuses found: one bad point does not keep its neighbours out.

A point counts as stored when a request that holds it was taken whole, and as refused when a request was refused of
which the server says that it dropped every point, or which held this point alone. In between, a refused request is
divided: by the server's own hints where it gives some (so many points too old; this field of this measurement), else by
halves of the points in the order of their measurement and owner, so that guilty ones lie together. A thousand points
that are refused for one reason cost a handful of requests.

The search ends after `search_s_max`, or when at least one frame is settled: the others are given again later, in
smaller batches, so that one node's bad points cannot keep the sink from the others' good ones, nor from alarms.

Words that no InfluxDB is known to use about points are only believed of a server that takes other points, before the
search and still after it: else a broken proxy would empty the spool into quarantine.

With a second place for what is kept for ever (`LASTING`), each request goes to one of the two, and what one place takes
says nothing about the other one. A frame is settled when all its points are, wherever they went.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from swapline_gateway.error import SinkBusyError, SinkRejectedError, SinkTooLargeError
from swapline_gateway.ranges import as_ranges
from swapline_gateway.reading import FrameRows
from swapline_gateway.spool import now_utc_ms

from .base import Refusal, Written
from .influx_answer import conflicting_field, is_about_age
from .line_protocol import FRAMES, LASTING, LATE, count_values, format_frame, format_late, format_lines

SEARCH_S_MAX = 5.0  # an alarm that was sealed meanwhile waits for it
REQUEST_BYTES_MAX = 8 << 20  # InfluxDB 1.x takes 25 MB; a spool's batch of 4 MB becomes up to 40 MB of text
_REASONS_MAX = 2  # of one frame, in quarantine's line about it
_PROBES_MAX = 8  # points of a batch that are tried alone before words of a stranger are believed


class PointWriter:
    """Writes batches through `post`, which sends one body and raises `SinkError`.

    `post_lasting` does the same for rows that are kept for ever, where they have a place of their own. Roll-ups are
    made of the others then, so late frames say of which hours they are.
    """

    def __init__(
        self,
        post: Callable[[bytes], None],
        post_lasting: Callable[[bytes], None] | None = None,
        *,
        search_s_max: float = SEARCH_S_MAX,
        request_bytes_max: int = REQUEST_BYTES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._posts = {False: post, True: post_lasting or post}
        self._has_two_places = post_lasting is not None
        self._search_s_max = search_s_max
        self._request_bytes_max = request_bytes_max
        self._clock = clock

    def write(self, frames: Sequence[FrameRows]) -> Written:
        """Write all points of all frames; say which were refused. Raises `SinkBusyError` if no frame was settled."""
        batch = _Batch(frames, now_utc_ms(), has_two_places=self._has_two_places)
        todo = batch.requests(range(len(batch.lines)), self._request_bytes_max)[::-1]
        trouble: SinkBusyError | None = None
        try:
            self._work_off(batch, todo)
            self._ask_again(batch)
            self._correct(batch)
        except SinkBusyError as error:
            trouble = error
        written = batch.result(trouble)
        if trouble is not None and len(written.unsettled) == len(frames):
            raise trouble
        return written

    def _post(self, batch: "_Batch", points: Sequence[int]) -> None:
        """Send points of one place."""
        self._posts[batch.is_lasting(points[0])](batch.body(points))

    def _work_off(self, batch: "_Batch", todo: list[list[int]]) -> None:
        """Send the requests on the stack `todo`, dividing refused ones, until it is empty or time is over."""
        end_s = math.inf
        while todo:
            if self._clock() > end_s:
                if batch.has_settled():
                    return
                todo[:] = batch.open_points_of_one_frame()
                end_s = math.inf
            points = todo.pop()
            try:
                self._post(batch, points)
            except SinkRejectedError as error:
                if not batch.is_searched:
                    batch.is_searched = True
                    end_s = self._clock() + self._search_s_max
                if error.is_doubtful and batch.is_lasting(points[0]) not in batch.last_taken:
                    self._find_taken(batch, points, error)
                if isinstance(error, SinkTooLargeError):
                    self._request_bytes_max = max(1, min(self._request_bytes_max, len(batch.body(points)) // 2))
                if len(points) == 1 or error.refused_count == len(points):
                    batch.refuse(points, error)
                else:
                    todo += batch.divide(points, error)[::-1]
            else:
                batch.take(points)

    def _find_taken(self, batch: "_Batch", points: Sequence[int], error: SinkRejectedError) -> None:
        """Find a point that the server takes. Raises `SinkBusyError` if it takes none of some from all over."""
        for point in points[:: max(1, len(points) // _PROBES_MAX)]:
            try:
                self._post(batch, [point])
            except SinkRejectedError:
                continue
            batch.take([point])
            return
        raise SinkBusyError(str(error)) from error

    def _ask_again(self, batch: "_Batch") -> None:
        """Believe doubtful refusals only if a point that was taken before is taken now. Raises `SinkBusyError`."""
        for place in batch.doubtful_places():
            try:
                self._post(batch, [batch.last_taken[place]])
            except SinkRejectedError as error:
                batch.forget_doubtful()
                raise SinkBusyError(str(error)) from error
            except SinkBusyError:
                batch.forget_doubtful()
                raise

    def _correct(self, batch: "_Batch") -> None:
        """Let the own points of partly refused frames say so. Raises `SinkBusyError`; then those frames come again."""
        points = batch.own_points_to_correct()
        lines = [batch.corrected_line(point) for point in points]
        if not lines:
            return
        try:
            self._posts[False]("\n".join(lines).encode())
        except SinkBusyError:
            batch.taken.difference_update(points)
            raise
        except SinkRejectedError:
            return  # they were taken a moment ago; what they say now is only a little less


@dataclass(slots=True)
class _Batch:
    """The points of a batch, known by the index of their line, and what became of them."""

    frames: Sequence[FrameRows]
    stored_utc_ms: int
    has_two_places: bool = False
    lines: list[str] = field(default_factory=list)
    # Frame and row of a line; row_count: the frame's own; more: where it says of which hours it is.
    origin: list[tuple[int, int]] = field(default_factory=list)
    lasting: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    refused: dict[int, SinkRejectedError] = field(default_factory=dict)
    last_taken: dict[bool, int] = field(default_factory=dict)  # by place
    is_searched: bool = False

    def __post_init__(self) -> None:
        for index, frame in enumerate(self.frames):
            lines = format_lines(frame, stored_utc_ms=self.stored_utc_ms)
            if self.has_two_places:
                lines += format_late(frame, self.stored_utc_ms)
                if frame.stream.name in LASTING:
                    self.lasting.update(range(len(self.lines), len(self.lines) + frame.row_count))
            self.lines += lines
            self.origin += [(index, row) for row in range(len(lines))]

    def body(self, points: Sequence[int]) -> bytes:
        """Return what a request of these points sends."""
        return "\n".join([self.lines[point] for point in points]).encode()

    def is_lasting(self, point: int) -> bool:
        """Say whether a point goes to the place of what is kept for ever."""
        return point in self.lasting

    def requests(self, points: Sequence[int], bytes_max: int) -> list[list[int]]:
        """Divide points into requests of one place and at most so many bytes, in their order."""
        return [request for part in self._by_place(points) for request in self._divided_by_size(part, bytes_max)]

    def _by_place(self, points: Sequence[int]) -> list[list[int]]:
        """Return the points of each place that has any."""
        parts = [[point for point in points if self.is_lasting(point) is place] for place in (False, True)]
        return [part for part in parts if part]

    def _divided_by_size(self, points: Iterable[int], bytes_max: int) -> list[list[int]]:
        found: list[list[int]] = []
        room = 0
        for point in points:
            size = len(self.lines[point]) + 1
            if size > room:
                found.append([])
                room = bytes_max
            found[-1].append(point)
            room -= size
        return found

    def take(self, points: Sequence[int]) -> None:
        """Note that these points are stored."""
        self.taken.update(points)
        self.last_taken[self.is_lasting(points[-1])] = points[-1]

    def refuse(self, points: Sequence[int], error: SinkRejectedError) -> None:
        """Note that each of these points is refused."""
        self.refused.update(dict.fromkeys(points, error))

    def doubtful_places(self) -> list[bool]:
        """Return the places that refused points in words that are not believed at once, and took others."""
        places = {self.is_lasting(point) for point, error in self.refused.items() if error.is_doubtful}
        return sorted(places.intersection(self.last_taken))

    def forget_doubtful(self) -> None:
        """Take back what is not believed: nothing is known about these points."""
        self.refused = {point: error for point, error in self.refused.items() if not error.is_doubtful}

    def divide(self, points: Sequence[int], error: SinkRejectedError) -> list[list[int]]:
        """Divide a refused request in two, the guilty ones as much as possible on one side."""
        if isinstance(error, SinkTooLargeError):
            return _cut(list(points), len(points) // 2)
        if is_about_age(error):
            by_age = sorted(points, key=self._time)
            count = error.refused_count or 0
            return _cut(by_age, count if 0 < count < len(points) else len(points) // 2)
        conflict = conflicting_field(error)
        if conflict is not None:
            suspects = [point for point in points if self._has_field(point, *conflict)]
            if 0 < len(suspects) < len(points):
                return [suspects, sorted(set(points).difference(suspects))]
        return _cut(sorted(points, key=self._owner), len(points) // 2)

    def own_points_to_correct(self) -> list[int]:
        """Return the own points, stored already, of frames of which some rows are refused."""
        frames = {self.origin[point][0] for point in self.refused if self._is_row(point)}
        return [point for point in sorted(self.taken) if self._is_own(point) and self.origin[point][0] in frames]

    def corrected_line(self, point: int) -> str:
        """Return the own line of a partly refused frame."""
        index, row_count = self.origin[point]
        refused = [row for row in range(point - row_count, point) if row in self.refused]
        values = sum(count_values(self.lines[row]) for row in refused)
        frame = self.frames[index]
        return format_frame(frame, self.stored_utc_ms, rows_refused=len(refused), values_refused=values)

    def _time(self, point: int) -> int:
        index, row = self.origin[point]
        times = self.frames[index].columns[0]
        return times[row] if row < len(times) else times[0]

    def _measurement(self, point: int) -> str:
        index, row = self.origin[point]
        frame = self.frames[index]
        name: str = frame.stream.name
        return name if row < frame.row_count else FRAMES if row == frame.row_count else LATE

    def _owner(self, point: int) -> tuple[str, str, str, int]:
        frame = self.frames[self.origin[point][0]]
        return self._measurement(point), frame.frame.node, frame.module, self._time(point)

    def _has_field(self, point: int, measurement: str, name: str) -> bool:
        fields = self.lines[point].rsplit(" ", 2)[1]
        return self._measurement(point) == measurement and f",{name}=" in f",{fields}"

    def _open_points(self) -> list[int]:
        return [point for point in range(len(self.lines)) if point not in self.taken and point not in self.refused]

    def has_settled(self) -> bool:
        """Say whether of any frame everything is known."""
        return len({self.origin[point][0] for point in self._open_points()}) < len(self.frames)

    def open_points_of_one_frame(self) -> list[list[int]]:
        """Return what is not known yet of one frame, as requests."""
        points = self._open_points()
        return self._by_place([point for point in points if self.origin[point][0] == self.origin[points[0]][0]])

    def result(self, trouble: SinkBusyError | None) -> Written:
        """Return what became of the frames."""
        unsettled = frozenset(self.origin[point][0] for point in self._open_points())
        guilty: dict[int, list[int]] = {}
        for point in sorted(self.refused):
            index = self.origin[point][0]
            if index not in unsettled:
                guilty.setdefault(index, []).append(point)
        refusals = tuple(Refusal(index, self._detail(index, points)) for index, points in guilty.items())
        partial = [point for point in self.taken if self.origin[point][0] in guilty and self._is_row(point)]
        whole = [frame for i, frame in enumerate(self.frames) if i not in guilty and i not in unsettled]
        return Written(
            frame_count=len(whole),
            row_count=sum(frame.row_count for frame in whole) + len(partial),
            value_count=sum(frame.value_count for frame in whole) + sum(count_values(self.lines[p]) for p in partial),
            duplicates=0,
            refused=refusals,
            unsettled=unsettled,
            trouble=trouble,
        )

    def _is_row(self, point: int) -> bool:
        index, row = self.origin[point]
        return row < self.frames[index].row_count

    def _is_own(self, point: int) -> bool:
        index, row = self.origin[point]
        return row == self.frames[index].row_count

    def _detail(self, index: int, points: Sequence[int]) -> str:
        """Return which rows of a frame are refused, counted from 1, and why."""
        row_count = self.frames[index].row_count
        rows = [self.origin[point][1] + 1 for point in points if self._is_row(point)]
        why = "; ".join(list(dict.fromkeys(str(self.refused[point]) for point in points))[:_REASONS_MAX])
        if not rows:
            return f"all {row_count} rows stored, its entry in {self._measurement(points[0])} refused: {why}"
        if len(rows) == row_count:
            return f"all {row_count} rows refused: {why}"
        ranges = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in as_ranges(rows))
        return f"{len(rows)} of {row_count} rows refused ({ranges}): {why}"


def _cut(points: list[int], place: int) -> list[list[int]]:
    return [points[:place], points[place:]]
