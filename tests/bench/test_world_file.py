"""A world that was written down goes on as one that never stopped; what cannot be gone on from is said, not raised."""

import pickle
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from swapline_bench import world_file
from swapline_bench.demo import Demo, DemoConfig
from swapline_bench.robot import BOOT_REAL_S
from swapline_bench.story import StoryState
from swapline_bench.world import World
from swapline_bench.world_file import MAGIC, Stopped, WorldFile, WorldFileError, WorldSettings
from swapline_gateway.error import StorageError

SETTINGS = WorldSettings(vans=3, stations=1, slots=4, seed=5)
STEP_S = 6.0
ABSENCE_S = 8.0


def make_world(real_time_s: Callable[[], float] | None = None) -> World:
    return World(van_count=3, slot_count=4, seed=5, swap_absence_real_s=ABSENCE_S, real_time_s=real_time_s)


def step_until(world: World, is_there: Callable[[], bool]) -> World:
    for _ in range(5000):
        if is_there():
            return world
        world.step(STEP_S)
    raise AssertionError("it did not come to that")


def carried(world: World) -> set[str]:
    """Return the modules that the robot has, by the ledger."""
    last = {event.code: event.kind for event in world.custody}
    return {code for code, kind in last.items() if kind == "out"}


def figures(world: World) -> object:
    """Return what devices would say, and what only physics knows."""
    modules = [(m.code, m.soc_pct, m.charge_in_ah, m.cells.charge_ah, m.cell_temperatures_c) for m in world.modules]
    vans = [(v.task, v.odometer_km, v.latitude_deg, v.soc_pct, v.request_id, v.bus.carry_j) for v in world.vans]
    slots = [(s.charger_state, s.energy_kwh, s.request_id) for s in world.stations[0].slots]
    meter = vars(world.stations[0].meter)
    queue = [van.name for van in world.stations[0].queue]
    return world.time_s, modules, vans, slots, {name: meter[name] for name in sorted(meter) if name != "_random"}, queue


def go_on(folder: Path, world: World) -> World:
    file = WorldFile(folder, SETTINGS)
    file.save(Stopped(world, None))
    stopped = file.load(speed=world.speed)
    assert stopped is not None
    return stopped.world


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_world_goes_on_as_if_it_had_never_stopped_whatever_its_robot_holds(tmp_path: Path, count: int) -> None:
    world = make_world()
    step_until(world, lambda: bool(world.swaps) and len(carried(world)) == count)
    after = go_on(tmp_path, world)
    known = len(world.custody)
    assert figures(after) == figures(world)
    for one in (world, after):
        for _ in range(400):
            one.step(STEP_S)
    assert figures(after) == figures(world)
    began = [event for event in after.custody if event.request_id == 0]
    assert len(began) == 10 - count
    assert after.custody[len(began) :] == world.custody[known:]
    assert len(world.custody) > known


def test_its_ledger_begins_with_the_modules_where_they_are(tmp_path: Path) -> None:
    world = make_world()
    step_until(world, lambda: len(world.swaps) >= 2)
    after = go_on(tmp_path, world)
    assert after.swaps == []
    assert {event.code for event in after.custody} == {module.code for module in world.modules}
    assert {event.real_time_s for event in after.custody} == {world.clock.real_time_s}
    assert after.ledger.next_request_id() == world.ledger.next_request_id()


def test_a_module_in_the_robots_hands_is_away_long_enough_for_nodes_that_were_off(tmp_path: Path) -> None:
    now_s = 5000.0
    world = make_world(lambda: now_s)
    for _ in range(5000):
        now_s += STEP_S / world.speed
        world.step(STEP_S)
        if len(carried(world)) == 2:
            break
    file = WorldFile(tmp_path, SETTINGS)
    file.save(Stopped(world, None))
    now_s = 3.0  # the computer was started again, and with it the clock that nothing can set back
    stopped = file.load(speed=60.0, real_time_s=lambda: now_s)
    assert stopped is not None
    after = stopped.world
    held, began_s = carried(world), now_s
    after.resume()
    for _ in range(300):
        now_s += STEP_S / after.speed
        after.step(STEP_S)
    came = {event.code: event.real_time_s for event in after.custody if event.request_id and event.kind == "in"}
    for code in held:
        assert BOOT_REAL_S <= came[code] - began_s < BOOT_REAL_S + ABSENCE_S
    assert all(event.real_time_s >= began_s + BOOT_REAL_S for event in after.custody if event.request_id)


def test_another_speed_is_no_other_world(tmp_path: Path) -> None:
    file = WorldFile(tmp_path, SETTINGS)
    file.save(Stopped(make_world(), None))
    stopped = file.load(speed=7.0)
    assert stopped is not None
    assert (stopped.world.speed, stopped.world.clock.speed) == (7.0, 7.0)


def test_the_story_is_kept_with_the_world(tmp_path: Path) -> None:
    file, story = WorldFile(tmp_path, SETTINGS), StoryState("CODE", ("begin", "sets out"))
    file.save(Stopped(make_world(), story))
    stopped = file.load(speed=60.0)
    assert stopped is not None
    assert stopped.story == story


def test_nothing_is_gone_on_from_where_there_is_no_file_or_no_more(tmp_path: Path) -> None:
    file = WorldFile(tmp_path, SETTINGS)
    file.forget()
    assert file.load(speed=60.0) is None
    file.save(Stopped(make_world(), None))
    file.forget()
    assert file.load(speed=60.0) is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


def seal(content: bytes) -> bytes:
    return MAGIC + sha256(content).hexdigest().encode() + b"\n" + content


def put_in(data: bytes, body: bytes) -> bytes:
    """Return the file with another body under its own head, with a sum that is right."""
    return seal(data.split(b"\n", 2)[1] + b"\n" + body)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda data: data[:-1], "is damaged, or no world", id="cut short"),
        pytest.param(lambda data: data.replace(b'"seed": 5', b'"seed": 6'), "is damaged, or no world", id="altered"),
        pytest.param(lambda _: b"", "is damaged, or no world", id="empty"),
        pytest.param(lambda _: b"\x80\x05.", "is damaged, or no world", id="another's"),
        pytest.param(lambda _: seal(b"[]\n"), "holds no world", id="another's head"),
        pytest.param(lambda data: put_in(data, b"\x80\x05"), "holds no world", id="half a pickle"),
        pytest.param(lambda data: put_in(data, pickle.dumps(7)), "holds no world", id="something else"),
        pytest.param(lambda data: put_in(data, pickle.dumps(Evil())), "is no part of a world", id="code to run"),
    ],
)
def test_a_file_that_is_no_world_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = WorldFile(tmp_path, SETTINGS)
    file.save(Stopped(make_world(), None))
    file.path.write_bytes(spoil(file.path.read_bytes()))
    with pytest.raises(WorldFileError, match=complaint):
        file.load(speed=60.0)
    assert not Path("evil").exists()


def test_a_world_of_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WorldFile(tmp_path, SETTINGS)
    file.save(Stopped(make_world(), None))
    monkeypatch.setattr(world_file, "_sum_of_code", lambda: "another")
    with pytest.raises(WorldFileError, match="another version of swapline"):
        file.load(speed=60.0)


def test_a_world_of_other_settings_is_refused_and_they_are_named(tmp_path: Path) -> None:
    WorldFile(tmp_path, SETTINGS).save(Stopped(make_world(), None))
    other = WorldFile(tmp_path, SETTINGS._replace(vans=5, seed=1))
    with pytest.raises(WorldFileError, match=r"has other settings \(vans 3, seed 5\)"):
        other.load(speed=60.0)


def test_a_world_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        WorldFile(tmp_path / "nowhere", SETTINGS).save(Stopped(make_world(), None))


@pytest.mark.parametrize(
    ("is_new", "content", "sentence"),
    [
        (True, None, None),
        (False, None, "the run before left it: it did not end in order"),
        (False, b"x", "is damaged, or no world"),
        (False, "world", "world: goes on where it stopped"),
    ],
)
def test_the_demo_says_whether_its_world_goes_on(
    tmp_path: Path, is_new: bool, content: bytes | str | None, sentence: str | None
) -> None:
    said: list[str] = []
    config = DemoConfig(vans=3, stations=1, speed=60, duration_s=1, data_dir=tmp_path, seed=5)
    if content == "world":
        WorldFile(tmp_path, SETTINGS).save(Stopped(make_world(), None))
    elif isinstance(content, bytes):
        (tmp_path / "world").write_bytes(content)
    demo = Demo(config, on_step=said.append)
    assert demo._find_world(is_new=is_new) == (content == "world")  # noqa: SLF001
    assert len(said) == (sentence is not None)
    assert all(sentence in line for line in said if sentence)
