"""Rules about the way of data: what is missing, the gateway, its database, its broker, its disks."""

from swapline_cloud.config import AlertConfig
from swapline_cloud.query import source
from swapline_cloud.rollup import FOREVER
from swapline_wire.catalogue import FRAMES_DROPPED, LOSS_POWER_CUT, ROWS_DROPPED

from .rule import ALERTING, CRITICAL, KEEP, OK, SELDOM, WARNING, Condition, Rule
from .statement import GATEWAY, NODE, ask, silence
from .words import WORDS


def pipeline_rules(config: AlertConfig) -> tuple[Rule, ...]:
    """Return the rules, with the limits of `[alert]`."""
    return (
        _data_gap(config),
        _data_lost(),
        _gateway_backlog(config),
        _database_takes_nothing(),
        _gateway_silent(),
        _disk_full(config),
        _certificate_expires(config),
        _broker_away(),
    )


def _data_gap(config: AlertConfig) -> Rule:
    # Of the three hours that began two to five hours ago: they are over, and rolled up again when frames came late. The
    # frames' own points would take half a minute of 500 vans. Times and numbers of frames are not in one order: a slow
    # stream's frame begins early and is sealed late. So some frames seem to be missing at both ends of the time asked
    # for: at most one for each stream and bay of a node.
    when = "time >= now() - 5h AND time < now() - 2h"
    frames = f'SELECT max("seq_max") - min("seq_min") + 1 - sum("frames") AS "n" FROM {source("frames", FOREVER)}'  # noqa: S608
    missing = f'SELECT sum("n") FROM ({frames} WHERE {when} GROUP BY "fleet", "node", "journal")'  # noqa: S608
    return Rule(
        name="data-gap",
        words=WORDS["data-gap"],
        first=Condition(f'{missing} WHERE {when} GROUP BY "fleet", "node"', ">", config.gap_frames),
        board="completeness",
        board_labels=NODE,
        for_s=1200,
        severity=WARNING,
        no_data=OK,  # nobody sent frames: `node-silent` tells that
        group=SELDOM,
    )


def _data_lost() -> Rule:
    # A power cut costs the rows that were not sealed yet, at each swap of a van with one module: no reason to act.
    where = [f"(\"code\" = '{FRAMES_DROPPED}' OR \"code\" = '{ROWS_DROPPED}')", f'"reason" != {LOSS_POWER_CUT}']
    return Rule(
        name="data-lost",
        words=WORDS["data-lost"],
        first=Condition(ask('count("reason")', "event", policy=FOREVER, where=where, span="1d", by=NODE), ">", 0),
        board="completeness",
        board_labels=NODE,
        for_s=0,
        severity=WARNING,
        no_data=OK,  # nobody lost anything
    )


def _gateway_backlog(config: AlertConfig) -> Rule:
    return Rule(
        name="gateway-backlog",
        words=WORDS["gateway-backlog"],
        first=Condition(_last("spool_frames"), ">", config.backlog_frames),
        second=Condition(_last("spool_oldest_s"), ">", config.backlog_s),
        join="||",
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=300,
        severity=WARNING,
        no_data=KEEP,  # a gateway that tells nothing has not emptied its spool
    )


def _last(field: str) -> str:
    return ask(f'last("{field}")', "gateway", span="5m", by=GATEWAY)


def _database_takes_nothing() -> Rule:
    return Rule(
        name="database-takes-nothing",
        words=WORDS["database-takes-nothing"],
        first=Condition(_last("sink_working"), "<", 1),
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=120,
        severity=CRITICAL,
        no_data=KEEP,  # `gateway-silent` tells it
    )


def _gateway_silent() -> Rule:
    return Rule(
        name="gateway-silent",
        words=WORDS["gateway-silent"],
        first=Condition(silence("uptime_s", "gateway", minutes=3, by=GATEWAY, excuse="ended"), "<", 1),
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=120,
        severity=CRITICAL,
        no_data=ALERTING,  # no gateway has written for a day, or none ever did
        error=ALERTING,  # the database cannot be asked
    )


def _disk_full(config: AlertConfig) -> Rule:
    free = ask('last("free_share")', "disk", span="10m", by=(*GATEWAY, "path"))
    return Rule(
        name="disk-full",
        words=WORDS["disk-full"],
        first=Condition(free, "<", config.disk_free_share),
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=300,
        severity=WARNING,
        no_data=KEEP,  # a disk does not become empty because the gateway went away
    )


def _certificate_expires(config: AlertConfig) -> Rule:
    left = ask('last("days_left")', "certificate", span="6h", by=(*GATEWAY, "name"))
    return Rule(
        name="certificate-expires",
        words=WORDS["certificate-expires"],
        first=Condition(left, "<", config.certificate_days),
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=0,
        severity=WARNING,
        no_data=OK,  # no TLS, no certificate
        group=SELDOM,
    )


def _broker_away() -> Rule:
    return Rule(
        name="broker-away",
        words=WORDS["broker-away"],
        first=Condition(_last("broker_connected"), "<", 1),
        board="pipeline-health",
        board_labels=GATEWAY,
        for_s=120,
        severity=CRITICAL,
        no_data=KEEP,  # `gateway-silent` tells it
    )
