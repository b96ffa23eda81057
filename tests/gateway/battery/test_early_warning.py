"""Early warning finds each planted fault, soon, and nothing in healthy lives; its book is a function of the hours."""

import importlib
import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from swapline_bench.module import Module
from swapline_bench.randomness import make_random
from swapline_gateway.battery.early_warning import (
    CELL_FALLS_BEHIND,
    DAY_MS,
    HOTTER_THAN_SIBLINGS,
    LOSES_CHARGE,
    SENSOR_STANDS_STILL,
    SPREAD_GROWS,
    HeatHour,
    find_warnings,
    heat_hour,
    rank,
)
from swapline_gateway.battery.hour import ModuleHour
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.battery.record import HOUR_MS, EarlyWarning
from swapline_gateway.battery.trend import find_trend
from swapline_gateway.battery.warning_book import WarningBook, to_row
from swapline_gateway.cli import main
from swapline_wire.catalogue import CELLS, MODULE

from .lived import Fleet, Lived, hours_of, readings_of
from .reading_store import ReadingStore

SEED, DAYS = 11, 12
command = importlib.import_module("swapline_gateway.command.warnings")  # the package's name is the command itself


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(seed=SEED, days=DAYS)


@pytest.fixture(scope="module")
def healthy(fleet: Fleet) -> dict[str, list[ModuleHour]]:
    lives = [fleet.live(number) for number in fleet.numbers]
    return {lived.code: hours_of(lived) for lived in lives}


def siblings_of(code: str, healthy: dict[str, list[ModuleHour]]) -> dict[str, list[HeatHour]]:
    return {
        other: [heat for hour in hours if (heat := heat_hour(hour)) is not None]
        for other, hours in healthy.items()
        if other != code
    }


def test_healthy_lives_give_no_warning(healthy: dict[str, list[ModuleHour]]) -> None:
    found = {code: find_warnings(hours, siblings_of(code, healthy)) for code, hours in healthy.items()}
    assert found == {code: [] for code in healthy}


def leak(module: Module) -> None:
    module.cells.leak(0.35, cell=6)


def leak_everywhere(module: Module) -> None:
    for cell in range(16):
        module.cells.leak(0.3, cell=cell)


def stick(module: Module) -> None:
    module.stick_sensor(2)


def foul(module: Module) -> None:
    module.cells.cleanness = 0.1
    module.cells.raise_resistance(2.0)


@pytest.mark.parametrize(
    ("strike", "kind", "days_max", "words"),
    [
        (leak, CELL_FALLS_BEHIND, 7.0, "Cell 7"),
        (leak_everywhere, LOSES_CHARGE, 8.0, "% of its charge a day"),
        (stick, SENSOR_STANDS_STILL, 2.5, "Sensor 3"),
        (foul, HOTTER_THAN_SIBLINGS, 8.0, "hotter than its siblings"),
    ],
)
def test_a_planted_fault_is_found_in_days_and_as_what_it_is(  # noqa: PLR0917 (the table's columns)
    fleet: Fleet,
    healthy: dict[str, list[ModuleHour]],
    strike: Callable[[Module], None],
    kind: str,
    days_max: float,
    words: str,
) -> None:
    lived = fleet.live(fleet.numbers[2], strike)
    hours, siblings = hours_of(lived), siblings_of(lived.code, healthy)
    before = [hour for hour in hours if hour.hour_utc_ms < lived.fault_utc_ms]
    soon = [hour for hour in hours if hour.hour_utc_ms < lived.fault_utc_ms + days_max * DAY_MS]
    assert find_warnings(before, siblings) == []
    found = find_warnings(soon, siblings)
    assert [warning.kind for warning in found] == [kind]
    assert words in found[0].text
    assert 0.25 < found[0].score <= 1.0
    assert found[0].since_utc_ms < lived.fault_utc_ms + 4 * DAY_MS
    assert json.loads(json.dumps(found[0].as_json()))["evidence"]


def test_without_single_cells_a_leaking_one_shows_in_the_spread(
    fleet: Fleet, healthy: dict[str, list[ModuleHour]]
) -> None:
    lived = fleet.live(fleet.numbers[2], leak)
    coarse = lived._replace(kept=[one for one in lived.kept if one.stream is MODULE])
    found = find_warnings(hours_of(coarse), siblings_of(lived.code, healthy))
    assert [warning.kind for warning in found] == [SPREAD_GROWS]


def test_of_a_module_without_hours_nothing_is_said() -> None:
    assert find_warnings([], {}) == []


def test_what_weighs_more_is_listed_first() -> None:
    def warning(module: str, score: float) -> EarlyWarning:
        return EarlyWarning(module, SPREAD_GROWS, score, "", 0, {})

    assert [one.module for one in rank([warning("B", 0.5), warning("A", 0.5), warning("C", 0.9)])] == ["C", "A", "B"]


# The trend itself.


def test_a_trend_is_found_through_noise_and_one_wild_day() -> None:
    random = make_random(3)
    points = [(float(day), 0.5 * day + random.gauss(0.0, 1.0)) for day in range(20)]
    points[7] = (7.0, 400.0)
    trend = find_trend({"90-98": points}, same=0.1)
    assert trend is not None
    assert trend.slope_per_day == pytest.approx(0.5, abs=0.15)
    assert trend.z > 3.6
    assert trend.span_days == 19


def test_days_of_different_bands_are_not_compared() -> None:
    """A module that is fuller from day to day shows no trend, though the voltage differences grow."""
    bands = {"20-30": [(0.0, 1.0), (1.0, 1.0)], "98-100": [(10.0, 30.0), (11.0, 30.0)]}
    trend = find_trend(bands, same=0.1)
    assert trend is not None
    assert (trend.slope_per_day, trend.z) == (0.0, 0.0)


def test_chance_is_seldom_taken_for_a_trend() -> None:
    random = make_random(5)
    found = 0
    for _ in range(500):
        trend = find_trend({"a": [(float(day), random.gauss(0.0, 1.0)) for day in range(14)]}, same=0.0)
        found += trend is not None and trend.z >= 3.1
    assert found <= 3


def test_a_single_day_is_no_trend() -> None:
    assert find_trend({"a": [(1.0, 5.0)]}, same=0.1) is None


# The book.


def book_of(store: ReadingStore) -> WarningBook:
    return WarningBook(store, HourBook(store))


def fill(store: ReadingStore, lived: Lived, until_utc_ms: int) -> None:
    for stream in (MODULE, CELLS):
        readings = [reading for reading in readings_of(lived.kept, stream) if reading[0] < until_utc_ms]
        store.add(lived.code, readings, stream.name)


@pytest.fixture(scope="module")
def leaking(fleet: Fleet) -> Lived:
    return fleet.live(fleet.numbers[2], leak)


def test_the_book_keeps_what_stands_and_takes_back_what_is_over(leaking: Lived) -> None:
    store = ReadingStore()
    fill(store, leaking, 1 << 60)
    HourBook(store).rebuild(leaking.code)
    book = book_of(store)
    book.refresh([leaking.code])
    (warning,) = book.warnings()
    assert (warning.module, warning.kind) == (leaking.code, CELL_FALLS_BEHIND)
    assert warning.evidence["cell"] == 7

    puts = store.puts
    book_of(store).refresh([leaking.code])  # another replica, or the same rows again
    assert store.puts == puts

    stale = EarlyWarning(leaking.code, SENSOR_STANDS_STILL, 0.4, "It was so once.", warning.since_utc_ms, {})
    store.put([to_row(stale)])
    assert [one.kind for one in book.warnings()] == [CELL_FALLS_BEHIND, SENSOR_STANDS_STILL]
    book.refresh([leaking.code])
    assert [one.kind for one in book.warnings()] == [CELL_FALLS_BEHIND]


def test_hours_that_come_late_and_in_any_order_leave_the_same_book(leaking: Lived) -> None:
    middle = leaking.kept[len(leaking.kept) // 2].time_ms
    tables = []
    for order in (True, False):
        store = ReadingStore()
        halves = [[one for one in leaking.kept if (one.time_ms < middle) is early] for early in (order, not order)]
        for kept in halves:
            part = leaking._replace(kept=kept)
            fill(store, part, 1 << 60)
            HourBook(store).rebuild(leaking.code)
            book_of(store).refresh([leaking.code])
        tables.append([one.as_json() for one in book_of(store).warnings()])
    assert tables[0] == tables[1] != []


def test_a_book_without_rows_is_empty() -> None:
    book = book_of(ReadingStore())
    book.refresh(["NOBODY"])
    assert book.warnings() == []


# The command.


class Told:
    def __init__(self, *warnings: dict[str, Any]) -> None:
        self._warnings = list(warnings)

    def codes(self) -> dict[str, Any]:
        return {"codes": ["A", "B", "HEALTHY"]}

    def warnings(self) -> dict[str, Any]:
        return {"warnings": self._warnings}


ONE = {"module": "A", "kind": LOSES_CHARGE, "score": 0.7, "text": "It leaks.", "since_utc_ms": HOUR_MS, "evidence": {}}


def test_the_command_explains_each_kind_in_a_line_of_its_own() -> None:
    lines = [line.strip() for line in CliRunner().invoke(main, ["warnings", "--help"]).output.splitlines()]
    assert "loses_charge          more charge goes in than comes out" in lines


def test_the_command_lists_reasons_and_says_it_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[sink]\ntype = "duckdb"\npath = "x.duckdb"\n', encoding="utf-8")

    @contextmanager
    def answers(_: object) -> Any:
        yield Told(ONE, ONE | {"module": "B", "score": 0.3})

    monkeypatch.setattr(command, "open_answers", answers)
    result = CliRunner().invoke(main, ["warnings", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:2] == ["0.70  A  loses_charge  since 1970-01-01 01:00:00 UTC", "      It leaks."]
    result = CliRunner().invoke(main, ["warnings", "--config", str(config), "--module", "B", "--json"])
    assert [one["module"] for one in json.loads(result.output)["warnings"]] == ["B"]
    result = CliRunner().invoke(main, ["warnings", "--config", str(config), "--module", "HEALTHY"])
    assert result.output == "No early warnings: HEALTHY shows no slow sign of failure.\n"
    result = CliRunner().invoke(main, ["warnings", "--config", str(config), "--module", "HEALTY"])
    assert result.exit_code == 1
    assert result.stderr == "swapline: No module 'HEALTY' is known; did you mean HEALTHY?\n"


def test_no_warnings_are_a_sentence() -> None:
    assert command.format_warnings([]).startswith("No early warnings")
