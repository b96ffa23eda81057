"""One alert rule, and how Grafana's provisioning API writes it.

A rule asks one or two questions in InfluxQL. Each answers with one number for each series (a node, a module, a
gateway). The statements bring their own time range (`now() - 10m`), so Grafana's does not matter, and end at the
database's own clock.

Refs: A and B are the first question and its number; D and E the second; C is the condition. With one question C is a
threshold, with two it is their conditions joined by `&&` or `||`. Grafana joins two numbers where the labels of one are
the other's or a part of them; a number without a partner is left out, so both questions must know the same series.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from swapline_cloud.board.pen import DATA_SOURCE_TYPE, DATA_SOURCE_UID, uid

from .runbook import sections
from .words import Words

FOLDER_UID = "swapline"
# Rule groups and how often they are evaluated. What reads many points is asked seldom.
OFTEN, SELDOM = "swapline", "swapline-seldom"
INTERVALS_S = {OFTEN: 60, SELDOM: 600}

WARNING, CRITICAL = "warning", "critical"
# What becomes of a rule that gets no answer, or no series. `KEEP`: it stays as it was.
OK, ALERTING, KEEP = "OK", "Alerting", "KeepLast"

EXPRESSION_UID = "__expr__"
_EVALUATORS = {"<": "lt", ">": "gt", "==": "eq", ">=": "gte"}
_RANGE_S_MIN = 600


class Condition(NamedTuple):
    """The last value of each of a statement's series, compared: `value < limit`."""

    statement: str
    comparison: str  # a key of `_EVALUATORS`
    limit: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `name` is also its section in runbook.md."""

    name: str
    words: Words
    first: Condition
    board: str  # whose link goes with the alert
    board_labels: tuple[str, ...]  # labels that choose what the board shows
    for_s: int  # how long the condition must hold
    severity: str
    no_data: str  # and why: beside each rule
    second: Condition | None = None
    join: str = "&&"
    error: str = KEEP  # one rule alone says that the database cannot be asked; all others would say it again
    group: str = OFTEN

    @property
    def conditions(self) -> list[Condition]:
        """Return the one or two conditions."""
        return [self.first] if self.second is None else [self.first, self.second]

    def render(self, language: str, runbook_url: str | None) -> dict[str, Any]:
        """Return the rule as Grafana's provisioning API takes it. `runbook_url`: where people find the runbook."""
        to_runbook = {"runbook": sections()[self.name]}
        if runbook_url is not None:
            to_runbook = {"runbook_url": f"{runbook_url}#{self.name}"}
        return {
            "uid": uid(self.name),
            "folderUID": FOLDER_UID,
            "ruleGroup": self.group,
            "title": self.words.title.of(language),
            "condition": "C",
            "data": self._data(),
            "noDataState": self.no_data,
            "execErrState": self.error,
            "for": duration(self.for_s),
            "keep_firing_for": "0s",  # said, so that what Grafana kept of an earlier version ends
            "labels": {"swapline": "true", "severity": self.severity},
            "annotations": {
                "summary": self.words.summary.of(language),
                "description": self.words.description.of(language),
                **to_runbook,
                "board_url": self._board_url(),
            },
            "isPaused": False,
        }

    def _board_url(self) -> str:
        chosen = "&".join(f"var-{label}={{{{ urlquery $labels.{label} }}}}" for label in self.board_labels)
        address = f'{{{{ reReplaceAll "/$" "" externalURL }}}}/d/{uid(self.board)}'
        return f"{address}?{chosen}" if chosen else address

    def _data(self) -> list[dict[str, Any]]:
        if self.second is None:
            evaluator = {"type": _EVALUATORS[self.first.comparison], "params": [self.first.limit]}
            condition = {"type": "threshold", "expression": "B", "conditions": [{"evaluator": evaluator}]}
            return [*_question("A", "B", self.first.statement), _expression("C", condition)]
        both = f" {self.join} ".join(
            f"${ref} {one.comparison} {one.limit:g}" for ref, one in zip("BE", self.conditions, strict=True)
        )
        return [
            *_question("A", "B", self.first.statement),
            *_question("D", "E", self.second.statement),
            _expression("C", {"type": "math", "expression": both}),
        ]


def duration(seconds: int) -> str:
    """Return a duration as Grafana itself writes it, so that what it gives back is what it was given: `2m`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count]
    return "".join(parts) or "0s"


def _question(query_ref: str, number_ref: str, statement: str) -> list[dict[str, Any]]:
    query = {
        "datasource": {"type": DATA_SOURCE_TYPE, "uid": DATA_SOURCE_UID},
        "query": statement,
        "rawQuery": True,
        "resultFormat": "time_series",
    }
    number = {"type": "reduce", "expression": query_ref, "reducer": "last"}
    return [_part(query_ref, DATA_SOURCE_UID, query), _expression(number_ref, number)]


def _expression(ref: str, model: dict[str, Any]) -> dict[str, Any]:
    return _part(ref, EXPRESSION_UID, {"datasource": {"type": EXPRESSION_UID, "uid": EXPRESSION_UID}, **model})


def _part(ref: str, source_uid: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref,
        "datasourceUid": source_uid,
        "relativeTimeRange": {"from": _RANGE_S_MIN, "to": 0},
        "model": {"refId": ref, "intervalMs": 1000, "maxDataPoints": 43_200, **model},
    }
