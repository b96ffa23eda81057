"""One step of the keeper's work: what one module's rows spoil stays with it, and a holder's late rows count."""

import pytest

from swapline_gateway.battery.books import Books
from swapline_gateway.battery.derivation import Derivation
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.due import HOLDER
from swapline_gateway.error import SinkBusyError
from swapline_wire.decode import decode
from tests.gateway.battery.conftest import Database
from tests.gateway.battery.swap_story import HOUR_MS, MODULES, tell
from tests.gateway.written import write

START_MS = 1_800_000_000_000 // HOUR_MS * HOUR_MS
HOURS = [(module, START_MS + n * HOUR_MS) for module in MODULES for n in range(3)]


def write_story(database: Database, *, without: str = "", only: str = "") -> None:
    """Write what the story's frames tell, without those of one stream, or only those."""
    for teller in tell(START_MS):
        frames = [
            f for f in teller.frames if decode(f).stream.name != without and (not only or decode(f).stream.name == only)
        ]
        if frames:
            write(database.sink, teller.source, *frames)


def test_step_derives_hours_custody_passports_and_warnings(duckdb_file: Database) -> None:
    write_story(duckdb_file)
    derivation = Derivation(duckdb_file.store)
    derived = derivation.hours(HOURS)
    assert (derived.hour_count, derived.changed, derived.failed) == (6, set(MODULES), {})
    assert derivation.figures(MODULES).failed == {}
    books = Books(duckdb_file.store)
    assert len(books.custody.swaps()) == 2
    passport = books.passports.passport(MODULES[0])
    assert passport is not None
    assert passport.swap_count == 2
    assert derivation.hours(HOURS).changed == set()


def test_slot_rows_that_come_late_make_a_station_of_the_holder(duckdb_file: Database) -> None:
    write_story(duckdb_file, without="slot")
    derivation = Derivation(duckdb_file.store)
    derivation.hours(HOURS)
    books = Books(duckdb_file.store)
    assert not [swap for swap in books.custody.swaps() if swap.station]
    write_story(duckdb_file, only="slot")
    derivation.hours([(f"{HOLDER}test/station-1", START_MS + n * HOUR_MS) for n in range(3)])
    assert [swap.station for swap in books.custody.swaps()] == ["station-1"] * 2


def test_module_whose_rows_no_formula_survives_fails_alone(
    duckdb_file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_story(duckdb_file)
    refresh = HourBook.refresh

    def fail_for_one(book: HourBook, module: str, hours: list[int]) -> bool:
        if module == MODULES[0]:
            raise ZeroDivisionError("a voltage of nothing")
        return refresh(book, module, hours)

    monkeypatch.setattr(HourBook, "refresh", fail_for_one)
    derived = Derivation(duckdb_file.store).hours(HOURS)
    assert derived.failed == {MODULES[0]: "ZeroDivisionError: a voltage of nothing"}
    assert derived.changed >= {MODULES[1]}
    assert derived.hour_count == 3


def test_database_that_does_not_answer_ends_the_step(duckdb_file: Database) -> None:
    write_story(duckdb_file)
    duckdb_file.sink.close()
    derivation = Derivation(duckdb_file.store)
    with pytest.raises(SinkBusyError):
        derivation.hours(HOURS)
    with pytest.raises(SinkBusyError):
        derivation.figures(MODULES)
    with pytest.raises(SinkBusyError):
        derivation.is_outdated()
