"""One field of a panel: a table's column, or a series that looks different from the others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from swapline_cloud.text import Text

from .sdk import model

# What a number is called, and in which colour it is shown.
States = dict[int, tuple[Text, str]]
# Behind a value: what it is called, and the address, which may name other fields of the row.
Link = tuple[Text, str]


class Field(NamedTuple):
    """How a field is shown. `name` is the query's; it never depends on the language.

    `tag`: of series that are called by a word and that tag's value ("received $tag_gateway"), `name` is the word.
    """

    name: str
    title: Text
    unit: str = ""
    thresholds: Sequence[model.Threshold] = ()
    states: States | None = None
    links: tuple[Link, ...] = ()
    width: int | None = None
    decimals: int | None = None
    color: str = ""
    is_colored: bool = False  # a table's cell takes the colour of its threshold or state
    tag: str = ""


def properties(field: Field, language: str) -> dict[str, Any]:
    """Return what Grafana overrides of the field."""
    of_tag = f" ${{__field.labels.{field.tag}}}" if field.tag else ""
    found: dict[str, Any] = {"displayName": field.title.of(language) + of_tag}
    if field.unit:
        found["unit"] = field.unit
    if field.decimals is not None:
        found["decimals"] = field.decimals
    if field.thresholds:
        found["thresholds"] = model.ThresholdsConfig(model.ThresholdsMode.ABSOLUTE, list(field.thresholds))
        found["color"] = model.FieldColor(model.FieldColorModeId.THRESHOLDS)
    if field.color:
        found["color"] = model.FieldColor(model.FieldColorModeId.FIXED, field.color)
    if field.states:
        found["mappings"] = [mapping(field.states, language)]
    if field.links:
        found["links"] = [{"title": text.of(language), "url": url} for text, url in field.links]
    if field.width is not None:
        found["custom.width"] = field.width
    if field.is_colored:
        found["custom.cellOptions"] = {"type": "color-text"}
    return found


def mapping(states: States, language: str) -> model.ValueMap:
    """Return Grafana's mapping of numbers to texts and colours."""
    return model.ValueMap(
        {
            str(value): model.ValueMappingResult(text=text.of(language), color=color, index=index)
            for index, (value, (text, color)) in enumerate(states.items())
        }
    )


def words(tag: str, texts: Mapping[str, Text]) -> list[Field]:
    """Return the fields of series that are called by one of these words and a tag's value."""
    return [Field(word, text, tag=tag) for word, text in texts.items()]


def overrides(field: Field, language: str) -> list[model.DynamicConfigValue]:
    """Return the properties as the SDK wants them."""
    return [model.DynamicConfigValue(name, value) for name, value in properties(field, language).items()]


def arrange(
    names: Sequence[str], *, sort: str = "", is_descending: bool = False, key: str = ""
) -> list[model.DataTransformerConfig]:
    """Return the transformations that make a table of these columns, in this order.

    `key` is the field by which several queries' rows are put beside each other.
    """
    order = {name: place for place, name in enumerate(names)}
    found = [joined(key)] if key else []
    found.append(_step("filterFieldsByName", {"include": {"names": list(names)}}))
    found.append(_step("organize", {"indexByName": order, "excludeByName": {}, "renameByName": {}}))
    if sort:
        found.append(_step("sortBy", {"fields": {}, "sort": [{"field": sort, "desc": is_descending}]}))
    return found


def joined(key: str) -> model.DataTransformerConfig:
    """Return the transformation that puts rows of several queries beside each other, by a field that all have."""
    return _step("joinByField", {"byField": key, "mode": "outer"})


def _step(name: str, options: object) -> model.DataTransformerConfig:
    return model.DataTransformerConfig(id_val=name, options=options)
