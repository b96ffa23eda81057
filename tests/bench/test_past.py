"""A fleet's past: a plan in which every module is somewhere, rows that end where the world begins, frames that are the
same each time, and a program that delivers them however often it is stopped."""

import asyncio
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from swapline_bench.demo_past import PastRun, choose_days
from swapline_bench.module_reading import module_row
from swapline_bench.past import FRAMES, Lived, Past, PastPlan, split_frames
from swapline_bench.past_schedule import CHARGE, DRIVE, FULL_SOC, Bay, Plan, Planner, land
from swapline_bench.past_sender import FRAMES_WAITING_MAX, NodeOfThePast, Progress
from swapline_bench.randomness import make_random
from swapline_wire import message
from swapline_wire.catalogue import BATTERY_IN, BATTERY_OUT, EVENT_STREAM, MODULE, find_signal
from swapline_wire.decode import decode

END_UTC_MS = 1_790_000_000_000
PLAN = PastPlan("demo", 1, 1, 6, seed=5, days=2, end_utc_ms=END_UTC_MS)
CODE, SOC = find_signal(EVENT_STREAM, "code"), find_signal(MODULE, "soc_pct")


VAN_SOC, SLOT_SOC = 0.4, (1.0, 0.99, 0.96, 0.6)


def make_plan(*, vans: int, days: int = 10, seed: int = 1) -> Plan:
    bays = {f"van-{n:03d}": (VAN_SOC,) * (2, 1, 3)[n % 3] for n in range(vans)}
    return Planner(bays, {"station-001": SLOT_SOC}, days=days, random=make_random(seed)).make()


@pytest.mark.parametrize("vans", [1, 3, 9])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_module_is_somewhere_at_all_times_and_nobody_else_is_there(vans: int, seed: int) -> None:
    plan = make_plan(vans=vans, seed=seed)
    for phases in plan.phases:
        assert phases[0].begin_s == 0.0
        assert phases[-1].end_s == plan.end_s
        assert all(one.end_s == after.begin_s for one, after in pairwise(phases))
    held: dict[Bay, int] = {}
    for move in plan.moves:
        if move.is_in:
            assert move.bay not in held
            held[move.bay] = move.module
        else:
            assert held.pop(move.bay) == move.module
    assert held == plan.ends


def test_vans_are_swapped_and_each_swap_has_four_halves() -> None:
    plan = make_plan(vans=3)
    by_request: dict[int, int] = {}
    for move in plan.moves:
        by_request[move.request_id] = by_request.get(move.request_id, 0) + 1
    del by_request[0]
    assert len(by_request) > 30
    assert set(by_request.values()) == {4}


def test_modules_end_as_full_as_the_world_has_them() -> None:
    plan = make_plan(vans=3)
    soc = {bay: SLOT_SOC[bay.bay - 1] if bay.node == "station-001" else VAN_SOC for bay in plan.ends}
    for bay, module in land(plan, soc).ends.items():
        last = plan.phases[module][-1]
        assert last.soc_end == (None if soc[bay] >= FULL_SOC else soc[bay])
        assert last.what == (DRIVE if bay.node.startswith("van") else CHARGE)


def test_nothing_is_charged_beyond_what_its_slot_has_when_the_world_begins() -> None:
    plan = make_plan(vans=3)
    soc = {bay: SLOT_SOC[bay.bay - 1] if bay.node == "station-001" else VAN_SOC for bay in plan.ends}
    counts = []
    for bay in (Bay("station-001", n) for n in range(1, 5)):
        phases = land(plan, soc).phases[plan.ends[bay]]
        came_s = max((phase.end_s for phase in phases if phase.bay is None), default=0.0)
        since = [phase.soc_end for phase in phases if phase.begin_s >= came_s]
        assert set(since) == {None if soc[bay] >= FULL_SOC else soc[bay]}
        counts.append(len(since))
    assert max(counts) > 1


def test_only_so_many_module_days_are_made_unless_asked_for() -> None:
    assert choose_days(None, 10) == 14
    assert choose_days(None, 100) == 2
    assert choose_days(30, 100) == 30
    assert choose_days(0, 10) == 0


@pytest.fixture(scope="module")
def past() -> Past:
    return Past(PLAN)


@pytest.fixture(scope="module")
def lives(past: Past) -> list[Lived]:
    return [past.live(number) for number in range(len(past.places))]


@pytest.fixture(scope="module")
def frames(past: Past, lives: list[Lived]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {node: [] for node in past.nodes}
    for sealed in past.frames(lives):
        found[sealed.node].append(sealed.data)
    return found


def test_rows_end_with_the_counters_and_the_charge_that_the_world_begins_with(past: Past, lives: list[Lived]) -> None:
    world = Past(PLAN)
    for number, lived in enumerate(lives):
        module = world.modules[past.places[number]]
        last = [row for row, stream in zip(lived.rows, lived.streams, strict=True) if stream == MODULE.id][-1]
        wanted = module_row(module)
        for name in ("charge_in_ah", "charge_out_ah", "energy_in_kwh", "energy_out_kwh"):
            index = find_signal(MODULE, name)
            assert last[index] == pytest.approx(wanted[index], abs=2)
        assert last[SOC] == pytest.approx(wanted[SOC], abs=15)  # 1.5 %: more would look like a leak, or like a gain


def test_frames_are_numbered_readable_in_the_order_of_time_and_end_before_the_world_begins(
    frames: dict[str, list[bytes]],
) -> None:
    for sealed in frames.values():
        decoded = [decode(data) for data in sealed]
        assert [one.header.seq for one in decoded] == list(range(1, len(sealed) + 1))
        assert len({one.header.journal for one in decoded}) == 1
        last = [one.header.anchor_utc_ms + one.rows[-1][0] for one in decoded]
        assert END_UTC_MS - 120_000 < max(last) <= END_UTC_MS
    assert len({decode(sealed[0]).header.journal for sealed in frames.values()}) == len(frames)


def test_each_arrival_and_departure_is_told_by_the_node_of_its_place(
    past: Past, frames: dict[str, list[bytes]]
) -> None:
    told = [
        (node, one.header.bay, one.header.owner, row[1 + CODE])
        for node, sealed in frames.items()
        for one in map(decode, sealed)
        if one.stream is EVENT_STREAM and one.header.owner
        for row in one.rows
    ]
    codes = {number: past.modules[bay].code for number, bay in past.places.items()}
    moved = [
        (move.bay.node, move.bay.bay, codes[move.module], BATTERY_IN if move.is_in else BATTERY_OUT)
        for move in past.schedule.moves
    ]
    assert sorted(told) == sorted(moved)


def test_the_same_plan_gives_the_same_bytes(lives: list[Lived]) -> None:
    again = Past(PLAN)
    assert again.live(2) == lives[2]
    first = [sealed.data for sealed in Past(PLAN).frames(lives)]
    assert first == [sealed.data for sealed in again.frames(lives)]


def test_a_file_that_was_cut_off_gives_its_whole_frames(frames: dict[str, list[bytes]]) -> None:
    some = frames["station-001"][:4]
    data = b"".join(some)
    assert list(split_frames(data)) == some
    assert list(split_frames(data[:-1])) == some[:3]
    assert list(split_frames(data[: len(some[0]) + 5])) == some[:1]
    assert list(split_frames(b"")) == []


# Sending.


@pytest.fixture
def folder(tmp_path: Path, frames: dict[str, list[bytes]]) -> Path:
    PLAN.save(tmp_path)
    for node, sealed in frames.items():
        (tmp_path / f"{node}{FRAMES}").write_bytes(b"".join(sealed))
    (tmp_path / "complete").touch()
    return tmp_path


def test_no_more_frames_are_on_the_way_than_allowed_and_none_is_forgotten(folder: Path) -> None:
    node = NodeOfThePast(folder, "demo", "station-001")
    sent: list[int] = []
    while (payload := node.next_message(0.0)) is not None:
        sent += [decode(bytes(part)).header.seq for part in message.split_frames(payload, 12)]
    assert 0 < len(sent) <= FRAMES_WAITING_MAX + 12
    assert sent == list(range(1, len(sent) + 1))

    node.take_ack(message.pack_ack(node.journal + 1, 0, [(1, 5)]), 1.0)  # of the node that is alive
    node.take_ack(b"nonsense", 1.0)
    assert node.acknowledged == 0
    node.take_ack(message.pack_ack(node.journal, 0, [(3, 5)]), 1.0)
    assert node.acknowledged == 0  # 1 and 2 are not
    node.take_ack(message.pack_ack(node.journal, 0, [(1, 2)]), 1.0)
    assert node.acknowledged == 5

    assert NodeOfThePast(folder, "demo", "station-001").acknowledged == 5  # the next run goes on from there
    late = node.next_message(100.0)  # nobody answered: from the first one again
    assert late is not None
    assert decode(bytes(message.split_frames(late, 12)[0])).header.seq == 6


def test_what_an_earlier_run_began_is_kept_and_a_fleet_without_past_gets_none(tmp_path: Path) -> None:
    run = PastRun(tmp_path / "past", on_log=lambda _: None)
    assert run.prepare(PLAN, is_new=False) is None
    assert run.prepare(None, is_new=True) is None
    assert run.prepare(PLAN, is_new=True) == PLAN
    assert run.prepare(None, is_new=False) == PLAN
    other = PLAN._replace(days=9)
    assert run.prepare(other, is_new=True) == PLAN
    assert run.prepare(other, is_new=False) == PLAN


async def test_a_program_that_fails_is_told_of(tmp_path: Path) -> None:
    said: list[str] = []
    run = PastRun(tmp_path / "nothing", on_log=said.append)
    await run.start("127.0.0.1", 1)
    await run.wait()
    assert run.problem is not None
    assert any("plan" in line or "Error" in line for line in said)


def test_progress_is_a_sentence() -> None:
    assert Progress("lives", 1, 4).text() == "past: made 25 %"
    assert Progress("frames", 50, 100).text() == "past: sent 50 %"
    assert Progress(**json.loads('{"stage": "frames", "done": 0, "total": 0}')).text() == "past: sent 0 %"


async def test_the_program_can_be_stopped_at_any_time(folder: Path) -> None:
    run = PastRun(folder, on_log=lambda _: None)
    await run.start("127.0.0.1", 1)  # no broker there: it tries again and again
    await asyncio.sleep(0)
    await run.stop()
    assert not run.is_running
    assert run.problem is None
    assert sys.executable


async def test_the_program_can_be_stopped_while_its_workers_make_lives(tmp_path: Path) -> None:
    PLAN._replace(days=7).save(tmp_path)
    program = PastRun(tmp_path, on_log=lambda _: None)
    await program.start("127.0.0.1", 9)
    async with asyncio.timeout(60):
        while program.progress is None:  # noqa: ASYNC110 (a life is made, others are under way)
            await asyncio.sleep(0.05)
        await program.stop()
    assert not program.is_running, "its pipes are closed, so nobody has them any more"
