"""Rules about vans, stations and modules."""

from swapline_cloud.board.word import states
from swapline_cloud.config import AlertConfig
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text
from swapline_wire.catalogue import MODULE_LOST

from .rule import CRITICAL, KEEP, OK, WARNING, Condition, Rule
from .statement import NODE, ask, join, silence
from .words import WORDS

_BAY = (*NODE, "bay")
_ALARM = (*_BAY, "module", "code")
# The alarm book reads no farther back either; the gateway tells each day what stands still.
_STANDING_SPAN = "30d"
_OUTLOOK_SPAN = "10m"
_FAR_AWAY_KM = 20_000  # no place on earth is farther away


def fleet_rules(config: AlertConfig) -> tuple[Rule, ...]:
    """Return the rules, with the limits of `[alert]`."""
    return (
        _node_silent(config),
        _alarm(2, WARNING),
        _alarm(3, CRITICAL),
        _module_lost(),
        _near_empty(config),
        _not_ready(),
    )


def _node_silent(config: AlertConfig) -> Rule:
    minutes = Text(str(config.silent_minutes), str(config.silent_minutes))
    return Rule(
        name="node-silent",
        words=WORDS["node-silent"].fill(minutes=minutes),
        first=Condition(silence("uptime_s", "node", minutes=config.silent_minutes, by=NODE), "<", 1),
        board="completeness",
        board_labels=NODE,
        for_s=60,
        severity=WARNING,
        no_data=OK,  # nobody was heard for a day: `gateway-silent` tells why
    )


def _alarm(level: int, severity: str) -> Rule:
    tags = ", ".join(f'"{tag}"' for tag in _ALARM)
    where = f'"level" = {level} AND "code" != \'{MODULE_LOST}\''
    stands = f'SELECT "level" FROM ({_standing()}) WHERE {where} GROUP BY {tags}'  # noqa: S608 (our own names)
    name = f"alarm-level-{level}"
    return Rule(
        name=name,
        words=WORDS[name].fill(name=_name_by_code()),
        first=Condition(stands, "==", level),
        board="van",
        board_labels=NODE,
        for_s=0,  # the node has waited already, for as long as the alarm table says
        severity=severity,
        no_data=OK,  # none stands
    )


def _standing(*where: str) -> str:
    """Return the last word of the gateways' alarm book on each alarm; level 0 of those that stand no more."""
    return ask('last("level") AS "level"', "standing", policy=FOREVER, where=where, span=_STANDING_SPAN, by=_ALARM)


def _name_by_code() -> Text:
    """Return Grafana's template of an alarm's name, by the label `code`."""

    def words(language: str) -> str:
        names = [(code, text.of(language)) for code, (text, _) in sorted(states("alarm", "code").items())]
        cases = " else ".join(f'if eq $labels.code "{code}" }}}}{name}{{{{' for code, name in names)
        return f"{{{{ {cases} else }}}}{{{{ $labels.code }}}}{{{{ end }}}}"

    return Text(words("en"), words("zh"))


def _module_lost() -> Rule:
    return Rule(
        name="module-lost",
        words=WORDS["module-lost"],
        first=Condition(_standing(f"\"code\" = '{MODULE_LOST}'"), ">", 0),
        board="van",
        board_labels=NODE,
        for_s=60,
        severity=WARNING,
        no_data=OK,  # none was lost
    )


def _near_empty(config: AlertConfig) -> Rule:
    distance = ask('last("station_distance_km")', "outlook", span=_OUTLOOK_SPAN, by=NODE, as_n=True)
    # Where no station is known, none is near.
    none_near = ask(f'last("soc_min_pct") * 0 + {_FAR_AWAY_KM}', "outlook", span=_OUTLOOK_SPAN, by=NODE, as_n=True)
    return Rule(
        name="module-near-empty",
        words=WORDS["module-near-empty"],
        first=Condition(ask('last("soc_min_pct")', "outlook", span=_OUTLOOK_SPAN, by=NODE), "<", config.near_empty_pct),
        second=Condition(join("min", distance, none_near, span=_OUTLOOK_SPAN, by=NODE), ">", config.far_km),
        board="van",
        board_labels=NODE,
        for_s=120,
        severity=CRITICAL,
        no_data=KEEP,  # a van does not become full because the gateway went away
    )


def _not_ready() -> Rule:
    return Rule(
        name="station-not-ready",
        words=WORDS["station-not-ready"],
        first=Condition(ask('last("ready")', "outlook_station", span=_OUTLOOK_SPAN, by=NODE), "<", 1),
        board="station",
        board_labels=NODE,
        for_s=300,
        severity=WARNING,
        no_data=KEEP,  # the gateway is silent: nobody knows of modules that became ready
    )
