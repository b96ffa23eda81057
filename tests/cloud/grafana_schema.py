"""Validates a board's JSON against Grafana's own schemas, as the SDK's types carry them.

`grafana_foundation_sdk` is generated from the schemas of the Grafana version that it is made for. A board is read into
its types, every value is compared with its annotation, however deep, and what the types write again must be what was
read: a key that is misspelt, or that this Grafana does not have, is lost on the way and so found.

What the SDK leaves open is closed here: InfluxDB's queries, for which it has no type, and names that are plain texts
(panels, units, transformations, properties of overrides).
"""

import enum
import json
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.cog.runtime import UnknownDataquery, panelcfg_config
    from grafana_foundation_sdk.models import dashboard, units

register_default_plugins()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# public/app/plugins/datasource/influxdb/types.ts: `InfluxQuery` with raw statements, and `DataQuery` beside it.
_QUERY: dict[str, type] = {"refId": str, "datasource": dict, "query": str, "rawQuery": bool, "alias": str}
_QUERY_MORE: dict[str, type] = {"resultFormat": str, "hide": bool, "queryType": str}
_RESULT_FORMATS = ("time_series", "table", "logs")
# public/app/features/transformers/standardTransformers.ts
_TRANSFORMATIONS = _words("""
    calculateField concatenate configFromData convertFieldType convertFrameType extractFields fieldLookup filterByRefId
    filterByValue filterFieldsByName formatString formatTime groupBy groupToNestedTable groupingToMatrix heatmap
    histogram joinByField joinByLabels labelsToFields limit merge organize partitionByValues prepareTimeSeries reduce
    regression renameByRegex rowsToFields seriesToColumns seriesToRows smoothing sortBy spatial timeSeriesTable
    transpose
""")
# packages/grafana-data/src/transformations/matchers/ids.ts
_MATCHERS = _words("byName byRegexp byRegexpOrNames byType byTypes byFrameRefID byValue byNames numeric time")
_UNITS = frozenset(value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str))
_FREE_UNITS = ("suffix:", "prefix:", "time:", "si:", "count:", "currency:", "bool:")
_STANDARD = dashboard.FieldConfig  # whose fields are the properties that every panel's overrides know


def problems(board: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a board's JSON, one sentence each, with its place."""
    try:
        read = dashboard.Dashboard.from_json(dict(board))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"cannot be read: {error!r}"]
    found = list(_check(read, dashboard.Dashboard, "board"))
    found += _differences(dict(board), _written(read), "board")
    for index, panel in enumerate(_panels(board)):
        found += _panel_problems(panel, f"panel {index} ({panel.get('title')})")
    return found


def _panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for panel in board.get("panels", []):
        yield panel
        yield from _panels(panel)


# Values and their annotations.


def _check(value: Any, wanted: Any, place: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (Any, object):
        if _is_model(type(value)):
            yield from _check_model(value, place)
    elif origin in (typing.Union, types.UnionType):
        yield from _check_union(value, arguments, place)
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{place}: {value!r} is none of {list(arguments)}"
    elif origin is list:
        yield from _check_list(value, arguments[0], place)
    elif origin is dict:
        yield from _check_dict(value, arguments[1], place)
    elif isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        if value not in [one.value for one in wanted]:
            yield f"{place}: {value!r} is none of {[one.value for one in wanted]}"
    elif isinstance(wanted, type) and _is_model(wanted) and isinstance(value, dict):
        yield from _check_left(value, wanted, place)
    elif isinstance(wanted, type):
        yield from _check_plain(value, wanted, place)
    else:
        raise AssertionError(f"{place}: an annotation that is not understood: {wanted}")


def _check_union(value: Any, arguments: tuple[Any, ...], place: str) -> Iterator[str]:
    tried = [list(_check(value, one, place)) for one in arguments]
    if all(tried):
        yield from max(tried, key=lambda lines: lines[0].index(": "))  # what came farthest says best what is wrong


def _check_list(value: Any, wanted: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{place}: {value!r} is no list"
        return
    for index, one in enumerate(value):
        yield from _check(one, wanted, f"{place}[{index}]")


def _check_dict(value: Any, wanted: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is no object"
        return
    for key, one in value.items():
        yield from _check(one, wanted, f"{place}.{key}")


def _check_plain(value: Any, wanted: type, place: str) -> Iterator[str]:
    accepted = (int, float) if wanted is float else wanted
    is_truth = isinstance(value, bool) and wanted is not bool
    if is_truth or not isinstance(value, accepted):
        yield f"{place}: {value!r} is no {wanted.__name__}"
    elif _is_model(type(value)):
        yield from _check_model(value, place)


def _check_left(value: Mapping[str, Any], wanted: Any, place: str) -> Iterator[str]:
    """Check an object that the SDK's reader leaves as it is."""
    read = wanted.from_json(value)
    yield from _check_model(read, place)
    yield from _differences(value, _written(read), place)


def _written(model: Any) -> Any:
    return json.loads(json.dumps(model, cls=JSONEncoder))


def _is_model(kind: type) -> bool:
    return kind.__module__.startswith("grafana_foundation_sdk.models") and hasattr(kind, "to_json")


def _check_model(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, UnknownDataquery):
        return
    for name, wanted in typing.get_type_hints(type(value)).items():
        yield from _check(getattr(value, name), wanted, f"{place}.{name}")


# What is lost on the way through the types.


def _differences(read: Any, written: Any, place: str) -> Iterator[str]:
    if isinstance(read, dict) and isinstance(written, dict):
        for key in sorted(read.keys() | written.keys()):
            if key not in written:
                yield f"{place}.{key}: Grafana's schema has no such key"
            elif key not in read:
                yield f"{place}.{key}: is missing"
            else:
                yield from _differences(read[key], written[key], f"{place}.{key}")
    elif isinstance(read, list) and isinstance(written, list) and len(read) == len(written):
        for index, (one, other) in enumerate(zip(read, written, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")
    elif read != written:
        yield f"{place}: {read!r} is read as {written!r}"


# What the types leave open.


def _panel_problems(panel: Mapping[str, Any], place: str) -> Iterator[str]:
    kind = panel.get("type")
    config = panelcfg_config(str(kind))
    if kind != "row" and config is None:
        yield f"{place}: Grafana has no panel {kind!r}"
    for target in panel.get("targets", []):
        yield from _query_problems(target, f"{place}, query {target.get('refId')}")
    for one in panel.get("transformations", []):
        if one["id"] not in _TRANSFORMATIONS:
            yield f"{place}: Grafana has no transformation {one['id']!r}"
    fields = panel.get("fieldConfig", {})
    yield from _unit_problems(fields.get("defaults", {}).get("unit"), place)
    for override in fields.get("overrides", []):
        yield from _override_problems(override, config, place)


def _query_problems(query: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, value in query.items():
        wanted = (_QUERY | _QUERY_MORE).get(key)
        if wanted is None:
            yield f"{place}: an InfluxDB query has no key {key!r}"
        elif not isinstance(value, wanted):
            yield f"{place}: {key} is {value!r}"
    yield from (f"{place}: {key} is missing" for key in _QUERY if key not in query)
    if query.get("resultFormat") not in _RESULT_FORMATS:
        yield f"{place}: resultFormat is {query.get('resultFormat')!r}"


def _unit_problems(unit: str | None, place: str) -> Iterator[str]:
    if unit is not None and unit not in _UNITS and not unit.startswith(_FREE_UNITS):
        yield f"{place}: Grafana has no unit {unit!r}"


def _override_problems(override: Mapping[str, Any], config: Any, place: str) -> Iterator[str]:
    matcher = override["matcher"]["id"]
    if matcher not in _MATCHERS:
        yield f"{place}: Grafana has no matcher {matcher!r}"
    for one in override["properties"]:
        name, value = one["id"], one.get("value")
        if not _is_property(name, value, config):
            yield f"{place}: an override has no property {name!r}"
        if name == "unit":
            yield from _unit_problems(value, place)


def _is_property(name: str, value: Any, config: Any) -> bool:
    """Say whether a property is one of every panel's, or (`custom.`) of this one's: whether its type takes the key."""
    kind: Any = _STANDARD.from_json
    key = name
    if name.startswith("custom."):
        kind, key = config and config.field_config_from_json_hook, name.removeprefix("custom.")
    if kind is None:
        return False
    first, *rest = key.split(".")
    for part in reversed(rest):
        value = {part: value}
    return first in kind({first: value}).to_json()
