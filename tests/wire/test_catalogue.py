"""The catalogue's rows make sense, and every one has its text."""

import pytest

from swapline_wire import catalogue, catalogue_text
from swapline_wire.catalogue import FORMATS, STREAMS, Signal, Stream

ALL = [(stream, signal) for stream in STREAMS for signal in stream.signals]
BY_NAME = {(stream.name, signal.name): signal for stream, signal in ALL}
IDS = [f"{stream.name}.{signal.name}" for stream, signal in ALL]
each_signal = pytest.mark.parametrize("signal", [signal for _, signal in ALL], ids=IDS)
each_place = pytest.mark.parametrize(("stream", "signal"), ALL, ids=IDS)

# What a name ends with says the unit; names of counts, codes and flags end with none of these.
UNIT_OF_ENDING = {
    "kmh": "km/h",
    "km": "km",
    "v": "V",
    "a": "A",
    "pct": "%",
    "nm": "N.m",
    "rpm": "rpm",
    "c": "degC",
    "mps2": "m/s2",
    "kw": "kW",
    "kvar": "kvar",
    "kwh": "kW.h",
    "ah": "A.h",
    "kohm": "kohm",
    "kg": "kg",
    "deg": "deg",
    "m": "m",
    "db": "dB",
    "dbm": "dBm",
    "hz": "Hz",
    "s": "s",
    "ms": "ms",
    "bytes": "B",
}


def test_stream_ids_and_names_are_unique() -> None:
    assert [stream.id for stream in STREAMS] == list(range(1, len(STREAMS) + 1))
    assert len({stream.name for stream in STREAMS}) == len(STREAMS)
    for stream in STREAMS:
        assert catalogue.stream_by_id(stream.id) is stream
        assert catalogue.stream_by_name(stream.name) is stream
    assert catalogue.stream_by_id(0) is None
    assert catalogue.stream_by_name("Vehicle") is None


def test_signal_names_are_unique_in_their_stream() -> None:
    assert len(BY_NAME) == len(ALL) > 150


@each_signal
def test_limits_fit_the_format_and_leave_its_two_codes_free(signal: Signal) -> None:
    _, width, not_available, abnormal = FORMATS[signal.format]
    bits = 8 * width
    low, high = (0, (1 << bits) - 1) if signal.format[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    assert low <= signal.minimum < signal.maximum <= high
    assert not signal.minimum <= not_available <= signal.maximum
    assert not signal.minimum <= abnormal <= signal.maximum


@each_signal
def test_deadband_is_a_small_part_of_the_range(signal: Signal) -> None:
    assert 1 <= signal.deadband <= max(1, (signal.maximum - signal.minimum) // 10)


@each_signal
def test_unit_is_the_one_that_the_name_states(signal: Signal) -> None:
    ending = signal.name.removesuffix("_max").rsplit("_", 1)[-1]
    has_unit = "_" in signal.name and signal.kind in {catalogue.MEASUREMENT, catalogue.TOTAL}
    assert signal.unit == (UNIT_OF_ENDING.get(ending, "") if has_unit else "")


@each_place
def test_signal_has_text_that_says_something(stream: Stream, signal: Signal) -> None:
    text = catalogue_text.signal_text(stream, signal)
    assert 2 < len(text.title) <= 24
    assert text.description.endswith(".")
    assert text.description.strip(".").lower() != text.title.lower()


def test_text_names_nothing_that_the_catalogue_does_not_have() -> None:
    assert set(catalogue_text.STREAMS) == {stream.name for stream in STREAMS}
    described = {(stream, signal) for stream, signals in catalogue_text.SIGNALS.items() for signal in signals}
    assert described == set(BY_NAME)
    assert set(catalogue_text.VALUES) | set(catalogue_text.BITS) <= set(BY_NAME)


def test_titles_are_unique_in_their_stream() -> None:
    for stream, signals in catalogue_text.SIGNALS.items():
        assert len({text.title for text in signals.values()}) == len(signals), stream


def test_named_values_are_states_or_keys_and_all_allowed() -> None:
    for place, names in catalogue_text.VALUES.items():
        signal = BY_NAME[place]
        assert signal.kind in {catalogue.STATE, catalogue.KEY}, place
        assert all(signal.minimum <= value <= signal.maximum for value in names), place
        assert len(set(names.values())) == len(names), place


def test_enumeration_with_names_up_to_its_maximum_leaves_none_out() -> None:
    for place, names in catalogue_text.VALUES.items():
        maximum = BY_NAME[place].maximum
        if maximum < 20:
            assert maximum in names, place
            assert set(range(min(names), maximum + 1)) == set(names), place


def test_named_bits_fit_into_their_flag_words() -> None:
    for place, names in catalogue_text.BITS.items():
        signal = BY_NAME[place]
        assert signal.kind == catalogue.STATE, place
        assert max(names) < 8 * FORMATS[signal.format][1], place


def test_value_and_bit_names_fall_back_to_numbers() -> None:
    vehicle, slot = catalogue.VEHICLE, catalogue.SLOT
    gear, faults = BY_NAME["vehicle", "gear"], BY_NAME["slot", "faults"]
    assert catalogue_text.value_name(vehicle, gear, 3) == "drive"
    assert catalogue_text.value_name(vehicle, gear, 9) == "9"
    assert catalogue_text.bit_names(slot, faults, 0b1000_0000_0001_0001) == ["grid input", "fan", "bit 15"]


def test_every_loss_and_time_quality_has_a_name() -> None:
    losses = {value for name, value in vars(catalogue).items() if name.startswith("LOSS_")}
    qualities = {value for name, value in vars(catalogue).items() if name.startswith("TIME_")}
    assert set(catalogue_text.LOSSES) == losses
    assert set(catalogue_text.TIME_QUALITIES) == qualities
