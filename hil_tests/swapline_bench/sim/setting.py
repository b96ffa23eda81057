"""Settings: what a user may fix on a simulated device, by name, as text from a command line or a control socket."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from swapline_bench.faces.register_map import Field
from swapline_bench.sim.error import SimError
from swapline_wire import catalogue_text
from swapline_wire.catalogue import Stream

FREE_TEXT = "free"  # gives a setting back to the simulated physics
FREE: Final[Any] = object()  # the same, parsed
NOT_AVAILABLE = "none"
_RANGES = {"u16": (0, 0xFFFD), "i16": (-0x7FFE, 0x7FFF), "u32": (0, 0xFFFFFFFD), "i32": (-0x7FFFFFFE, 0x7FFFFFFF)}


class Setting(NamedTuple):
    """One thing that can be set: `parse` turns its text into a value and raises `ValueError` with what is expected."""

    name: str
    parse: Callable[[str], Any]
    help: str


def number(low: float, high: float, *, may_be_missing: bool = False) -> Callable[[str], float | None]:
    """Return a parser of numbers, decimal or 0x..., from `low` to `high`."""

    def parse(text: str) -> float | None:
        if may_be_missing and text == NOT_AVAILABLE:
            return None
        try:
            value = float(int(text, 16) if text.startswith("0x") else text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}" + (", or none" if may_be_missing else ""))
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers, decimal or 0x..., from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def numbers(low: float, high: float, *, count_max: int) -> Callable[[str], list[float]]:
    """Return a parser of numbers with commas between them."""

    def parse(text: str) -> list[float]:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not 0 < len(values) <= count_max or not all(low <= value <= high for value in values):
            raise ValueError(f"1 to {count_max} numbers from {low:g} to {high:g} with commas between them")
        return values

    return parse


def switch(text: str) -> bool:
    """Parse on or off."""
    if text not in {"on", "off", "1", "0"}:
        raise ValueError("on or off")
    return text in {"on", "1"}


def code(text: str) -> str:
    """Parse a module's code."""
    if not 1 <= len(text) <= 24 or not text.isascii() or not text.isprintable():
        raise ValueError("1 to 24 printable ASCII characters")
    return text


def field_settings(fields: Sequence[Field], stream: Stream) -> dict[str, Setting]:
    """Return a setting for every signal of a register map, with the range of its register; `none`: not available."""
    settings = {}
    for field in fields:
        low, high = (limit / 10**field.decimals for limit in _RANGES[field.type])
        parse = number(low, high, may_be_missing=True)
        settings[field.name] = Setting(field.name, parse, _field_help(field, stream, low, high))
    return settings


def bits_help(stream: Stream, name: str) -> str:
    """Say what the bits of a signal mean; nothing where it has none."""
    bits = catalogue_text.BITS.get((stream.name, name), {})
    return " + ".join(f"{1 << bit:#x} {meaning}" for bit, meaning in bits.items())


def _field_help(field: Field, stream: Stream, low: float, high: float) -> str:
    """Say what a register means, in the words that the catalogue has for its signal."""
    values = catalogue_text.VALUES.get((stream.name, field.name), {})
    states = ", ".join(f"{value} {name}" for value, name in values.items())
    known = states or bits_help(stream, field.name) or f"{low:.10g} to {high:.10g}"
    title: str = catalogue_text.SIGNALS[stream.name][field.name].title
    return f"{title}: {known}; or none."


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at the known name that is most like `name`, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def find_setting(settings: Mapping[str, Setting], name: str) -> Setting:
    """Return the setting of that name. Raises `SimError`."""
    setting = settings.get(name.replace("-", "_"))
    if setting is None:
        raise SimError(f"There is no setting {name}; {nearest(name, list(settings))}")
    return setting


def parse_setting(setting: Setting, text: str) -> Any:
    """Return the value that `text` gives the setting. Raises `SimError`."""
    try:
        return setting.parse(text)
    except ValueError as error:
        raise SimError(f"{setting.name}={text}: {setting.name} is {error}.") from None


def split_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Return names and texts of `name=value` arguments. Raises `SimError`."""
    found = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name or not text:
            raise SimError(f"{assignment!r} is not a setting: write NAME=VALUE, for example soc=40.")
        found[name.replace("-", "_")] = text
    return found
