"""Points that an InfluxDB refuses: exactly the guilty ones are found, the others stored, at a bounded cost."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_bench.frame_source import FrameSource, module_row
from swapline_gateway.error import SinkBusyError, SinkError, SinkRejectedError, SinkTooLargeError
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.base import Refusal
from swapline_gateway.sinks.influx_answer import error_of
from swapline_gateway.sinks.influx_points import PointWriter
from swapline_gateway.spool import SpooledFrame
from tests.gateway.fake_influx import FakeInflux, Rules

BASE_MS = 1_800_000_000_000
NS_PER_MS = 1_000_000
ROWS = 4


def make_frames(count: int, *, rows: int = ROWS, node: str = "van-001") -> list[FrameRows]:
    """Return frames of consecutive seconds."""
    source = FrameSource(node=node, anchor_utc_ms=BASE_MS)
    found = []
    for index in range(count):
        first = index * rows
        data = source.frame([((first + row) * 1000, module_row(5000 + first + row)) for row in range(rows)])
        found.append(read_rows(SpooledFrame(index, "test", node, BASE_MS, 3, 0, data)))
    return found


class Server:
    """Takes lines but those that `is_guilty` says, and says so in the words that `say` gives for their number."""

    def __init__(self, is_guilty: Callable[[str], bool], say: Callable[[int], SinkError]) -> None:
        self.points: set[str] = set()
        self.requests = 0
        self._is_guilty = is_guilty
        self._say = say

    def post(self, body: bytes) -> None:
        self.requests += 1
        lines = body.decode().splitlines()
        guilty = [line for line in lines if self._is_guilty(line)]
        self.points |= {_key(line) for line in lines if line not in guilty}
        if guilty:
            raise self._say(len(guilty))


def _key(line: str) -> str:
    series, _, time = line.rsplit(" ", 2)
    return f"{series} {time}"


def row_at(index: int) -> Callable[[str], bool]:
    return lambda line: line.startswith("module,") and line.endswith(f" {(BASE_MS + index * 1000) * NS_PER_MS}")


def in_rows(guilty: Sequence[int]) -> Callable[[str], bool]:
    ends = tuple(f" {(BASE_MS + index * 1000) * NS_PER_MS}" for index in guilty)
    return lambda line: line.startswith("module,") and line.endswith(ends)


def silent(_count: int) -> SinkError:
    return error_of(400, '{"error": "partial write: some reason"}')


def counting(count: int) -> SinkError:
    return error_of(400, f'{{"error": "partial write: some reason dropped={count}"}}')


def silent_about_age(_count: int) -> SinkError:
    return error_of(422, '{"message": "points beyond retention policy"}')


@pytest.mark.parametrize("say", [silent, counting])
def test_one_guilty_row_is_found_and_everything_else_stored(say: Callable[[int], SinkError]) -> None:
    server = Server(row_at(5), say)
    written = PointWriter(server.post).write(make_frames(3))
    (refusal,) = written.refused
    assert (refusal.frame_index, refusal.detail.split(":")[0]) == (1, "1 of 4 rows refused (2)")
    assert (written.frame_count, written.row_count, written.unsettled) == (2, 11, frozenset())
    assert len(server.points) == 3 * ROWS + 3 - 1


@given(
    guilty=st.sets(st.integers(0, 10 * ROWS - 1)),
    say=st.sampled_from([silent, counting, silent_about_age]),
    request_bytes_max=st.sampled_from([1, 3000, 1 << 20]),
)
def test_exactly_the_guilty_rows_are_refused(
    guilty: set[int], say: Callable[[int], SinkError], request_bytes_max: int
) -> None:
    frames = make_frames(10)
    server = Server(in_rows(sorted(guilty)), say)
    written = PointWriter(server.post, request_bytes_max=request_bytes_max).write(frames)
    assert {refusal.frame_index for refusal in written.refused} == {row // ROWS for row in guilty}
    assert written.row_count == 10 * ROWS - len(guilty)
    assert written.value_count == sum(frame.value_count for frame in frames) // (10 * ROWS) * written.row_count
    assert len(server.points) == 10 * ROWS + 10 - len(guilty)  # each frame has its own point as well
    assert not written.unsettled


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("old_count", [1, 333, 999, 1000])
def test_points_beyond_the_retention_cost_three_requests_however_many_they_are(version: int, old_count: int) -> None:
    frames = make_frames(1000, rows=1)
    oldest_ns = (BASE_MS + old_count * 1000) * NS_PER_MS
    fake = FakeInflux(version, Rules(oldest_ns=oldest_ns))
    requests = []

    def post(body: bytes) -> None:
        answer = fake.answer_write(body, None)
        requests.append(answer.status)
        if answer.status != 204:
            raise error_of(answer.status, answer.body)

    written = PointWriter(post).write(frames)
    assert [refusal.frame_index for refusal in written.refused] == list(range(old_count))
    assert written.frame_count == 1000 - old_count
    assert len(requests) <= 3


@pytest.mark.parametrize("version", [1, 2])
def test_field_of_another_type_and_old_points_together_cost_a_handful_of_requests(version: int) -> None:
    frames = make_frames(1000, rows=1)
    fake = FakeInflux(version, Rules(oldest_ns=(BASE_MS + 500_000) * NS_PER_MS, conflict=("module", "soc_pct")))
    requests = 0

    def post(body: bytes) -> None:
        nonlocal requests
        requests += 1
        answer = fake.answer_write(body, None)
        if answer.status != 204:
            raise error_of(answer.status, answer.body)

    written = PointWriter(post).write(frames)
    assert len(written.refused) == 1000
    assert "retention" in written.refused[0].detail
    assert 'input field "soc_pct"' in written.refused[-1].detail
    assert fake.measurement("module") == []
    assert len(fake.measurement("frames")) == 500
    assert requests < 20


def test_search_that_takes_too_long_leaves_the_rest_unsettled_and_loses_nothing() -> None:
    now_s = 0.0

    def post(body: bytes) -> None:
        nonlocal now_s
        now_s += 1.0
        server.post(body)

    server = Server(in_rows(range(0, 400, 2)), silent)
    writer = PointWriter(post, search_s_max=50.0, clock=lambda: now_s)
    frames = make_frames(100)
    written = writer.write(frames)
    assert server.requests <= 53
    assert 0 < len(written.unsettled) < 100
    assert written.frame_count + len(written.refused) + len(written.unsettled) == 100


def test_search_settles_one_frame_at_least_however_long_it_takes() -> None:
    now_s = 0.0

    def post(body: bytes) -> None:
        nonlocal now_s
        now_s += 100.0
        server.post(body)

    server = Server(in_rows([2, 9, 17]), silent)
    written = PointWriter(post, clock=lambda: now_s).write(make_frames(5))
    assert written.refused == (Refusal(0, "1 of 4 rows refused (3): 400: partial write: some reason"),)
    assert 0 < len(written.unsettled) < 5


def test_database_that_goes_away_during_the_search_keeps_what_is_settled() -> None:
    requests = 0

    def post(body: bytes) -> None:
        nonlocal requests
        requests += 1
        if requests == 3:
            raise SinkBusyError("gone")
        server.post(body)

    server = Server(lambda _: False, silent)
    frames = make_frames(8)
    written = PointWriter(post, request_bytes_max=3000).write(frames)
    assert str(written.trouble) == "gone"
    assert 0 < written.frame_count < 8
    assert written.unsettled == frozenset(range(written.frame_count, 8))


def test_frame_whose_own_point_cannot_be_corrected_comes_again() -> None:
    def post(body: bytes) -> None:
        if b"rows_refused=1i" in body:
            raise SinkBusyError("gone")
        server.post(body)

    server = Server(row_at(5), counting)
    written = PointWriter(post).write(make_frames(3))
    assert str(written.trouble) == "gone"
    assert (written.refused, written.unsettled, written.frame_count) == ((), frozenset([1]), 2)


def test_database_that_takes_nothing_is_busy() -> None:
    def post(_body: bytes) -> None:
        raise SinkBusyError("away")

    with pytest.raises(SinkBusyError, match="away"):
        PointWriter(post).write(make_frames(2))


def doubtful(_count: int) -> SinkError:
    return error_of(400, "<html>The plain HTTP request was sent to HTTPS port</html>")


def test_words_of_a_stranger_are_not_believed_when_nothing_is_taken() -> None:
    server = Server(lambda _: True, doubtful)
    with pytest.raises(SinkBusyError, match="plain HTTP"):
        PointWriter(server.post).write(make_frames(100))
    assert server.requests < 12


def test_words_of_a_stranger_are_believed_when_the_others_are_taken() -> None:
    server = Server(row_at(1), doubtful)
    written = PointWriter(server.post).write(make_frames(3))
    assert [refusal.frame_index for refusal in written.refused] == [0]


def test_stranger_who_appears_in_the_middle_puts_nothing_into_quarantine() -> None:
    server = Server(lambda _: server.requests > 1, doubtful)
    written = PointWriter(server.post, request_bytes_max=3000).write(make_frames(8))
    assert not written.refused
    assert written.trouble is not None
    assert len(written.unsettled) == 8 - written.frame_count


def test_requests_shrink_to_what_a_proxy_takes_and_stay_so() -> None:
    sizes: list[int] = []

    def post(body: bytes) -> None:
        sizes.append(len(body))
        if len(body) > 5000:
            raise SinkTooLargeError("413")

    writer = PointWriter(post)
    assert writer.write(make_frames(20)).frame_count == 20
    sizes.clear()
    assert writer.write(make_frames(20)).frame_count == 20
    assert max(sizes) <= 5000


def test_point_that_alone_is_too_large_is_nobodys_fault_while_nothing_is_taken() -> None:
    def post(_body: bytes) -> None:
        raise error_of(413, "too large")

    with pytest.raises(SinkBusyError, match="413"):
        PointWriter(post).write(make_frames(2))


def test_all_rows_stored_but_the_frames_own_entry_is_told() -> None:
    server = Server(lambda line: line.startswith("frames,"), counting)
    written = PointWriter(server.post).write(make_frames(1))
    assert written.refused[0].detail.startswith("all 4 rows stored, its entry in frames refused: 400: partial write")
    assert (written.row_count, written.frame_count) == (4, 0)


def test_code_of_a_module_cannot_say_how_many_points_were_dropped() -> None:
    words = 'max-values-per-tag limit exceeded (1/1): measurement=\\"module\\" tag=\\"module\\" value=\\"dropped=500\\"'
    error = error_of(400, f'{{"error":"partial write: {words} dropped=3"}}')
    assert isinstance(error, SinkRejectedError)
    assert error.refused_count == 3


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, '{"error":"partial write: points beyond retention policy dropped=3"}'),
        (
            422,
            '{"code":"unprocessable entity","message":"failure writing points to database: partial write: dropped 3'
            " points outside retention policy of duration 24h0m0s - oldest point home at 1970-01-01T00:00:01Z dropped"
            ' because it violates a Retention Policy Lower Bound at 2025-05-20T19:06:17Z dropped=3 for database: 9f"}',
        ),
        (
            500,
            '{"code":"internal error","message":"unexpected error writing points to database: partial write: points'
            ' beyond retention policy dropped=3"}',
        ),
    ],
)
def test_each_version_is_understood_when_it_says_how_many_points_it_dropped(status: int, text: str) -> None:
    error = error_of(status, text)
    assert isinstance(error, SinkRejectedError)
    assert (error.refused_count, error.is_doubtful) == (3, False)
