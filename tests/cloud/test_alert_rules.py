"""Alert rules: complete as Grafana wants them, understood by a real InfluxDB, firing when they should and only then."""

import importlib
import itertools
import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from swapline_bench import services
from swapline_cloud.alert.rule import INTERVALS_S, duration
from swapline_cloud.alert.rules import RULES, render, rules
from swapline_cloud.alert.runbook import sections
from swapline_cloud.config import AlertConfig
from swapline_cloud.rollup import FRAMES_ROLLUP, columns
from swapline_cloud.text import LANGUAGES
from swapline_gateway.alarm.standing import STANDING
from swapline_gateway.outlook.table import OUTLOOK, OUTLOOK_STATION
from swapline_gateway.vitals.table import VITALS
from swapline_wire import catalogue, catalogue_text
from tests.cloud.grafana_alert import Outcome, evaluate

ROOT = Path(__file__).parents[2]
NAMES = [rule.name for rule in RULES]
HOUR_S = 3600

# What `swapline_gateway` writes beside the catalogue's streams: measurement -> tags and fields.
FRAMES = {"fleet", "node", "journal", "stream", "seq", "boot", *(column.name for column in FRAMES_ROLLUP.columns)}


def known_names(measurement: str) -> set[str]:
    stream = catalogue.stream_by_name(measurement)
    if stream is not None:
        rolled = {column.name for column in columns(stream)}
        return {"fleet", "node", "bay", "module", "time_quality", *(signal.name for signal in stream.signals), *rolled}
    if measurement == "frames":
        return FRAMES
    table = next(table for table in (*VITALS, OUTLOOK, OUTLOOK_STATION, STANDING) if table.name == measurement)
    return {*table.tags, *table.fields}


def rendered(name: str, language: str = "en", config: AlertConfig | None = None) -> dict[str, Any]:
    return render(config or AlertConfig(), language)[NAMES.index(name)]


def texts(rule: dict[str, Any]) -> list[str]:
    return [rule["title"], rule["annotations"]["summary"], rule["annotations"]["description"]]


def test_names_and_uids_are_unique_and_stay_the_same_in_both_languages() -> None:
    english, chinese = (render(AlertConfig(), language) for language in LANGUAGES)
    uids = [rule["uid"] for rule in english]
    assert len(set(uids)) == len(uids) == len(RULES)
    assert uids == [rule["uid"] for rule in chinese]
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)  # Grafana's longest uid
    assert [rule["data"] for rule in english] == [rule["data"] for rule in chinese]


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_in_both_languages(name: str) -> None:
    for english, chinese in zip(texts(rendered(name)), texts(rendered(name, "zh")), strict=True):
        assert not re.search(r"[\u4e00-\u9fff]", english)
        assert re.search(r"[\u4e00-\u9fff]", chinese)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_what_grafana_wants(name: str) -> None:
    rule = rendered(name)
    refs = [part["refId"] for part in rule["data"]]
    assert rule["condition"] == refs[-1]
    assert len(set(refs)) == len(refs)
    for part in rule["data"]:
        model = part["model"]
        assert model["refId"] == part["refId"]
        assert model["datasource"]["uid"] == part["datasourceUid"]
        if part["datasourceUid"] == "__expr__":
            used = re.findall(r"\$(\w+)", model["expression"]) or [model["expression"]]
            assert set(used) < set(refs[: refs.index(part["refId"])]) | {""}, "expressions stand behind what they use"
        else:
            assert "$" not in model["query"], "alerts have no variables of boards"
    assert rule["ruleGroup"] in INTERVALS_S
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["noDataState"] in {"OK", "Alerting", "KeepLast"}
    assert rule["execErrState"] in {"Alerting", "KeepLast"}


def test_one_rule_alone_tells_that_the_database_cannot_be_asked() -> None:
    assert [rule.name for rule in RULES if rule.error == "Alerting"] == ["gateway-silent"]


@pytest.mark.parametrize("name", NAMES)
def test_description_says_what_to_do_and_runbook_has_a_section(name: str) -> None:
    rule = rendered(name)
    assert len(rule["annotations"]["description"]) > 80
    runbook = rule["annotations"]["runbook"]
    assert len(runbook) > 80
    assert re.search(r"^1\. |^\|", runbook, re.MULTILINE), "steps, or a table of reasons"
    assert not re.search(r"\]\(|\{\{|^#", runbook, re.MULTILINE), "a link that nobody can follow, a template, a heading"
    assert "runbook_url" not in rule["annotations"]
    assert f"| [{name}](../cloud/swapline_cloud/alert/runbook.md#{name}) |" in (ROOT / "docs/alerting.md").read_text()


def test_the_runbook_has_sections_of_rules_only() -> None:
    assert list(sections()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_templates_use_labels_that_the_statement_groups_by(name: str) -> None:
    rule = RULES[NAMES.index(name)]
    annotations = rendered(name)["annotations"]
    grouped = set(re.findall(r'"(\w+)"', rule.first.statement.rsplit("GROUP BY", 1)[1]))
    assert set(re.findall(r"\$labels\.(\w+)", "".join(annotations.values()))) <= grouped
    refs = set(re.findall(r"\$values\.(\w)\.", "".join(annotations.values())))
    assert refs <= ({"B"} if rule.second is None else {"B", "E"})
    for text in annotations.values():
        assert text.count("{{") == text.count("}}")
        assert not re.search(r"(?<!\{)\{(?!\{)", text), "something was not put in"


@pytest.mark.parametrize("board", sorted({rule.board for rule in RULES}))
def test_board_links_lead_to_boards_there_are(board: str) -> None:
    module = importlib.import_module(f"swapline_cloud.board.{board.replace('-', '_')}")
    assert board == module.NAME


@pytest.mark.parametrize("name", NAMES)
def test_statements_name_only_known_measurements_tags_and_fields(name: str) -> None:
    for condition in RULES[NAMES.index(name)].conditions:
        measurements = re.findall(r'FROM "(?:raw|minute|forever)"\."(\w+)"', condition.statement)
        assert measurements
        known = {"raw", "minute", "forever", "n", *measurements}.union(*map(known_names, measurements))
        assert set(re.findall(r'"(\w+)"', condition.statement)) <= known


def test_an_alarm_says_its_name() -> None:
    english, chinese = (rendered("alarm-level-2", language)["annotations"]["summary"] for language in LANGUAGES)
    for code, name in catalogue_text.VALUES["alarm", "code"].items():
        assert f'if eq $labels.code "{code}" }}}}{name}{{{{' in english
        assert re.search(rf'if eq \$labels.code "{code}" }}}}[^{{]*[\u4e00-\u9fff]', chinese)


def test_limits_of_the_configuration_are_those_of_the_rules() -> None:
    config = AlertConfig(
        silent_minutes=7,
        near_empty_pct=12,
        far_km=3.5,
        disk_free_share=0.07,
        certificate_days=33,
        backlog_frames=77,
        backlog_s=88,
        gap_frames=99,
        runbook_url="https://example.com/alerting",
    )
    limits = {rule.name: [condition.limit for condition in rule.conditions] for rule in rules(config)}
    assert limits["module-near-empty"] == [12, 3.5]
    assert limits["disk-full"] == [0.07]
    assert limits["certificate-expires"] == [33]
    assert limits["gateway-backlog"] == [77, 88]
    assert limits["data-gap"] == [99]
    silent = rendered("node-silent", config=config)
    assert "now() - 7m" in silent["data"][0]["model"]["query"]
    assert "for 7 minutes" in silent["annotations"]["summary"]
    assert silent["annotations"]["runbook_url"] == "https://example.com/alerting#node-silent"
    assert "runbook" not in silent["annotations"]


def test_durations_are_written_as_grafana_gives_them_back() -> None:
    assert [duration(s) for s in (0, 45, 60, 90, 1200, 3600, 5400)] == [
        "0s",
        "45s",
        "1m",
        "1m30s",
        "20m",
        "1h",
        "1h30m",
    ]


class Database:
    """A database of its own in the server; points are (policy, measurement and tags, fields, seconds ago)."""

    def __init__(self, server: services.InfluxServer, name: str) -> None:
        self.url, self.name = server.url, name
        server.execute(f'CREATE DATABASE "{name}" WITH DURATION 30d REPLICATION 1 NAME "raw"')
        for policy in ("minute", "forever"):
            server.execute(f'CREATE RETENTION POLICY "{policy}" ON "{name}" DURATION INF REPLICATION 1')

    def write(self, *points: tuple[str, str, str, float]) -> None:
        for policy, group in itertools.groupby(sorted(points), key=lambda point: point[0]):
            now = time.time()
            lines = [f"{series} {fields} {int((now - age_s) * 1000)}" for _, series, fields, age_s in group]
            target = urllib.parse.urlencode({"db": self.name, "rp": policy, "precision": "ms"})
            services.post(f"{self.url}/write?{target}", "\n".join(lines).encode())

    def ask(self, statement: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"db": self.name, "epoch": "ms", "q": statement})
        with urllib.request.urlopen(f"{self.url}/query?{query}", timeout=10) as response:  # noqa: S310 (our own server)
            result = json.load(response)["results"][0]
        assert "error" not in result, (statement, result["error"])
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def fire(self, name: str) -> Outcome:
        return evaluate(rendered(name), self.ask)

    def firing(self, name: str, label: str = "node") -> list[str]:
        return sorted(labels[label] for labels in self.fire(name).firing)


@pytest.fixture
def database(server: services.InfluxServer, request: pytest.FixtureRequest) -> Database:
    return Database(server, request.node.name)


Point = tuple[str, str, str, float]


def rows(node: str, newest_s: float, *, count: int = 5, step_s: float = 15) -> list[Point]:
    return [("raw", f"node,fleet=f,node={node}", "uptime_s=5i", newest_s + i * step_s) for i in range(count)]


def told(node: str, level: int, age_s: float, *, code: int = 1, place: str = ",bay=1,module=M1") -> Point:
    """Return what a gateway tells of an alarm; level 0: it stands no more."""
    return ("forever", f"standing,fleet=f,node={node}{place},code={code}", f"level={level}i,raised_utc_ms=9i", age_s)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_database_fires_nothing_and_is_no_error(name: str, database: Database) -> None:
    assert database.fire(name) == Outcome([], is_empty=True)


def test_a_node_is_silent_when_no_row_is_younger_than_ten_minutes(database: Database) -> None:
    database.write(*rows("runs", 1), *rows("rare", 590, count=1), *rows("silent", 610), *rows("gone", 90_000))
    assert database.firing("node-silent") == ["silent"]
    assert {labels["fleet"] for labels in database.fire("node-silent").firing} == {"f"}


def test_a_node_that_speaks_again_is_not_silent(database: Database) -> None:
    database.write(*rows("van", 700))
    assert database.firing("node-silent") == ["van"]
    database.write(*rows("van", 2, count=1))
    assert database.firing("node-silent") == []


def test_alarms_fire_by_their_last_level(database: Database) -> None:
    for node, levels in {"up": (2, 3), "stands": (2,), "over": (3, 0), "low": (1,), "again": (2, 0, 2)}.items():
        database.write(*(told(node, level, 300 - index * 20) for index, level in enumerate(levels)))
    database.write(told("for-weeks", 2, 29 * 86_400))
    assert database.firing("alarm-level-2") == ["again", "for-weeks", "stands"]
    assert database.firing("alarm-level-3") == ["up"]


def test_an_alarm_fires_for_each_code_and_module_of_its_own(database: Database) -> None:
    database.write(
        told("van", 2, 60, code=1),
        told("van", 2, 60, code=6),
        told("van", 2, 60, code=6, place=",bay=2,module=M2"),
        told("van", 2, 60, code=96, place=""),
    )
    found = {(labels["bay"], labels["module"], labels["code"]) for labels in database.fire("alarm-level-2").firing}
    assert found == {("1", "M1", "1"), ("1", "M1", "6"), ("2", "M2", "6"), ("", "", "96")}


def test_rows_of_alarms_alone_fire_nothing(database: Database) -> None:
    series = "alarm,fleet=f,node=van,bay=1,module=M1"
    database.write(*(("forever", f"{series},code={code}", "level=3i", 5) for code in (1, 14)))
    assert [database.firing(name) for name in ("alarm-level-2", "alarm-level-3", "module-lost")] == [[], [], []]


def test_one_alarm_told_again_after_a_restart_leaves_the_other_ended(database: Database) -> None:
    database.write(told("van", 3, 4000), told("van", 3, 4000, code=5), told("van", 0, 90, code=5))
    assert [labels["code"] for labels in database.fire("alarm-level-3").firing] == ["1"]


def test_a_lost_module_fires_as_one_and_until_the_book_has_it_back(database: Database) -> None:
    database.write(told("van", 2, 500, code=14, place=",bay=1"), told("van", 2, 500, code=14, place=",bay=2"))
    assert database.firing("alarm-level-2") == []
    assert database.firing("module-lost", "bay") == ["1", "2"]
    database.write(told("van", 0, 5, code=14, place=",bay=2"))
    assert database.firing("module-lost", "bay") == ["1"]


def outlook(node: str, soc_min_pct: float, distance_km: float | None, age_s: float = 30) -> Point:
    distance = "" if distance_km is None else f",station_distance_km={distance_km}"
    return ("raw", f"outlook,fleet=f,node={node}", f"soc_pct=60,soc_min_pct={soc_min_pct}{distance}", age_s)


def test_a_module_near_empty_fires_only_far_from_a_station(database: Database) -> None:
    database.write(
        outlook("far-and-empty", 14.9, 5.1),
        outlook("near", 5.0, 4.9),
        outlook("full", 80.0, 50.0),
        outlook("no-station-known", 10.0, None),
        outlook("was-empty", 5.0, 50.0, age_s=90),
        outlook("was-empty", 99.0, 50.0),
        outlook("old", 5.0, 50.0, age_s=700),
    )
    assert database.firing("module-near-empty") == ["far-and-empty", "no-station-known"]


def test_a_station_fires_when_its_last_ready_module_is_gone(database: Database) -> None:
    for node, ready, age_s in (("empty", 2, 90), ("empty", 0, 30), ("filled", 0, 90), ("filled", 1, 30)):
        database.write(("raw", f"outlook_station,fleet=f,node={node}", f"ready={ready}i", age_s))
    assert database.firing("station-not-ready") == ["empty"]


def hour(node: str, started_h: float, seq_min: int, seq_max: int, count: int) -> Point:
    fields = f"frames={count}i,seq_min={seq_min}i,seq_max={seq_max}i"
    return ("forever", f"frames,fleet=f,node={node},journal=7,stream=vehicle", fields, started_h * HOUR_S)


def test_a_gap_fires_by_the_hours_that_are_over_and_rolled_up(database: Database) -> None:
    def hours(node: str, lost: dict[int, int]) -> list[Point]:
        # 400 frames an hour; `lost` says how many are missing of the hour that began so long ago
        return [
            hour(node, age + 0.5, (9 - age) * 400 + 1, (10 - age) * 400, 400 - lost.get(age, 0)) for age in range(8)
        ]

    database.write(
        *hours("whole", {}),
        *hours("few", {2: 100, 3: 100}),
        *hours("many", {2: 100, 3: 101}),
        *hours("on-its-way", {0: 400, 1: 400}),
        *hours("long-ago", {6: 399, 5: 300}),
    )
    assert database.firing("data-gap") == ["many"]
    database.write(*hours("many", {}))
    assert database.firing("data-gap") == []


def test_an_hour_that_is_missing_as_a_whole_is_a_gap_by_its_numbers(database: Database) -> None:
    database.write(hour("van", 4.5, 1, 400, 400), hour("van", 2.5, 801, 1200, 400))
    assert database.firing("data-gap") == ["van"]


def test_losses_fire_but_what_a_power_cut_costs_does_not(database: Database) -> None:
    for node, code, reason, age_s in (
        ("full", 4, 1, 60),
        ("cut", 5, 3, 60),
        ("memory", 5, 4, 60),
        ("old", 4, 1, 90_000),
    ):
        database.write(("forever", f"event,fleet=f,node={node},code={code}", f"reason={reason}i,count=9i", age_s))
    database.write(("forever", "event,fleet=f,node=booted,code=1", "reason=1i,count=2i", 60))
    assert database.firing("data-lost") == ["full", "memory"]


def gateway(name: str, fields: str, age_s: float = 10) -> Point:
    return ("raw", f"gateway,gateway={name}", fields, age_s)


def test_a_backlog_fires_by_its_size_or_its_age(database: Database) -> None:
    for name, frames, oldest_s in (("small", 10, 1), ("large", 50_001, 100), ("old", 10, 901)):
        database.write(gateway(name, f"spool_frames={frames}i,spool_oldest_s={oldest_s}"))
    assert database.firing("gateway-backlog", "gateway") == ["large", "old"]


def test_a_database_that_takes_nothing_and_a_broker_that_is_away_fire(database: Database) -> None:
    database.write(
        gateway("good", "sink_working=1i,broker_connected=1i"),
        gateway("full", "sink_working=0i,broker_connected=1i"),
        gateway("alone", "sink_working=1i,broker_connected=1i", 60),
        gateway("alone", "sink_working=1i,broker_connected=0i"),
    )
    assert database.firing("database-takes-nothing", "gateway") == ["full"]
    assert database.firing("broker-away", "gateway") == ["alone"]


def test_a_gateway_fires_when_it_tells_nothing_for_three_minutes(database: Database) -> None:
    for name, age_s in (("runs", 10), ("late", 170), ("silent", 190), ("taken-away", 90_000)):
        database.write(gateway(name, "uptime_s=5", age_s))
    assert database.firing("gateway-silent", "gateway") == ["silent"]
    for name, rows in {"ended": (0, 1), "started-again": (1, 0), "fell-silent": (0, 0)}.items():
        database.write(*(gateway(name, f"uptime_s=5,ended={ended}i", 900 - 300 * i) for i, ended in enumerate(rows)))
    assert database.firing("gateway-silent", "gateway") == ["fell-silent", "silent", "started-again"]
    database.write(gateway("started-again", "uptime_s=5,ended=0i"))
    assert database.firing("gateway-silent", "gateway") == ["fell-silent", "silent"]
    assert rendered("gateway-silent")["noDataState"] == "Alerting"


def test_disks_and_certificates_fire_by_what_is_left(database: Database) -> None:
    database.write(
        ("raw", "disk,gateway=g,path=/var", "free_share=0.09", 30),
        ("raw", "disk,gateway=g,path=/", "free_share=0.5", 30),
        ("raw", "certificate,gateway=g,name=broker", "days_left=20.5", 3600),
        ("raw", "certificate,gateway=g,name=ca", "days_left=300", 3600),
        ("raw", "certificate,gateway=g,name=client", "days_left=2", 7200),
        ("raw", "certificate,gateway=g,name=client", "days_left=90", 60),
    )
    assert database.firing("disk-full", "path") == ["/var"]
    assert database.firing("certificate-expires", "name") == ["broker"]
