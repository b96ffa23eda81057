"""What is wrong with a bench file, in one sentence a mistake: key, value, what is allowed."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

_DEVICES = "devices = [{ simulator = 'bms', bay = 1 }]"
_BMS_HINT = "which BMS it is, a test says: simulator = 'bms'"
_SIMULATOR_HINTS = {
    "gnss": "the receiver's line is named by [gnss] line = '...'",
    "charger": "did you mean 'slot_charger'?",
    **dict.fromkeys(("jbd", "jbd_up16s", "jbd-up16s", "seplos", "seplos_v3", "jk"), _BMS_HINT),
}


def describe(item: Any, root: type[BaseModel]) -> str:
    """Say in one sentence what is wrong with one key."""
    place = _place(item["loc"], root)
    key = ".".join(place)
    message = item["msg"][0].lower() + item["msg"][1:]
    given = f"{item['input']!r} is not allowed"
    match item["type"]:
        case "extra_forbidden":
            said = f"unknown key{_suggest(item['loc'], root)}"
        case "missing" if len(place) == 1:
            said = f"is missing: add the table [{key}]"
        case "missing":
            said = f"is missing: add it to {'.'.join(place[:-1])}"
        case "union_tag_not_found":
            key, said = f"{key}.kind", f"is missing; it is one of {', '.join(map(repr, _kinds_of(place, root)))}"
        case "union_tag_invalid":
            key, said = f"{key}.kind", f"{item['ctx']['tag']!r} is not allowed; allowed: {item['ctx']['expected_tags']}"
        case "tuple_type":
            said = f"is a list, of one or more: {'[[lines]]' if key == 'lines' else _DEVICES}"
        case "model_type" | "model_attributes_type" | "dict_type":
            said = f"{given}; it is a table: [{key}]"
        case "value_error":
            said = item["msg"].removeprefix("Value error, ")
        case _ if place[-1] == "simulator" and str(item["input"]) in _SIMULATOR_HINTS:
            said = f"{given}; {_SIMULATOR_HINTS[item['input']]}"
        case _:
            said = f"{given}; {message}"
    return f"{key}: {said}." if key else f"{said}."


def _place(loc: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    """Return the place in the file: pydantic names the chosen kind there as well, and counts from 0."""
    place: list[str] = []
    model: Any = root
    for part in loc:
        if isinstance(part, int):
            place[-1] += f"[{part + 1}]"
        elif isinstance(model, list):
            model = next(one for one in model if part in get_args(one.model_fields["kind"].annotation))
        else:
            place.append(str(part))
            model = _model_of(model, str(part))
    return place


def _model_of(model: Any, key: str) -> Any:
    """Return the table, or the list of kinds of table, that a key of a table holds; None for anything else."""
    field = None if model is None else model.model_fields.get(key)
    if field is None:
        return None
    options = [one for one in _flatten(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    return options[0] if len(options) == 1 else options or None


def _kinds_of(place: list[str], root: type[BaseModel]) -> list[str]:
    """Return the kinds of table that there may be at a place."""
    model: Any = root
    for key in place:
        model = _model_of(model, key)
    return [kind for one in model for kind in get_args(one.model_fields["kind"].annotation)]


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _flatten(inner)


def _suggest(loc: tuple[Any, ...], root: type[BaseModel]) -> str:
    model: Any = root
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        if isinstance(model, list):
            model = next(one for one in model if part in get_args(one.model_fields["kind"].annotation))
        else:
            model = _model_of(model, str(part))
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known here: {', '.join(known)})"
