"""Every statement of every board is answered by a real InfluxDB that a fleet has filled: in time, not by nothing."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from swapline_cloud.alert.rules import render
from swapline_cloud.board.boards import BOARDS
from swapline_cloud.board.pen import Pen, as_json
from swapline_cloud.config import AlertConfig
from swapline_cloud.interpolate import Choice, range_of
from swapline_cloud.rollup import FOREVER, MINUTE, RAW
from swapline_cloud.text import ENGLISH
from swapline_cloud.viewer import (
    Look,
    Target,
    choose,
    count_values,
    default_range,
    panels,
    targets,
    values_of,
    variables,
)
from swapline_gateway.alarm.standing import STANDING
from swapline_gateway.battery.table import ACKNOWLEDGEMENT, CONTRADICTION, WARNING
from swapline_gateway.outlook.table import OUTLOOK, OUTLOOK_STATION
from swapline_gateway.vitals.point import make_point
from tests.cloud import year
from tests.cloud.filled import FLEET, HOUR_MS, Filled
from tests.cloud.grafana_alert import evaluate
from tests.cloud.named import policies, read_select, written
from tools.preview_boards import draw_board

STATEMENT_S_MAX = 5.0  # whatever the machine is busy with
STATEMENT_S = 1.0
BASELINES_MAX = 60  # how many times as long as one aggregate of one field of everything a statement may take
SPANS = ("", "now-7d", "now-60d", "now-365d")  # "": what the board opens with

pytestmark = pytest.mark.timeout(600)  # filling takes half a minute of a quiet core, and of a busy one what it takes
ROWS_DRAWN = 45  # of Grafana's grid: every kind of panel is within them on some board
by_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.NAME)


class Asked(NamedTuple):
    """A statement and its answer."""

    panel: dict[str, Any]
    target: Target
    values: int
    took_s: float

    @property
    def label(self) -> str:
        return f"{self.panel['title']}, {self.target.ref_id}: {self.target.statement}"


def drawn(board: Any) -> dict[str, Any]:
    return as_json(board.draw(Pen(ENGLISH)))


def look_at(board: dict[str, Any], fleet: Filled, span: str = "", wanted: dict[str, Choice] | None = None) -> Look:
    time_range = range_of(span, fleet.now_utc_ms) if span else default_range(board, fleet.now_utc_ms)
    return Look(time_range, choose(board, fleet.query, time_range, wanted))


def ask_all(board: dict[str, Any], fleet: Filled, look: Look) -> Iterator[Asked]:
    """Ask everything. InfluxDB's refusal of a statement is raised, with its words."""
    for panel in panels(board):
        for target in targets(panel, look):
            begun_s = time.perf_counter()
            answer = fleet.query(target.statement)
            yield Asked(panel, target, count_values(answer), time.perf_counter() - begun_s)


def is_good_news(panel: dict[str, Any]) -> bool:
    """Say whether a panel declares that nothing is good: it says what stands there then."""
    return "noValue" in panel["fieldConfig"]["defaults"]


def test_every_board_asks_something() -> None:
    counts = {board.NAME: sum(1 for _ in panels(drawn(board))) for board in BOARDS}
    assert min(counts.values()) >= 6, counts


@pytest.mark.parametrize("span", SPANS)
@by_board
def test_every_statement_is_answered_in_time(board: Any, span: str, fleet: Filled) -> None:
    json = drawn(board)
    baseline_s = measure(fleet)
    asked = list(ask_all(json, fleet, look_at(json, fleet, span)))
    limit_s = min(max(STATEMENT_S, BASELINES_MAX * baseline_s), STATEMENT_S_MAX)
    assert [(one.label, one.took_s) for one in asked if one.took_s > limit_s] == []


def measure(fleet: Filled) -> float:
    """Return how long a plain question takes now, on this machine."""
    begun_s = time.perf_counter()
    since_ms = fleet.now_utc_ms - 6 * HOUR_MS
    assert fleet.query(f'SELECT mean("voltage_v") FROM "raw"."module" WHERE time > {since_ms}ms')  # noqa: S608
    return time.perf_counter() - begun_s


@by_board
def test_every_panel_shows_something_when_the_board_opens(board: Any, fleet: Filled) -> None:
    json = drawn(board)
    shown: dict[str, int] = defaultdict(int)
    for one in ask_all(json, fleet, look_at(json, fleet)):
        shown[one.panel["title"]] += one.values
    empty = [one["title"] for one in panels(json) if not shown[one["title"]] and not is_good_news(one)]
    assert empty == []


@pytest.mark.parametrize("span", SPANS)
@by_board
def test_of_the_roll_ups_of_a_course_one_answers(board: Any, span: str, fleet: Filled) -> None:
    json = drawn(board)
    wanted: dict[str, Choice] = {"module": year.CODE} if span == "now-365d" else {}
    courses: dict[tuple[str, ...], int] = defaultdict(int)
    read: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for one in ask_all(json, fleet, look_at(json, fleet, span, wanted)):
        select = read_select(one.target.statement)
        key = (one.panel["title"], one.target.alias, *select.columns)
        courses[key] += one.values
        read[key] |= policies(select)
    is_course = {key: {RAW, MINUTE} <= found or {MINUTE, FOREVER} <= found for key, found in read.items()}
    assert [key for key, values in courses.items() if is_course[key] and not values] == []


@by_board
def test_every_variable_has_values_to_choose(board: Any, fleet: Filled) -> None:
    json = drawn(board)
    look = look_at(json, fleet)
    assert [one["name"] for one in variables(json) if not values_of(one, fleet.query, look)] == []


def test_what_is_said_to_be_written_is_what_the_database_has(fleet: Filled) -> None:
    known, checked = written(), 0
    for policy in (RAW, MINUTE, FOREVER):
        for series in fleet.query(f'SHOW FIELD KEYS FROM "{policy}"./.*/'):
            found = known[policy, series["name"]]
            assert {row[0] for row in series["values"]} <= found.fields, (policy, series["name"])
            checked += 1
    for series in fleet.query("SHOW TAG KEYS"):
        all_tags = {tag for (_, name), one in known.items() if name == series["name"] for tag in one.tags}
        assert {row[0] for row in series["values"]} <= all_tags, series["name"]
    assert checked >= 30


def test_a_year_of_one_module_opens_fast(fleet: Filled, record_property: Any) -> None:
    board = drawn(next(board for board in BOARDS if board.NAME == "module-passport"))
    look = look_at(board, fleet, "now-365d", {"module": year.CODE})
    asked = list(ask_all(board, fleet, look))
    total_s, slowest = sum(one.took_s for one in asked), max(asked, key=lambda one: one.took_s)
    record_property("year_of_a_module_s", total_s)
    print(f"a year of one module: {len(asked)} statements, {total_s:.2f} s one after the other")  # noqa: T201
    print(f"slowest: {slowest.took_s:.3f} s, {slowest.panel['title']}")  # noqa: T201
    assert total_s < STATEMENT_S_MAX


@by_board
def test_a_picture_of_every_board_can_be_drawn(board: Any, fleet: Filled) -> None:
    picture = draw_board(drawn(board), fleet.query, fleet.now_utc_ms, {}, ROWS_DRAWN)
    assert picture.height > 1000
    assert len(picture.getcolors() or ()) > 20, "an empty picture"


def test_a_fleets_life_fires_the_alerts_of_its_story_alone(fleet: Filled) -> None:
    firing = {
        (rule["uid"], one.get("node"), one.get("bay"))
        for rule in render(AlertConfig(), ENGLISH)
        for one in evaluate(rule, fleet.query).firing
    }
    assert firing == {
        ("swapline-alarm-level-2", "van-003", "2"),  # `fleet_life.STORY`
        ("swapline-alarm-level-2", "station-001", "4"),
        ("swapline-data-lost", "van-003", None),
    }


def test_panels_whose_emptiness_is_good_news_show_the_bad(fleet: Filled) -> None:
    plant(fleet)
    silent = []
    looks: tuple[dict[str, Choice], ...] = ({}, {"module": GUILTY})
    for board in BOARDS:
        json = drawn(board)
        shown: dict[str, int] = defaultdict(int)
        for wanted in looks:
            for one in ask_all(json, fleet, look_at(json, fleet, wanted=wanted)):
                shown[one.panel["title"]] += one.values
        silent += [(board.NAME, one["title"]) for one in panels(json) if is_good_news(one) and not shown[one["title"]]]
    assert silent == []


GUILTY = year.CODE


def plant(fleet: Filled) -> None:
    """Write what no healthy fleet has, of this moment, so that every board that opens now shows it."""
    now_ms = fleet.now_utc_ms - 1000
    tags = {"module": GUILTY, "fleet": FLEET, "node": "van-001", "bay": "1"}
    standing = STANDING.row(now_ms, tags | {"code": "6"}, level=3, raised_utc_ms=now_ms)
    alarms = [{"fleet": FLEET, "node": node, "bay": "1", "code": "6"} for node in ("van-001", "station-001")]
    seen: dict[str, Any] = {"acknowledged_utc_ms": now_ms, "said_by": "Li", "note": "seen"}
    fleet.put(
        [
            WARNING.row(
                now_ms, {"module": GUILTY, "kind": "self_discharge"}, score=2.5, text="Cell 7 ...", detail="{}"
            ),
            CONTRADICTION.row(now_ms, tags | {"kind": "two_places"}, until_utc_ms=now_ms, text="It cannot be in both."),
            standing,
            *(ACKNOWLEDGEMENT.row(now_ms, alarm, module=GUILTY, **seen) for alarm in alarms),
        ]
    )
    silent = {"soc_pct": 9.0, "range_km": 4.0, "station": "station-001", "station_distance_km": 7.0, "age_s": 900.0}
    fleet.put_points(
        [
            make_point(OUTLOOK, now_ms, FLEET, "van-009", is_low=1, modules=1, energy_left_kwh=2.0, **silent),
            make_point(OUTLOOK_STATION, now_ms, FLEET, "station-009", slots=6, occupied=6, ready=0, charging=6),
        ]
    )
    owner = f"fleet={FLEET},node=van-001,bay=1,module={GUILTY}"
    fleet.put_lines(
        [
            f"alarm,{owner},code=6 level=3i,stream=3i,signal=12i,value=660i,threshold=650i {now_ms * 1_000_000}",
            f"event,{owner},code=3 reason=0i,soc_pct=31.5 {now_ms * 1_000_000}",
        ],
        FOREVER,
    )
    # A node that was heard last an hour ago.
    fleet.put_lines([f"node,fleet={FLEET},node=van-009 uptime_s=900i {(now_ms - HOUR_MS) * 1_000_000}"])
