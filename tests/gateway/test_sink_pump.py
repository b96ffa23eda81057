"""Spool, pump and sink against a database that misbehaves: what is stored, in which order, and what is set aside."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swapline_bench.frame_source import FrameSource, module_row, row_of
from swapline_gateway.config import Influxdb1Config, Influxdb2Config
from swapline_gateway.due import Touch
from swapline_gateway.error import SinkRejectedError, StorageError
from swapline_gateway.ingest import Item, Sender, examine_message
from swapline_gateway.pipeline import PipelineFigures
from swapline_gateway.pump import BATCH_FRAMES_MIN, BATCH_S_MAX, Pump
from swapline_gateway.quarantine import Quarantine
from swapline_gateway.reading import FrameRows
from swapline_gateway.retry import Backoff
from swapline_gateway.sinks.base import Sink, Written, count_written
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink
from swapline_gateway.spool import Outcome, Spool, SpooledFrame, now_utc_ms
from swapline_gateway.worker import Worker
from swapline_wire.catalogue import ALARM_STREAM, MODULE
from tests.gateway.fake_influx import Answer, FakeInflux

NS_PER_MS = 1_000_000


@dataclasses.dataclass
class Rig:
    """A spool, and the pump that empties it."""

    spool: Spool
    worker: Worker
    pump: Pump
    figures: PipelineFigures
    path: Path

    async def store(self, source: FrameSource, *frames: bytes) -> Outcome:
        """Take frames of a node, as the intake does."""
        outcome = await self.worker.run(self.spool.store, items(source, *frames), [], now_utc_ms())
        self.pump.wake()
        return outcome

    async def until_empty(self) -> None:
        """Wait until the spool is empty; asked in its own thread, so that the pump has counted what left it."""
        async with asyncio.timeout(60):
            while await self.worker.run(lambda: self.spool.frame_count):  # noqa: ASYNC110 (a number announces nothing)
                await asyncio.sleep(0.01)

    async def until_failures(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.figures.sink_failures < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def details(self) -> list[str]:
        """Return what quarantine says, the oldest entry first."""
        with Quarantine(self.path) as quarantine:
            return [entry.detail for entry in quarantine.entries(limit=-1)][::-1]


def items(source: FrameSource, *frames: bytes) -> list[Item]:
    sender = Sender(source.fleet, source.node)
    return [item for frame in frames for item in examine_message(sender, source.message(frame)).items]


@asynccontextmanager
async def pumping(
    folder: Path, sink: Sink, *, delay_s_max: float = 0.02, quarantine_node_bytes_max: int = 16 << 20
) -> AsyncIterator[Rig]:
    path = folder / "spool.sqlite"
    worker = Worker("spool")
    limits = {"limit_bytes": 1 << 30, "disk_reserve_bytes": 0, "quarantine_node_bytes_max": quarantine_node_bytes_max}
    spool = await worker.run(Spool, path, **limits)
    figures = PipelineFigures(spool_limit_bytes=1 << 30, sink_name=sink.name)
    backoff = Backoff(delay_s_min=0.01, delay_s_max=delay_s_max)
    pump = Pump(spool=spool, spool_worker=worker, sink=sink, figures=figures, backoff=backoff, linger_s=0.0)
    await pump.open()
    running = asyncio.create_task(pump.run())
    try:
        yield Rig(spool, worker, pump, figures, path)
        pump.finish()
        await asyncio.wait([running], timeout=60)
        assert running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pump.close()
        await worker.run(spool.close)
        worker.close()


@pytest.fixture(params=[1, 2])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeInflux]:
    with FakeInflux(request.param) as server:
        yield server


def sink_of(fake: FakeInflux, *, timeout_s: float = 10.0, token: str = "right") -> Sink:  # noqa: S107 (a test's own)
    if fake.version == 1:
        return Influxdb1Sink(Influxdb1Config(type="influxdb1", url=fake.url, timeout_s=timeout_s))
    keys = {"type": "influxdb2", "url": fake.url, "timeout_s": timeout_s, "token": token}
    return Influxdb2Sink(Influxdb2Config.model_validate(keys))


def seqs(fake: FakeInflux) -> list[int]:
    """Return the numbers of the frames that are stored, in the order in which they were."""
    return [int(fake.points[point].split("seq=")[1].split("i")[0]) for point in fake.measurement("frames")]


async def test_after_an_outage_alarms_come_first_then_the_present_with_the_past(
    tmp_path: Path, fake: FakeInflux
) -> None:
    source = FrameSource()
    sink = sink_of(fake)
    fake.stop()
    async with pumping(tmp_path, sink) as rig:
        await rig.store(source, *(source.frame() for _ in range(5000)))
        alarm = source.frame([(1, row_of(ALARM_STREAM, code=1, level=2))], stream=ALARM_STREAM)
        await rig.store(source, alarm, source.frame())
        await rig.until_failures(15)
        assert rig.figures.sink_error
        fake.start()
        await rig.until_empty()
        assert not rig.figures.sink_error
    stored = seqs(fake)
    assert stored[0] == 5001
    assert stored.index(5002) <= BATCH_FRAMES_MIN
    assert sorted(stored) == list(range(1, 5003))


async def test_database_that_is_back_when_the_gateway_ends_is_given_everything(
    tmp_path: Path, fake: FakeInflux
) -> None:
    source = FrameSource()
    fake.answers.append(Answer(503, headers={"Retry-After": "60"}))
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, *(source.frame() for _ in range(100)))
        await rig.until_failures(1)
    assert sorted(seqs(fake)) == list(range(1, 101))


async def test_slow_503_and_429_cost_patience_and_no_frame(tmp_path: Path, fake: FakeInflux) -> None:
    source = FrameSource()
    statuses = (503, 429, 502, 504, 500)
    fake.answers.extend(Answer(status, "<html>later</html>", delay_s=0.2) for status in statuses)
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, *(source.frame() for _ in range(100)))
        await rig.until_empty()
        assert rig.figures.sink_failures == len(statuses)
        assert not rig.details()
    assert sorted(seqs(fake)) == list(range(1, 101))


async def test_database_that_asks_for_patience_gets_it(tmp_path: Path, fake: FakeInflux) -> None:
    source = FrameSource()
    fake.answers.append(Answer(429, headers={"Retry-After": "1"}))
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, source.frame())
        await rig.until_empty()
    refused_s, taken_s = fake.answered_s
    assert taken_s - refused_s >= 1


async def test_database_too_slow_for_large_batches_is_given_smaller_ones(tmp_path: Path, fake: FakeInflux) -> None:
    source = FrameSource()
    fake.rules.slow_bytes = 30_000
    async with pumping(tmp_path, sink_of(fake, timeout_s=0.3)) as rig:
        await rig.store(source, *(source.frame() for _ in range(300)))
        await rig.until_empty()
        assert rig.figures.sink_failures >= 2
    assert sorted(seqs(fake)) == list(range(1, 301))


async def test_token_that_is_revoked_and_restored_costs_nothing(tmp_path: Path) -> None:
    source = FrameSource()
    with FakeInflux(2) as fake:
        fake.rules.token = "right"  # noqa: S105 (a test's own)
        async with pumping(tmp_path, sink_of(fake)) as rig:
            await rig.store(source, source.frame())
            await rig.until_empty()
            fake.rules.token = "other"  # noqa: S105
            await rig.store(source, *(source.frame() for _ in range(50)))
            await rig.until_failures(3)
            assert "credentials or token refused" in rig.figures.sink_error
            fake.rules.token = "right"  # noqa: S105
            await rig.until_empty()
            assert not rig.details()
    assert sorted(seqs(fake)) == list(range(1, 52))


async def test_good_rows_of_a_partly_refused_frame_are_stored_and_its_replay_changes_nothing(
    tmp_path: Path, fake: FakeInflux
) -> None:
    source = FrameSource()
    whole, without = module_row(), row_of(MODULE, voltage_v=5100)
    mixed = source.frame([(1000, without), (2000, whole), (3000, without), (4000, whole)])
    fake.rules.conflict = ("module", "soc_pct")
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, mixed, source.frame([(5000, without)]))
        await rig.until_empty()
        (detail,) = rig.details()
        assert detail.startswith("2 of 4 rows refused (2, 4): 4")
        assert 'input field "soc_pct" on measurement "module"' in detail
        assert rig.figures.quarantined_by_reason == {"sink_rejected": 1}
        assert (rig.figures.frames_stored, rig.figures.rows_stored) == (1, 3)
        stored = dict(fake.points)
        assert "row_count=2i" in stored[own := fake.measurement("frames")[0]]
        assert "rows_refused=2i" in stored[own]
        fake.rules.conflict = None
        with Quarantine(rig.path) as quarantine:
            (entry,) = quarantine.entries(limit=10)
            assert quarantine.replay(entry) == ""
        rig.pump.wake()
        await asyncio.to_thread(fake.wait_for, 5, "module")
    rows = {point: fields for point, fields in stored.items() if not point[0].startswith("frames")}
    assert rows.items() <= fake.points.items()
    assert len(fake.measurement("module")) == 5
    assert len(fake.measurement("frames")) == 2
    assert "row_count=4i" in fake.points[own]
    assert "rows_refused=0i" in fake.points[own]


async def test_frame_that_is_refused_again_after_its_replay_is_one_entry_again(
    tmp_path: Path, fake: FakeInflux
) -> None:
    source = FrameSource()
    fake.rules.oldest_ns = now_utc_ms() * NS_PER_MS
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, source.frame())
        await rig.until_empty()
        with Quarantine(rig.path) as quarantine:
            assert quarantine.replay(quarantine.entries(limit=1)[0]) == ""
            rig.pump.wake()
            async with asyncio.timeout(60):
                while rig.figures.quarantined_by_reason != {"sink_rejected": 2}:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert len(quarantine.entries(limit=10)) == 1


async def test_disk_that_fails_between_database_and_quarantine_costs_a_repeat(
    tmp_path: Path, fake: FakeInflux, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FrameSource()
    fake.rules.conflict = ("module", "soc_pct")
    async with pumping(tmp_path, sink_of(fake)) as rig:
        set_aside = rig.spool.set_aside
        failures = iter([StorageError("The disk does not answer.")])

        def fail_once(refusals: Sequence[tuple[SpooledFrame, str, str]], touches: Sequence[Touch]) -> None:
            for error in failures:
                raise error
            set_aside(refusals, touches)

        monkeypatch.setattr(rig.spool, "set_aside", fail_once)
        without = source.frame([(1000, row_of(MODULE, voltage_v=5100))])
        await rig.store(source, without, source.frame())
        await rig.until_empty()
        assert next(failures, None) is None
        assert len(rig.details()) == 1
        assert (rig.figures.frames_stored, rig.figures.quarantined_by_reason) == (1, {"sink_rejected": 1})
    assert len(fake.measurement("module")) == 1


async def test_node_whose_every_frame_is_refused_costs_a_few_requests_and_delays_nobody(
    tmp_path: Path, fake: FakeInflux
) -> None:
    now_ms = now_utc_ms()
    bad = FrameSource(node="van-666", anchor_utc_ms=now_ms - 1000 * 86_400_000)
    good = FrameSource(node="van-001", anchor_utc_ms=now_ms)
    fake.rules.oldest_ns = (now_ms - 86_400_000) * NS_PER_MS
    sink = sink_of(fake)
    fake.stop()
    async with pumping(tmp_path, sink) as rig:
        for _ in range(5):
            await rig.store(bad, *(bad.frame() for _ in range(1000)))
            await rig.store(good, *(good.frame() for _ in range(20)))
        fake.start()
        await rig.until_empty()
        assert len(rig.details()) == 5000
        assert rig.figures.nodes["test", "van-001"].quarantined == 0
    assert sorted(seqs(fake)) == list(range(1, 101))
    assert len(fake.statuses) < 60


async def test_node_whose_frames_are_refused_beyond_its_quota_is_held_and_no_other_node(
    tmp_path: Path, fake: FakeInflux
) -> None:
    now_ms = now_utc_ms()
    bad = FrameSource(node="van-666", anchor_utc_ms=now_ms - 1000 * 86_400_000)
    good = FrameSource(node="van-001", anchor_utc_ms=now_ms)
    fake.rules.oldest_ns = (now_ms - 86_400_000) * NS_PER_MS
    async with pumping(tmp_path, sink_of(fake), quarantine_node_bytes_max=20_000) as rig:
        await rig.store(bad, *(bad.frame() for _ in range(40)))
        await rig.until_empty()
        assert len(rig.details()) == 40
        outcome = await rig.store(bad, bad.frame())
        assert ([reason for _, reason, _ in outcome.refused], outcome.stored) == (["quarantine_full"], [])
        assert not outcome.acknowledge
        assert len((await rig.store(good, good.frame())).stored) == 1
        with Quarantine(rig.path) as quarantine:
            fake.rules.oldest_ns = None
            for entry in quarantine.entries(limit=-1):
                assert quarantine.replay(entry) == ""
        await rig.worker.run(rig.spool.backlog)  # which counts again, as the gateway does twice a second
        assert len((await rig.store(bad, bad.frame(seq=41))).stored) == 1
        await asyncio.to_thread(fake.wait_for, 42)
    assert sorted(seqs(fake)) == sorted([*range(1, 42), 1])


async def test_batch_that_is_larger_than_the_server_takes_is_sent_in_parts(tmp_path: Path, fake: FakeInflux) -> None:
    source = FrameSource()
    fake.rules.request_bytes_max = 30_000
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, *(source.frame() for _ in range(500)))
        await rig.until_empty()
        assert not rig.details()
    assert sorted(seqs(fake)) == list(range(1, 501))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, "<html>The plain HTTP request was sent to HTTPS port</html>"),
        Answer(422, '{"error": "database is required"}'),
        Answer(413, "too large"),
        Answer(200, "<html>Log in to this hotel's network</html>"),
        Answer(302, "", {"Location": "http://127.0.0.1:1/"}),
        Answer(418, "\x00\x01"),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_stranger_who_answers_in_the_databases_place_takes_nothing_and_spoils_nothing(
    tmp_path: Path, fake: FakeInflux, answer: Answer
) -> None:
    source = FrameSource()
    fake.always = answer
    async with pumping(tmp_path, sink_of(fake)) as rig:
        await rig.store(source, *(source.frame() for _ in range(20)))
        await rig.until_failures(3)
        fake.always = None
        await rig.until_empty()
        assert not rig.details()
    assert sorted(seqs(fake)) == list(range(1, 21))


class PickySink:
    """Rejects a batch as a whole while a frame of it has a number that it does not like."""

    name = "picky"

    def __init__(self, is_liked: Callable[[int], bool]) -> None:
        self.stored: list[int] = []
        self._is_liked = is_liked

    def open(self) -> None:
        pass

    def write(self, frames: Sequence[FrameRows]) -> Written:
        numbers = [int(frame.header.seq) for frame in frames]
        if not all(map(self._is_liked, numbers)):
            raise SinkRejectedError("I do not like it")
        self.stored += numbers
        return count_written(frames, duplicates=0)

    def close(self) -> None:
        pass


async def test_sink_that_rejects_whole_batches_gets_all_frames_but_the_guilty(tmp_path: Path) -> None:
    source = FrameSource()
    sink = PickySink(lambda seq: seq not in (7, 13))
    async with pumping(tmp_path, sink) as rig:
        await rig.store(source, *(source.frame() for _ in range(40)))
        await rig.until_empty()
        assert rig.details() == ["I do not like it"] * 2
    assert sorted(sink.stored) == sorted({*range(1, 41)} - {7, 13})


class SlowSink(PickySink):
    """Takes 2 ms a frame, which is as slow as a small computer with large frames."""

    def __init__(self) -> None:
        super().__init__(lambda _: True)
        self.batches: list[int] = []

    def write(self, frames: Sequence[FrameRows]) -> Written:
        self.batches.append(len(frames))
        time.sleep(0.002 * len(frames))
        return super().write(frames)


async def test_batches_of_a_slow_sink_become_so_small_that_a_new_frame_need_not_wait_long(tmp_path: Path) -> None:
    source = FrameSource()
    sink = SlowSink()
    async with pumping(tmp_path, sink) as rig:
        await rig.store(source, *(source.frame() for _ in range(1500)))
        async with asyncio.timeout(60):
            while len(sink.batches) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await rig.store(source, source.frame())
        place = len(sink.batches)
        await rig.until_empty()
    assert max(sink.batches) <= BATCH_S_MAX / 0.002 * 1.125
    assert sink.stored.index(1501) < sum(sink.batches[: place + 2])
    assert sorted(sink.stored) == list(range(1, 1502))


async def test_frame_that_cannot_be_decoded_is_set_aside_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    source = FrameSource()
    sink = PickySink(lambda _: True)
    frames = [source.frame() for _ in range(10)]
    found = items(source, *frames)
    damaged = bytearray(frames[4])
    damaged[70] ^= 1
    found[4] = dataclasses.replace(found[4], data=bytes(damaged))
    async with pumping(tmp_path, sink) as rig:
        await rig.worker.run(rig.spool.store, found, [], now_utc_ms())
        rig.pump.wake()
        await rig.until_empty()
        assert rig.figures.quarantined_by_reason == {"bad_checksum": 1}
    assert sink.stored == [1, 2, 3, 4, 6, 7, 8, 9, 10]


async def test_alarms_among_thousands_are_a_batch_of_their_own_and_hold_up_nothing(tmp_path: Path) -> None:
    source = FrameSource()
    sink = SlowSink()
    async with pumping(tmp_path, sink) as rig:
        alarms = [source.frame([(1, row_of(ALARM_STREAM, code=1, level=1))], stream=ALARM_STREAM) for _ in range(40)]
        await rig.store(source, *(source.frame() for _ in range(700)), *alarms)
        await rig.until_empty()
    assert (sink.batches[0], set(sink.stored[:40])) == (40, set(range(1, 41)))
    assert sink.batches[1] > 40
    assert sorted(sink.stored) == list(range(1, 741))
