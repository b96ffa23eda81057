"""Whatever a BMS says within the catalogue's limits, or leaves out: hours, days and passports survive it."""

import json
from math import isfinite
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swapline_gateway.battery.hour import SIGNALS, ModuleHour
from swapline_gateway.battery.hour_book import HourBook
from swapline_gateway.battery.passport import from_json
from swapline_gateway.battery.passport_book import PassportBook
from swapline_gateway.battery.record import Place
from swapline_gateway.battery.span import DAY_MS, Span
from swapline_gateway.battery.table import MODULE_DAY, MODULE_HOUR, PASSPORT
from swapline_wire.catalogue import MODULE
from tests.gateway.battery.reading_store import ReadingStore

CODE = "0SLPB0451800168380000001"
BEGIN = 20_000 * DAY_MS - 600_000  # ten minutes before midnight
PLACES = [Place("test", "van-001", 1), Place("test", "van-001", 2), Place("test", "station-001", 1)]
LIMITS = {s.name: (s.minimum, s.maximum, 10**s.decimals) for s in MODULE.signals}


def values(name: str) -> st.SearchStrategy[float | None]:
    low, high, scale = LIMITS[name]
    return st.none() | st.integers(low, high).map(lambda raw: raw / scale)


READINGS = st.lists(
    st.tuples(
        st.integers(0, 1_200_000) | st.integers(0, 6 * 3_600_000),
        st.sampled_from(PLACES),
        st.fixed_dictionaries({name: values(name) for name in SIGNALS}),
    ),
    min_size=1,
    max_size=30,
)


def numbers(content: Any) -> list[float]:
    if isinstance(content, dict):
        return [one for value in content.values() for one in numbers(value)]
    if isinstance(content, (list, tuple)):
        return [one for value in content for one in numbers(value)]
    return [content] if isinstance(content, float) else []


@settings(max_examples=40, deadline=None)
@given(READINGS)
def test_any_rows_make_hours_days_and_a_passport(readings: list[tuple[int, Place, dict[str, float | None]]]) -> None:
    store = ReadingStore()
    store.add(CODE, [(BEGIN + time, place, told) for time, place, told in readings])
    hours = HourBook(store)
    assert hours.rebuild(CODE) is True
    assert hours.rebuild(CODE) is False
    passports = PassportBook(store, hours)
    passports.refresh([CODE])
    made = passports.passport(CODE)
    assert made is not None
    assert from_json(json.loads(json.dumps(made.as_json(), allow_nan=False))) == made
    for row in store.read(MODULE_HOUR):
        assert ModuleHour.from_row(row).as_row() == row
    for row in store.read(MODULE_DAY):
        assert Span.from_row(row).as_row(CODE) == row
    for table in (MODULE_HOUR, MODULE_DAY, PASSPORT):
        for row in store.read(table):
            told = numbers(row.fields) + numbers([json.loads(row.fields[n]) for n in ("detail",)])
            assert all(isfinite(number) for number in told)
            assert not any(name not in row.table.fields for name in row.fields)
    assert made.known_s >= 0
    assert min(made.energy_in_kwh, made.energy_out_kwh, made.charge_in_ah, made.charge_out_ah) >= 0
