"""What differs between what Grafana has and what we want, where Grafana adds much of its own.

Grafana fills in defaults, numbers and versions. So only what we set is compared, except that a list has to be as long
as ours: a panel more is a difference.
"""

import json
import re
from typing import Any

_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def as_text(value: Any) -> str:
    """Return JSON whose lines can be compared."""
    return json.dumps(plain(value), indent=1, sort_keys=True, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value without what is not said: keys whose value is null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def seen(actual: Any, wanted: Any) -> Any:
    """Return of what is there only what we set."""
    if isinstance(actual, dict) and isinstance(wanted, dict):
        return {key: seen(actual.get(key), value) for key, value in wanted.items() if actual.get(key) is not None}
    if isinstance(actual, list) and isinstance(wanted, list):
        both = zip(actual, wanted, strict=False)
        return [*(seen(item, ours) for item, ours in both), *actual[len(wanted) :]]
    if isinstance(actual, str) and isinstance(wanted, str) and is_same_duration(actual, wanted):
        return wanted
    return actual


def is_same(actual: Any, wanted: Any) -> bool:
    """Say whether what we set is as we set it."""
    return bool(plain(seen(actual, wanted)) == plain(wanted))


def is_same_duration(one: str, other: str) -> bool:
    """Say whether two texts are the same duration: Grafana writes `60s` as `1m`."""
    if not (_DURATION.fullmatch(one) and _DURATION.fullmatch(other)):
        return False
    return _seconds(one) == _seconds(other)


def merge(actual: Any, wanted: Any) -> Any:
    """Return what we want with what Grafana, or somebody in Grafana, has put beside it."""
    if isinstance(actual, dict) and isinstance(wanted, dict):
        return {**actual, **{key: merge(actual.get(key), value) for key, value in wanted.items()}}
    return wanted


def _seconds(text: str) -> float:
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
