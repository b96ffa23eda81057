"""All alert rules.

`RULES` are those of the default limits, in the order of docs/alerting.md; `rules(config)` those of a `cloud.toml`;
`render(config, language)` is what Grafana's provisioning API takes (`POST /api/v1/provisioning/alert-rules`), an object
each. `ruleGroup` is a key of `INTERVALS_S`, the seconds between two evaluations. In files of Grafana's provisioning
folder, `keep_firing_for` is called `keepFiringFor` (Grafana ignores a key that it does not know), and folder and group
stand around the rules.
"""

from typing import Any

from swapline_cloud.config import AlertConfig

from .fleet import fleet_rules
from .pipeline import pipeline_rules
from .rule import INTERVALS_S, Rule

__all__ = ["INTERVALS_S", "RULES", "Rule", "render", "rules"]


def rules(config: AlertConfig) -> tuple[Rule, ...]:
    """Return the rules with the limits of `config`."""
    return (*fleet_rules(config), *pipeline_rules(config))


RULES = rules(AlertConfig())


def render(config: AlertConfig, language: str) -> list[dict[str, Any]]:
    """Return the rules as Grafana's provisioning API takes them, with texts in `en` or `zh`."""
    return [rule.render(language, config.runbook_url) for rule in rules(config)]
