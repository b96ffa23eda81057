"""Evaluates a rendered alert rule as Grafana does: queries, reduce, threshold or math, joined by labels.

What is imitated is Grafana's server-side expressions (`pkg/expr`): a statement's series become numbers with the series'
tags as labels; `reduce` takes the last value; `threshold` compares; `math` joins numbers where the labels of one are a
part of the other's, or where each side has just one, and gives the larger labels; a number without partner is left out.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Labels = frozenset[tuple[str, str]]
Numbers = dict[Labels, float]
Ask = Callable[[str], list[dict[str, Any]]]

_THRESHOLDS = {"lt": operator.lt, "gt": operator.gt, "eq": operator.eq, "gte": operator.ge}
_COMPARISONS = {"<": operator.lt, ">": operator.gt, "==": operator.eq, ">=": operator.ge}
_TERM = re.compile(r"\$(\w+) (<|>|==|>=) (\S+)")


class Outcome(NamedTuple):
    """`firing` has the labels of what fires; without any series it is the rule's "no data"."""

    firing: list[dict[str, str]]
    is_empty: bool


def evaluate(rule: Mapping[str, Any], ask: Ask) -> Outcome:
    """Return what fires. `ask` gives the series of a statement's answer."""
    values: dict[str, Numbers] = {}
    for part in rule["data"]:
        model = part["model"]
        values[part["refId"]] = numbers(ask(model["query"])) if "query" in model else _express(model, values)
    result = values[rule["condition"]]
    return Outcome([dict(labels) for labels, value in sorted(result.items(), key=str) if value], not result)


def numbers(series: list[dict[str, Any]]) -> Numbers:
    """Return the last value of each series. Two columns, the same tags twice, no number: Grafana calls them errors."""
    found: Numbers = {}
    for one in series:
        labels = frozenset(one.get("tags", {}).items())
        assert len(one["columns"]) == 2, one["columns"]
        assert labels not in found, labels
        value = one["values"][-1][1]
        assert isinstance(value, int | float), one
        found[labels] = value
    return found


def _express(model: Mapping[str, Any], values: Mapping[str, Numbers]) -> Numbers:
    if model["type"] == "reduce":
        assert model["reducer"] == "last"
        return values[model["expression"]]
    if model["type"] == "threshold":
        (condition,) = model["conditions"]
        test = _THRESHOLDS[condition["evaluator"]["type"]]
        limit = condition["evaluator"]["params"][0]
        return {labels: float(test(value, limit)) for labels, value in values[model["expression"]].items()}
    assert model["type"] == "math"
    left, how, right = re.fullmatch(r"(.+) (&&|\|\|) (.+)", model["expression"]).groups()  # type: ignore[union-attr]
    combine = {"&&": min, "||": max}[how]
    a, b = _compare(left, values), _compare(right, values)
    is_single = len(a) == len(b) == 1
    return {
        max(one, other, key=len): combine(a[one], b[other])
        for one in a
        for other in b
        if one <= other or other <= one or is_single
    }


def _compare(text: str, values: Mapping[str, Numbers]) -> Numbers:
    ref, comparison, limit = _TERM.fullmatch(text).groups()  # type: ignore[union-attr]
    test = _COMPARISONS[comparison]
    return {labels: float(test(value, float(limit))) for labels, value in values[ref].items()}
