"""Rows that a gateway stored before `apply` come along, exactly: a real InfluxDB 1.x, and figures worked out here."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from swapline_bench import services
from swapline_bench.frame_source import FrameSource, row_of
from swapline_cloud.backup.writer import Writer
from swapline_cloud.cli import cloud
from swapline_cloud.config import CloudConfig
from swapline_cloud.database.part1 import Influxdb1Part
from swapline_cloud.database.policy import POLICIES
from swapline_cloud.late import HOUR_MS, oldest_utc_ms
from swapline_cloud.migration.copier import NEWER, OLD, OLD_ROLLED, STAYS, STRANGER
from swapline_cloud.place import BOOKS, LASTING_NAMES, marker_of, place_of
from swapline_cloud.rollup import DATABASE, FOREVER, LEVELS, MINUTE, RAW, Level, Rollup, rollups
from swapline_gateway.battery.books import Books
from swapline_gateway.battery.store_influxql import InfluxqlStore
from swapline_gateway.battery.table import BOOK_STATE, FOREVER_UTC_MS, MODULE_HOUR, STAY, TABLES, Row
from swapline_gateway.config import Influxdb1Config
from swapline_gateway.reading import FrameRows, read_rows
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.spool import SpooledFrame, now_utc_ms
from swapline_wire.catalogue import EVENT_STREAM
from tests.cloud import named, test_late
from tests.cloud.fake_influxdb2 import OPERATOR_TOKEN
from tests.cloud.played_influxdb2 import playing
from tests.cloud.test_backup import ask
from tests.cloud.test_late import frames_of

AUTOGEN = "autogen"
DAY_MS = 24 * HOUR_MS
OWNER = {"module": "M,1", "fleet": "test", "node": "van-001", "bay": "1"}
AGES_D = (1100, 800, 45, 30, 3, 0)
MINUTES = {30: 300, 3: 65}  # rows on both sides of where `raw` begins
Points = dict[tuple[Any, ...], dict[str, Any]]


class Server:
    """A server that a gateway has written into, and that `apply` has then set up."""

    def __init__(self, server: services.InfluxServer, folder: Path, database: str = DATABASE) -> None:
        self.server = server
        self.folder = folder
        self.database = database
        self.now_ms = now_utc_ms()
        self.toml = folder / f"{database}.toml"
        self.toml.write_text(f'[database]\nversion = 1\nurl = "{server.url}"\ndatabase = "{database}"\n')
        section = {"version": 1, "url": server.url, "database": database}
        self.config = CloudConfig.model_validate({"database": section, "secrets": folder / "secrets"})
        self.before = Influxdb1Config(type="influxdb1", url=server.url, database=database)
        self.after = self.before.model_copy(update={"forever": FOREVER})

    def apply(self) -> list[str]:
        """Set the server up, without continuous queries; return the warnings."""
        with closing(Influxdb1Part(self.config, levels=())) as part:
            for change in part.changes():
                change.do()
            return part.warnings()

    def forget(self) -> None:
        """Let all be as it was before anything was brought along."""
        for policy in (RAW, MINUTE, FOREVER):
            self.server.execute(f'DROP RETENTION POLICY "{policy}" ON "{DATABASE}"')
        self.apply()
        hour_ms = self.now_ms // HOUR_MS * HOUR_MS - HOUR_MS  # of which the source has the beginning
        store(self.after, frames_of(hour_ms + HOUR_MS // 2, seq=5000, minutes=10), self.now_ms)
        with closing(InfluxqlStore(self.after)) as books:
            books.put([NEWER_STAY])

    def points(self, policy: str, measurement: str) -> Points:
        """Return the points by tags and time."""
        found: Points = {}
        for series in ask(self.server, f'SELECT * FROM "{policy}"."{measurement}" GROUP BY *', DATABASE):  # noqa: S608
            for time_ns, *values in series["values"]:
                fields = dict(zip(series["columns"][1:], values, strict=True))
                key = (tuple(sorted((k, v) for k, v in series["tags"].items() if v)), time_ns)
                found[key] = {name: value for name, value in fields.items() if value is not None}
        return found

    def types(self, policy: str) -> dict[str, Any]:
        """Return the types of all fields, by measurement."""
        found = ask(self.server, f'SHOW FIELD KEYS FROM "{policy}"./.*/', DATABASE)
        return {one["name"]: sorted(one["values"]) for one in found}

    def run(self, *more: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cloud, ["migrate", "--config", str(self.toml), *more])
        assert getattr(result.exception, "exit_code", result.exit_code) == code, (result.output, result.exception)
        return result

    def results(self, *more: str) -> dict[str, dict[str, Any]]:
        """Bring all along; return what is said of each measurement."""
        said = map(json.loads, self.run("--json", *more).stdout.splitlines())
        return {one["measurement"]: one for one in said if "measurement" in one}


NEWER_STAY = STAY.row(5 * HOUR_MS, OWNER, until_utc_ms=77)


def store(config: Influxdb1Config, frames: list[FrameRows], stored_ms: int) -> None:
    with (
        closing(Influxdb1Sink(config)) as sink,
        patch("swapline_gateway.sinks.influx_points.now_utc_ms", lambda: stored_ms),
    ):
        assert not sink.write(frames).refused


def books() -> list[Row]:
    hours = [
        MODULE_HOUR.row(n * HOUR_MS, {"module": "M,1"}, known_s=1.5, row_count=n, detail='a "b"\\n') for n in (1, 2)
    ]
    stays = [STAY.row(hour * HOUR_MS, OWNER, until_utc_ms=FOREVER_UTC_MS) for hour in (5, 6)]
    return [*hours, *stays, stays[1].void(), BOOK_STATE.row(0, {"book": "all"}, version=3, repair_count=0)]


def fill(server: Server, config: Influxdb1Config, ages_d: Sequence[int] = AGES_D) -> None:
    """Write what a gateway without `forever` writes: days of three years, events, books, its own figures."""
    for number, age_d in enumerate(ages_d):
        start_ms = (server.now_ms - age_d * DAY_MS) // HOUR_MS * HOUR_MS - HOUR_MS
        seq = 100 * number
        frames = frames_of(start_ms, seq=seq, minutes=MINUTES.get(age_d, 5))
        event = FrameSource(anchor_utc_ms=start_ms, journal=9, seq=seq).frame(
            [(999, row_of(EVENT_STREAM, code=7, request_id=number))], stream=EVENT_STREAM, bay=0, owner=""
        )
        frames.append(read_rows(SpooledFrame(1, "test", "van-001", start_ms, 3, 0, event)))
        store(config, frames, server.now_ms)
    with closing(InfluxqlStore(config)) as store_:
        store_.put(books())
    lines = [f"disk,gateway=g,path=/ free_share=0.5 {(server.now_ms - age * DAY_MS) * 10**6 + 7}" for age in (40, 2)]
    with closing(Influxdb1Sink(config)) as sink:
        sink.send("\n".join([*lines, f"weather,town=b rain=1i {server.now_ms * 10**6}"]).encode())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with services.influxd() as running:
        server = Server(running, tmp_path_factory.mktemp("migrate"))
        fill(server, server.before)
        server.apply()
        yield server


@pytest.fixture
def server(made: Server) -> Server:
    made.forget()
    return made


class _Both:
    """Rows of source and `raw` as if they were in one place, for `test_late.worked_out`."""

    def __init__(self, server: Server, *policies: str) -> None:
        self._server = server
        self._policies = policies

    def points(self, _: str, measurement: str) -> Points:
        found: Points = {}
        for policy in self._policies:
            found |= self._server.points(policy, measurement)
        return {(tags, time_ns // 10**6): fields for (tags, time_ns), fields in found.items()}


def kept(points: Points, policy: str, *, hours: int = 0) -> Points:
    oldest_ms = oldest_utc_ms(policy, now_utc_ms()) + hours * HOUR_MS
    return {key: fields for key, fields in points.items() if key[1] >= oldest_ms * 10**6}


def wanted_points(server: Server, rollup: Rollup, level: Level, *policies: str) -> Points:
    found = test_late.worked_out(_Both(server, *policies), rollup, level)  # type: ignore[arg-type]
    return kept({(tags, time_ms * 10**6): fields for (tags, time_ms), fields in found.items()}, level.policy)


def assert_all_there(server: Server, before: Points) -> None:
    """Compare every measurement with what the source has; `before`: what `raw` had of modules."""
    names = server.types(AUTOGEN)
    edge_ms = oldest_utc_ms(RAW, now_utc_ms()) + HOUR_MS
    assert {time_ns // 10**6 // HOUR_MS * HOUR_MS for _, time_ns in server.points(AUTOGEN, "module")} > {
        edge_ms - HOUR_MS,
        edge_ms,
    }
    assert {"event", "alarm", "module", "vehicle", "frames", "disk", "stay", "module_hour", "book_state"} < set(names)
    for name in names:
        source = server.points(AUTOGEN, name)
        place = place_of(name)
        if place is None:
            assert not server.points(RAW, name)
            assert not server.points(FOREVER, name)
        elif name == "stay":
            assert len(source) == 2
            known = {
                key: fields for key, fields in server.points(FOREVER, name).items() if fields["until_utc_ms"] == 77
            }
            assert len(known) == 1
            assert server.points(FOREVER, name) == source | known
        elif place == FOREVER:
            there = server.points(FOREVER, name)
            assert source.items() <= there.items()
            assert name not in BOOKS or source == there
            assert server.types(FOREVER)[name] == names[name]
        else:
            found = kept(server.points(RAW, name), RAW, hours=1)
            assert kept(source, RAW, hours=1).items() <= found.items(), name
            assert server.types(RAW)[name] == names[name]
    assert before.items() <= server.points(RAW, "module").items()
    assert_rolled_up(server, AUTOGEN, RAW)


def assert_rolled_up(server: Server, *policies: str) -> None:
    there = server.types(RAW)
    for rollup in (one for one in rollups() if one.measurement in there):
        for level in LEVELS:
            wanted = wanted_points(server, rollup, level, *policies)
            found = server.points(level.policy, rollup.measurement)
            assert found.keys() == wanted.keys(), (level.policy, rollup.measurement)
            for key, fields in wanted.items():
                assert found[key] == pytest.approx(fields), (level.policy, key)


def test_everything_that_the_gateway_writes_has_its_place() -> None:
    rolled = {rollup.measurement for rollup in rollups()}
    places = {name: policy for policy, name in named.written() if policy == RAW or name not in rolled}
    assert len(places) > 20
    assert {name: place_of(name) for name in places} == places
    for name in LASTING_NAMES:
        assert marker_of(name) in named.written()[FOREVER, name].fields


def test_every_row_goes_where_the_gateway_would_put_it_today(server: Server) -> None:
    before = server.points(RAW, "module")
    assert before
    said = server.results()
    assert_all_there(server, before)
    rows = {name: one["rows_written"] for name, one in said.items()}
    assert rows["event"] == said["event"]["rows_read"] == len(AGES_D)
    assert rows["stay"] == 1
    assert said["stay"]["rows_left"] == {NEWER: 1}
    assert said["disk"]["rows_left"] == {OLD: 1}
    assert said["weather"] == {"measurement": "weather", "rows_read": 0, "rows_written": 0, "rows_left": {STRANGER: 1}}
    for name in ("module", "vehicle", "frames"):
        one = said[name]
        assert one["rows_read"] == len(server.points(AUTOGEN, name)), name
        assert one["rows_left"].keys() == {OLD_ROLLED}
        assert one["rows_left"][OLD_ROLLED] + one["rows_written"] == one["rows_read"]


def test_stopped_on_any_day_it_goes_on_there_and_a_repeat_changes_nothing(server: Server) -> None:
    before = server.points(RAW, "module")
    real, requests = Writer.write, iter(range(1, 1000))

    def stopped(self: Writer, measurement: Any, batch: Any) -> int:
        if next(requests) % 11 == 0:
            raise KeyboardInterrupt
        return real(self, measurement, batch)

    with patch.object(Writer, "write", stopped):
        first, second = server.run(code=130), server.run(code=130)
    assert "days are done. Migrating again is safe" in str(first.exception)
    assert "Goes on with 20" in second.stderr
    assert "Goes on with 20" in server.run().stderr
    assert_all_there(server, before)
    everything = {(p, name): server.points(p, name) for p in (RAW, MINUTE, FOREVER) for name in server.types(p)}
    said = server.results()
    assert said["module"]["rows_read"] == len(server.points(AUTOGEN, "module"))  # begins anew after a whole run
    assert said["stay"]["rows_left"] == {NEWER: 2}
    assert everything == {(p, name): server.points(p, name) for p in (RAW, MINUTE, FOREVER) for name in server.types(p)}


def test_dry_run_counts_and_changes_nothing(server: Server) -> None:
    result = server.run("--dry-run", "--json")
    said = {one["measurement"]: one for one in map(json.loads, result.stdout.splitlines())}
    for name, one in said.items():
        assert (one["rows"], one["to"]) == (len(server.points(AUTOGEN, name)), place_of(name)), name
    assert 0 < said["module"]["rows_old"] < said["module"]["rows"]
    assert said["event"]["rows_old"] == 0
    assert "rows would be brought along" in server.run("--dry-run").stdout
    assert not server.points(FOREVER, "event")


def test_what_cannot_be_brought_along_is_said(server: Server, tmp_path: Path) -> None:
    assert "no policy nowhere" in str(server.run("--from", "nowhere", code=78).exception)
    server.run("--from", FOREVER, code=2)
    server.server.execute(f'CREATE DATABASE "new" WITH NAME "{RAW}"')
    new = tmp_path / "new.toml"
    new.write_text(server.toml.read_text().replace(DATABASE, "new"))
    assert "Nothing to bring along" in server.run("--config", str(new)).output  # the last one counts
    server.server.execute(f'DROP RETENTION POLICY "{MINUTE}" ON "{DATABASE}"')
    assert "run `swapline cloud apply` first" in str(server.run(code=78).exception)
    server.apply()


def test_old_hours_stay_and_apply_warns_of_what_is_not_brought_along_or_raw_forgets(server: Server) -> None:
    (_, warning) = server.apply()
    assert "The policy autogen holds rows of alarm, book_state, disk and 6 others, which boards do not ask" in warning
    assert "`swapline cloud migrate --from autogen`" in warning
    old = "vehicle,fleet=test,node=van-001 speed_kmh_count=7i"  # made when `raw` still had rows of that hour
    old_ns = min(at for _, at in server.points(AUTOGEN, "vehicle")) // (HOUR_MS * 10**6) * HOUR_MS * 10**6
    with closing(Influxdb1Sink(server.before)) as sink:
        sink.send(f"{old} {old_ns}".encode(), FOREVER)
    server.run()
    (kept_hour,) = [one for (_, at), one in server.points(FOREVER, "vehicle").items() if at == old_ns]
    assert kept_hour == {"speed_kmh_count": 7}
    assert len(server.apply()) == 1
    event = frames_of(server.now_ms - HOUR_MS, seq=7000, minutes=5)[-1]
    store(server.before, [event], server.now_ms)  # a gateway that does not know `forever` yet
    (_, warning) = server.apply()
    assert "The policy raw holds rows of alarm, which it forgets after 30 days" in warning
    result = server.run("--from", RAW)
    assert server.points(RAW, "alarm").items() <= server.points(FOREVER, "alarm").items()
    assert "1 of" in result.output
    assert len(server.apply()) == 1


def test_a_bucket_that_was_all_there_was_gets_roll_ups_and_forever_what_is_kept_so(
    server: Server, tmp_path: Path
) -> None:
    """A 2.x, played by the 1.x: its raw bucket has all rows of years, and forgets none of them yet."""
    server.server.execute(f'ALTER RETENTION POLICY "{RAW}" ON "{DATABASE}" DURATION INF')
    fill(server, server.before, (45, 3))  # the default policy is `raw` now
    before = server.points(RAW, "module")
    with playing(server.server) as state:
        for policy in POLICIES:
            bucket = state.add_bucket({"orgID": state.organisation["id"], "name": policy.bucket(DATABASE)})
            mapped = {"bucketID": bucket["id"], "database": DATABASE, "retention_policy": policy.name}
            state.add_dbrp({"orgID": state.organisation["id"], **mapped})
        toml = tmp_path / "cloud.toml"
        toml.write_text(f'[database]\nversion = 2\nurl = "{state.url}"\ntoken = "{OPERATOR_TOKEN}"\n')
        said = server.results("--config", str(toml))
    for name in ("event", "alarm", "module_hour", "book_state"):
        assert server.points(RAW, name).items() <= server.points(FOREVER, name).items()
    assert server.types(FOREVER)["stay"] == server.types(RAW)["stay"]
    assert server.points(RAW, "module") == before
    assert said["module"]["rows_left"].keys() == {OLD_ROLLED, STAYS}
    assert sum(said["module"]["rows_left"].values()) == len(before)
    assert_rolled_up(server, RAW)


def derive(config: Influxdb1Config) -> dict[str, Any]:
    """Derive all books, as `swapline custody rebuild` does; return what they say."""
    with closing(InfluxqlStore(config)) as store_:
        kept_books = Books(store_)
        codes = store_.modules()
        for code in codes:
            kept_books.hours.rebuild(code)
        kept_books.custody.rebuild()
        kept_books.passports.refresh(codes)
        assert kept_books.custody.rebuild(is_check=True).rows_changed == 0
        return {table.name: sorted((row[1:] for row in store_.read(table)), key=repr) for table in TABLES}


def test_books_that_were_begun_anew_are_those_of_a_gateway_that_was_always_there(made: Server) -> None:
    anew, always = (Server(made.server, made.folder, name) for name in ("anew", "always"))
    hour_ms = anew.now_ms // HOUR_MS * HOUR_MS - 4 * HOUR_MS
    old = [frames_of(hour_ms - age_d * DAY_MS, seq=1000 * age_d, minutes=80) for age_d in (40, 10)]
    since = frames_of(hour_ms, seq=1, minutes=80)
    for frames in (*old, since):
        store(always.before, frames, always.now_ms)
    for frames in old:
        store(anew.before, frames, anew.now_ms)
    before = derive(anew.before)
    anew.apply()
    store(anew.after, since, anew.now_ms)
    alone = derive(anew.after)
    anew.run()
    found = derive(anew.after)
    assert len(found["module_hour"]) == len(before["module_hour"]) + len(alone["module_hour"])
    assert len(found["passport"]) == 1
    assert found == derive(always.before)
