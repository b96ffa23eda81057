"""A module's code taken apart as GB/T 34014-2017 builds it; what is unusual about it is said, and it is kept as it is.

24 characters: maker (3), product type (1), battery type (1), specification (2), traceability (7), production date (3),
serial number of that day (7). Nothing is corrected: a code is what the BMS said, and two spellings are two modules.
What is known from where: docs/modules.md.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from difflib import get_close_matches
from string import ascii_uppercase, digits
from typing import Any

LENGTH = 24
LENGTH_SECOND_USE = 19  # without traceability: a battery that was coded anew for a second use
CHARACTERS = frozenset(digits + ascii_uppercase)
PRODUCT_TYPES = {"P": "battery pack", "M": "battery module", "C": "battery cell"}
BATTERY_TYPES = {
    "A": "nickel-metal hydride",
    "B": "lithium iron phosphate",
    "C": "lithium manganese oxide",
    "D": "lithium cobalt oxide",
    "E": "ternary lithium (NMC, NCA)",
    "F": "supercapacitor",
    "G": "lithium titanate",
    "Z": "other",
}
# One character each, from 1: digits, then letters that cannot be taken for digits, as ISO 3779 has them for years.
_COUNTING = "123456789ABCDEFGHJKLMNPRSTVWXY"
_FIRST_YEAR = 2011
_MONTHS = _COUNTING[:12]
_DAYS = _COUNTING + "0"  # 0 is the 31st
_SUGGESTIONS = 3
_LIKENESS_MIN = 0.6


@dataclass(frozen=True, slots=True)
class ModuleCode:
    """A code and its parts; parts are None where the code has not the standard's length. `problems`: in words."""

    text: str
    maker: str | None = None
    product_type: str | None = None
    battery_type: str | None = None
    specification: str | None = None
    traceability: str | None = None
    production_date: date | None = None
    serial: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def is_usual(self) -> bool:
        """Say whether nothing speaks against its being a code of GB/T 34014."""
        return not self.problems

    @property
    def product(self) -> str:
        """Return what the product type means."""
        return PRODUCT_TYPES.get(self.product_type or "", "unknown")

    @property
    def chemistry(self) -> str:
        """Return what the battery type means."""
        return BATTERY_TYPES.get(self.battery_type or "", "unknown")

    @property
    def family(self) -> str | None:
        """Return what siblings share: maker, product type, battery type, specification."""
        return self.text[:7] if self.maker is not None else None

    def as_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        made = self.production_date
        content = asdict(self) | {"production_date": None if made is None else made.isoformat()}
        content["problems"] = list(self.problems)
        return content | {"product": self.product, "chemistry": self.chemistry, "is_usual": self.is_usual}


def parse(text: str) -> ModuleCode:
    """Take a code apart. Never fails: what is unusual is in `problems`."""
    problems = _problems_of_characters(text)
    if len(text) != LENGTH:
        hint = " (as of a battery coded anew for a second use)" if len(text) == LENGTH_SECOND_USE else ""
        return ModuleCode(text, problems=(*problems, f"it has {len(text)} characters instead of {LENGTH}{hint}"))
    product_type, battery_type, made, serial = text[3], text[4], _date_of(text[14:17]), text[17:]
    if product_type not in PRODUCT_TYPES:
        problems.append(f"its product type {product_type!r} is none of {', '.join(PRODUCT_TYPES)}")
    elif product_type == "C":
        problems.append("it is the code of a cell, not of a module")
    if battery_type not in BATTERY_TYPES:
        problems.append(f"its battery type {battery_type!r} is none of {', '.join(BATTERY_TYPES)}")
    if made is None:
        problems.append(f"its production date {text[14:17]!r} is no date")
    if len(set(serial)) == 1 and serial[0] in "0FX":
        problems.append(f"its serial number {serial!r} is a placeholder")
    return ModuleCode(
        text=text,
        maker=text[:3],
        product_type=product_type,
        battery_type=battery_type,
        specification=text[5:7],
        traceability=text[7:14],
        production_date=made,
        serial=serial,
        problems=tuple(problems),
    )


def suggest(text: str, known: Iterable[str]) -> list[str]:
    """Return the known codes that `text` may have been meant to be, the likeliest first."""
    by_folded: dict[str, str] = {}
    for code in known:
        by_folded.setdefault(code.upper(), code)
    wanted = text.upper()
    # A part of a code, as people read the last digits from a label, says more than likeness of the whole.
    parts = [code for folded, code in by_folded.items() if len(wanted) >= 4 and wanted in folded]
    like = get_close_matches(wanted, by_folded, n=_SUGGESTIONS, cutoff=_LIKENESS_MIN)
    return list(dict.fromkeys([*sorted(parts), *(by_folded[folded] for folded in like)]))[:_SUGGESTIONS]


def _problems_of_characters(text: str) -> list[str]:
    strange = sorted(set(text) - CHARACTERS)
    if not strange:
        return []
    if all(character.isascii() and character.islower() for character in strange):
        return ["it has small letters"]
    return [f"it has characters that are neither digits nor capital letters: {' '.join(map(repr, strange))}"]


def _date_of(text: str) -> date | None:
    """Return the date that three characters say, None if they say none."""
    year, month, day = _COUNTING.find(text[0]), _MONTHS.find(text[1]) + 1, _DAYS.find(text[2]) + 1
    try:
        return date(_FIRST_YEAR + year, month, day) if year >= 0 else None
    except ValueError:
        return None
