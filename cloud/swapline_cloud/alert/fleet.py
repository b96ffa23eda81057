"""Rules about vans, stations and modules."""

from swapline_cloud.board.word import states
from swapline_cloud.config import AlertConfig
from swapline_cloud.rollup import FOREVER, RAW_DAYS
from swapline_cloud.text import Text
from swapline_wire.catalogue import MODULE_LOST

from .rule import CRITICAL, KEEP, OK, WARNING, Condition, Rule
from .statement import NODE, ask, join, silence
from .words import WORDS

_BAY = (*NODE, "bay")
_ALARM = (*_BAY, "module", "code")
# Alarms are looked for as far back as the points of their frames are kept.
_ALARM_SPAN = f"{RAW_DAYS - 1}d"
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
    told = ask(
        'last("level") AS "level"',
        "alarm",
        policy=FOREVER,
        where=[f"\"code\" != '{MODULE_LOST}'"],
        span=_ALARM_SPAN,
        by=_ALARM,
    )
    tags = ", ".join(f'"{tag}"' for tag in _ALARM)
    stands = f'SELECT "level" FROM ({told}) WHERE "level" = {level} GROUP BY {tags}'  # noqa: S608 (our own names)
    name = f"alarm-level-{level}"
    return Rule(
        name=name,
        words=WORDS[name].fill(name=_name_by_code()),
        first=Condition(stands, "==", level),
        second=Condition(_boots_since_alarm(), ">=", 0),
        board="van",
        board_labels=NODE,
        for_s=0,  # the node has waited already, for as long as the alarm table says
        severity=severity,
        no_data=OK,  # none stands
        keep_firing_s=120,  # a node that was started again tells within a minute what still stands
    )


def _boots_since_alarm() -> str:
    """Return how many starts of its node an alarm has seen, below zero.

    What stood when a node was started again, and was not told by it again, is over (docs/alarms.md): an alarm's frame
    has the number of its boot, and so have the node's own rows. A node without a later boot has its alarm.
    """
    told = ask('last("boot")', "frames", where=["\"stream\" = 'alarm'"], span=_ALARM_SPAN, by=NODE, as_n=True)
    runs = ask('last("boot") * -1', "frames", where=["\"stream\" = 'node'"], span="1d", by=NODE, as_n=True)
    return join("sum", told, runs, span=_ALARM_SPAN, by=NODE)


def _name_by_code() -> Text:
    """Return Grafana's template of an alarm's name, by the label `code`."""

    def words(language: str) -> str:
        names = [(code, text.of(language)) for code, (text, _) in sorted(states("alarm", "code").items())]
        cases = " else ".join(f'if eq $labels.code "{code}" }}}}{name}{{{{' for code, name in names)
        return f"{{{{ {cases} else }}}}{{{{ $labels.code }}}}{{{{ end }}}}"

    return Text(words("en"), words("zh"))


def _module_lost() -> Rule:
    # It ends when a module answers in that bay, also after a restart, of which no row of the alarm tells. Where the
    # slot says "empty", the node tells the end. A bay in which nobody answers for a week is no longer asked about.
    where = [f"\"code\" = '{MODULE_LOST}'"]
    answers = ask('count("time_quality")', "module", span="3m", by=_BAY, as_n=True)
    used = ask('last("voltage_v_count") * 0', "module", policy=FOREVER, span="7d", by=_BAY, as_n=True)
    return Rule(
        name="module-lost",
        words=WORDS["module-lost"],
        first=Condition(ask('last("level")', "alarm", policy=FOREVER, where=where, span="7d", by=_BAY), ">", 0),
        second=Condition(join("sum", answers, used, span="7d", by=_BAY), "<", 1),
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
