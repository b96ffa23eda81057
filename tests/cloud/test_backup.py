"""Backups come back as they were: a real InfluxDB 1.x, real spools and DuckDB files, real kills; Grafana is a fake."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from swapline_bench import services
from swapline_bench.frame_source import FrameSource
from swapline_cloud.backup import folder, reading
from swapline_cloud.cli import cloud
from swapline_cloud.database.policy import POLICIES
from swapline_cloud.rollup import DATABASE, FOREVER, MINUTE, RAW
from swapline_gateway.battery.store_influxql import format_row
from swapline_gateway.battery.table import FOREVER_UTC_MS, MODULE_HOUR, STAY
from swapline_gateway.config import DuckdbConfig
from swapline_gateway.ingest import Item, Sender, examine_message
from swapline_gateway.sinks.duckdb_schema import make_tables
from swapline_gateway.spool import Spool, now_utc_ms
from tests.cloud.fake_grafana import TOKEN, FakeGrafana, running
from tests.cloud.fake_influxdb2 import OPERATOR_TOKEN
from tests.cloud.played_influxdb2 import playing

HOUR_MS, NS = 3_600_000, 1_000_000
LIMIT_BYTES = 1 << 24
NASTY = (
    'it said: "no", and\nwent on \\ left\\',
    "中文，标点",
    "",
    " ",
    "a=b,c d",
    "\\n",
    '"',
    "\\",
    "tab\there",
    "'; DROP",
)
Points = set[tuple[Any, ...]]


@pytest.fixture(scope="module")
def source() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        fill(server)
        yield server


@pytest.fixture(scope="module")
def target() -> Iterator[services.InfluxServer]:
    with services.influxd() as server:
        yield server


@pytest.fixture
def fresh(target: services.InfluxServer) -> services.InfluxServer:
    target.execute(f'DROP DATABASE "{DATABASE}"')
    return target


def fill(server: services.InfluxServer) -> None:
    """Write points of all kinds; policies forget nothing here."""
    server.execute(f'CREATE DATABASE "{DATABASE}" WITH DURATION INF NAME "{RAW}"')
    for policy in (MINUTE, FOREVER):
        server.execute(f'CREATE RETENTION POLICY "{policy}" ON "{DATABASE}" DURATION INF REPLICATION 1')
    now_ms = now_utc_ms()
    draw = random.Random(7)  # noqa: S311
    raw, minute = [], []
    for number in range(3000):
        tags = f"fleet=demo,node=van-{number % 5:03}" + (f",bay={number % 3}" if number % 3 else "")
        values = [f"time_quality={number % 4}i"]
        if number % 2:
            values.append(f"voltage_v={draw.uniform(-1e6, 1e6)!r}")
        if number % 7 == 0:
            values += [f"current_a={draw.choice((0.1, 5.0, 1e300, 5e-324, -0.0, 1e21, 123456789012345680.0))!r}"]
        if number % 11 == 0:
            values.append(f"big={draw.choice((2**53 + 1, -(2**63), 2**63 - 1))}i")
        raw.append(f"module,{tags} {','.join(values)} {(now_ms - number * 20_000) * NS + number % NS}")
    for number in range(800):
        at_ms = (now_ms // 60_000 - number) * 60_000
        minute.append(f"module,fleet=demo,node=van-001 voltage_v_mean={number / 3!r},n={number}i {at_ms * NS}")
    raw.append(f'odd\\ name\\,\\ 中,t\\ a\\=g=v\\,\\ \\=中 te\\ xt\\,="x",same=1.5 {now_ms * NS}')
    raw.append(f"odd\\ name\\,\\ 中,same=tag same=2.5 {now_ms * NS}")
    raw.append(f'a/b,back=sl\\ash,quo="te" v=1i {now_ms * NS}')
    hours = [
        MODULE_HOUR.row(
            (now_ms // HOUR_MS - number) * HOUR_MS,
            {"module": f"M {number % 4}"},
            known_s=1.5,
            row_count=number,
            detail=text,
        )
        for number, text in enumerate(NASTY * 4)
    ]
    owner = {"module": "M,1", "fleet": "demo", "node": "van-001", "bay": "1"}
    stay = STAY.row(0, owner, until_utc_ms=FOREVER_UTC_MS)
    books = [format_row(row) for row in (*hours, stay.void(), *(row.void() for row in hours[:2]))]
    for policy, lines in ((RAW, raw), (MINUTE, minute), (FOREVER, books)):
        services.post(f"{server.url}/write?db={DATABASE}&rp={policy}", "\n".join(lines).encode())


def ask(server: services.InfluxServer, statement: str, database: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"db": database, "epoch": "ns", "q": statement})
    with urllib.request.urlopen(f"{server.url}/query?{query}") as response:  # noqa: S310 (our own loopback)
        (result,) = json.load(response)["results"]
    assert "error" not in result, result
    found: list[dict[str, Any]] = result.get("series", [])
    return found


def points(server: services.InfluxServer, database: str = DATABASE) -> Points:
    """Return every value of every point, with its type: asked in other words than a backup does."""
    found: Points = set()
    for policy in (RAW, MINUTE, FOREVER):
        for kinds in ask(server, f'SHOW FIELD KEYS FROM "{policy}"./.*/', database):
            for field, kind in kinds["values"]:
                name = kinds["name"].replace('"', '\\"')
                statement = f'SELECT "{field}"::field FROM "{policy}"."{name}" GROUP BY *'  # noqa: S608
                series = ask(server, statement, database)
                for one in series:
                    tags = tuple(sorted((key, value) for key, value in one.get("tags", {}).items() if value))
                    found |= {(policy, name, tags, field, kind, at, repr(value)) for at, value in one["values"]}
    return found


def config_of(folder: Path, server: services.InfluxServer, more: str = "") -> Path:
    path = folder / "cloud.toml"
    path.write_text(f'[database]\nversion = 1\nurl = "{server.url}"\n{more}')
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cloud, [str(one) for one in arguments])
    assert not result.exception or isinstance(result.exception, SystemExit) or code, result.exception
    found = getattr(result.exception, "exit_code", result.exit_code)
    assert found == code, (result.output, result.exception)
    return result


def back_up(folder_: Path, server: services.InfluxServer, *more: object) -> Path:
    run("backup", "--config", config_of(folder_, server), "--out", folder_ / "backups", *more)
    return folder.complete(folder_ / "backups")[-1]


def test_every_point_of_three_policies_comes_back_with_its_type_and_nanoseconds(
    source: services.InfluxServer, fresh: services.InfluxServer, tmp_path: Path
) -> None:
    backup = back_up(tmp_path, source)
    result = run("restore", "--config", config_of(tmp_path, fresh), "--from", backup, "--verify")
    assert "every row is there" in result.output
    wanted = points(source)
    assert len(wanted) > 6000
    assert {(one[4]) for one in wanted} == {"float", "integer", "string", "boolean"}
    assert points(fresh) == wanted


def test_points_go_from_a_1x_into_the_buckets_of_a_2x_and_back(
    source: services.InfluxServer, fresh: services.InfluxServer, tmp_path: Path
) -> None:
    backup = back_up(tmp_path, source)
    config = tmp_path / "cloud2.toml"
    with playing(fresh) as state:
        config.write_text(f'[database]\nversion = 2\nurl = "{state.url}"\ntoken = "{OPERATOR_TOKEN}"\n')
        run("restore", "--config", config, "--from", backup, "--verify")
        assert points(fresh) == points(source)
        run("backup", "--config", config, "--out", tmp_path / "again")
        (again,) = folder.complete(tmp_path / "again")
        run("restore", "--config", config, "--from", again, "--into", "drill", "--verify")
    assert points(fresh, "drill") == points(source)
    assert {(one["name"], one["retentionRules"][0]["everySeconds"]) for one in state.buckets.values()} == {
        (policy.bucket(database), policy.seconds) for policy in POLICIES for database in (DATABASE, "drill")
    }
    fresh.execute('DROP DATABASE "drill"')


def test_slices_of_time_lose_nothing_however_small_they_are(
    source: services.InfluxServer, fresh: services.InfluxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CELLS_MAX", 2000)
    backup = back_up(tmp_path, source)
    run("restore", "--config", config_of(tmp_path, fresh), "--from", backup)
    assert points(fresh) == points(source)


def test_database_with_rows_is_left_alone_unless_forced_and_then_is_the_same_again(
    source: services.InfluxServer, tmp_path: Path
) -> None:
    backup, before = back_up(tmp_path, source), points(source)
    result = run("restore", "--config", config_of(tmp_path, source), "--from", backup, code=73)
    assert "has rows of raw." in str(result.exception)
    result = run("restore", "--config", config_of(tmp_path, source), "--from", backup, "--force")
    assert "derive them again: swapline cloud rollup --from 20" in " ".join(result.output.split())
    assert points(source) == before


def test_drill_goes_into_a_database_beside_the_fleets(source: services.InfluxServer, tmp_path: Path) -> None:
    backup = back_up(tmp_path, source)
    config = config_of(tmp_path, source)
    run("restore", "--config", config, "--from", backup, "--into", "drill", "--dry-run")
    assert ["drill"] not in ask(source, "SHOW DATABASES", DATABASE)[0]["values"]
    run("restore", "--config", config, "--from", backup, "--into", "drill", "--verify")
    assert points(source, "drill") == points(source)
    source.execute('DROP DATABASE "drill"')


def test_rows_that_are_too_old_for_their_policy_are_counted(
    source: services.InfluxServer, fresh: services.InfluxServer, tmp_path: Path
) -> None:
    source.execute(f'CREATE DATABASE "old" WITH DURATION INF NAME "{RAW}"')
    for policy in (MINUTE, FOREVER):
        source.execute(f'CREATE RETENTION POLICY "{policy}" ON "old" DURATION INF REPLICATION 1')
    now_ms = now_utc_ms()
    lines = [f"m v={day}i {(now_ms - day * 24 * HOUR_MS) * NS}" for day in range(0, 60, 2)]
    services.post(f"{source.url}/write?db=old&rp={RAW}", "\n".join(lines).encode())
    config = tmp_path / "old.toml"
    config.write_text(f'[database]\nversion = 1\nurl = "{source.url}"\ndatabase = "old"\n')
    run("backup", "--config", config, "--out", tmp_path / "backups")
    backup = folder.complete(tmp_path / "backups")[-1]
    result = run("restore", "--config", config_of(tmp_path, fresh), "--from", backup, "--verify")
    kept = len(points(fresh))
    assert 14 <= kept <= 16  # a shard is a day: the oldest may or may not be taken
    assert f"{kept} of 30 rows written" in result.output
    assert f"{30 - kept} are older than their policy keeps rows" in result.output
    source.execute('DROP DATABASE "old"')


def test_one_changed_byte_is_found_before_anything_is_written(
    source: services.InfluxServer, fresh: services.InfluxServer, tmp_path: Path
) -> None:
    backup = back_up(tmp_path, source)
    file = backup / "database" / RAW / "module.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    result = run("restore", "--config", config_of(tmp_path, fresh), "--from", backup, code=73)
    assert "database/raw/module.parquet is not as it was written" in str(result.exception)
    databases = [row[0] for one in ask(fresh, "SHOW DATABASES", "_internal") for row in one.get("values", [])]
    assert DATABASE not in databases


def items(first: int, last: int) -> list[Item]:
    frames = FrameSource()
    sender = Sender(frames.fleet, frames.node)
    return [examine_message(sender, frames.message(frames.frame(seq=seq))).items[0] for seq in range(first, last + 1)]


def content_of(spool: Spool) -> list[tuple[Any, ...]]:
    return [frame[1:] for frame in sorted(spool.batch(frames_max=1000, bytes_max=1 << 30))]


def test_spool_is_copied_while_a_gateway_writes_and_its_frames_come_back(tmp_path: Path) -> None:
    with closing(Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES)) as spool:
        spool.store(items(1, 40), [], 99)
        run("backup", "--spool", spool.path, "--out", tmp_path / "backups")
        wanted = content_of(spool)
        spool.store(items(41, 50), [], 99)
    (backup,) = folder.complete(tmp_path / "backups")
    place = tmp_path / "new" / "spool.sqlite"
    run("restore", "--spool", place, "--from", backup)
    with closing(Spool(place, limit_bytes=LIMIT_BYTES)) as restored:
        assert content_of(restored) == wanted
        assert len(wanted) == 40
        assert not restored.store(items(40, 40), [], 0).stored  # it knows what it has taken
        assert len(restored.store(items(41, 41), [], 0).stored) == 1


def test_spool_that_is_there_is_put_aside_and_one_in_use_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "spool.sqlite"
    with closing(Spool(place, limit_bytes=LIMIT_BYTES)) as spool:
        spool.store(items(1, 3), [], 0)
        run("backup", "--spool", place, "--out", tmp_path / "backups")
        (backup,) = folder.complete(tmp_path / "backups")
        result = run("restore", "--spool", place, "--from", backup, code=73)
        assert "In the way" in str(result.exception)
        result = run("restore", "--spool", place, "--from", backup, "--force", code=73)
        assert "used by another gateway" in str(result.exception)
        spool.store(items(4, 5), [], 0)
    run("restore", "--spool", place, "--from", backup, "--force")
    with closing(Spool(place, limit_bytes=LIMIT_BYTES)) as spool:
        assert spool.frame_count == 3
    (aside,) = tmp_path.glob("spool.sqlite.before-*[0-9]")
    with closing(Spool(aside, limit_bytes=LIMIT_BYTES)) as spool:
        assert spool.frame_count == 5


def swapline(*arguments: object, prefix: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    command = [*prefix, str(Path(sys.executable).with_name("swapline")), "cloud", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_backup_leaves_nothing_that_looks_complete_and_the_next_one_clears_up(tmp_path: Path) -> None:
    Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES).close()
    config, out = tmp_path / "cloud.toml", tmp_path / "backups"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a database that takes connections and never answers
        config.write_text(f'[database]\nversion = 1\nurl = "http://127.0.0.1:{silent.getsockname()[1]}"\n')
        with swapline("backup", "--config", config, "--spool", tmp_path / "spool.sqlite", "--out", out) as process:
            silent.settimeout(60)
            connection, _ = silent.accept()
            process.send_signal(signal.SIGKILL)
            process.wait()
            connection.close()
    assert [path.name[:12] for path in out.iterdir()] == [".unfinished-"]
    assert folder.complete(out) == []
    run("backup", "--spool", tmp_path / "spool.sqlite", "--out", out)
    assert list(out.iterdir()) == folder.complete(out)


def test_disk_that_takes_no_more_leaves_nothing(source: services.InfluxServer, tmp_path: Path) -> None:
    limit = ("prlimit", "--fsize=20000")
    with swapline(
        "backup", "--config", config_of(tmp_path, source), "--out", tmp_path / "backups", prefix=limit
    ) as process:
        _, said = process.communicate()
    assert process.returncode == 73, said
    assert "cannot be written" in said
    assert list((tmp_path / "backups").iterdir()) == []


def test_database_that_is_away_is_said_in_a_sentence(tmp_path: Path) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(f'[database]\nversion = 1\nurl = "http://127.0.0.1:{services.free_port()}"\n')
    result = run("backup", "--config", config, "--out", tmp_path / "backups", code=69)
    assert "does not answer" in str(result.exception)
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "one"}', '{"version": 1}', '{"version": 1, "parts": {}}'])
def test_manifest_that_is_none_is_said_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    result = run("restore", "--spool", tmp_path / "spool.sqlite", "--from", tmp_path, code=73)
    assert str(result.exception).startswith(f"{tmp_path / 'manifest.json'} ")


def test_only_the_newest_backups_are_kept(tmp_path: Path) -> None:
    Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES).close()
    out = tmp_path / "backups"
    run("backup", "--spool", tmp_path / "spool.sqlite", "--out", out)
    (first,) = folder.complete(out)
    for day in (1, 2, 3):
        shutil.copytree(first, out / f"2026-01-0{day}T023000Z")
    (out / "2026-01-04T023000Z").mkdir()  # no manifest: not one of ours
    run("restore", "--spool", tmp_path / "x", "--from", out, code=73)
    run("backup", "--spool", tmp_path / "spool.sqlite", "--out", tmp_path / "other")
    shutil.move(folder.complete(tmp_path / "other")[0], out / "2099-01-01T000000Z")
    folder.prune(out, 2)
    assert [path.name for path in folder.complete(out)] == [first.name, "2099-01-01T000000Z"]


@pytest.fixture
def duckdb_host(tmp_path: Path) -> Path:
    with duckdb.connect(str(tmp_path / "swapline.duckdb")) as connection:
        make_tables(connection)
        connection.execute(
            "INSERT INTO module (time, fleet, node, voltage_v)"
            " SELECT TIMESTAMP '2026-11-22' + i * INTERVAL 1 SECOND, 'demo', 'van-001', i / 7 FROM range(5000) t(i)"
        )
    path = tmp_path / "gateway.toml"
    path.write_text('[sink]\npath = "swapline.duckdb"\n')
    Spool(tmp_path / "spool.sqlite", limit_bytes=LIMIT_BYTES).close()
    return path


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT COUNT(*) FROM missing").fetchall() == [(0,)]
        return connection.execute("SELECT * FROM module ORDER BY time").fetchall()


def test_duckdb_file_comes_back_and_what_was_there_is_put_aside(duckdb_host: Path, tmp_path: Path) -> None:
    place = DuckdbConfig(path=tmp_path / "swapline.duckdb").path
    run("backup", "--gateway", duckdb_host, "--out", tmp_path / "backups")
    (backup,) = folder.complete(tmp_path / "backups")
    wanted = rows_of(place)
    with duckdb.connect(str(place)) as connection:
        connection.execute("DELETE FROM module")
    result = run("restore", "--gateway", duckdb_host, "--from", backup, code=73)
    assert "In the way" in str(result.exception)
    result = run("restore", "--gateway", duckdb_host, "--from", backup, "--force")
    assert "5,000 rows, as in the backup" in result.output
    assert rows_of(place) == wanted
    assert len(list(tmp_path.glob("swapline.duckdb.before-*"))) == 1


def test_duckdb_file_that_a_gateway_has_open_is_neither_copied_nor_replaced(duckdb_host: Path, tmp_path: Path) -> None:
    run("backup", "--gateway", duckdb_host, "--out", tmp_path / "backups")
    (backup,) = folder.complete(tmp_path / "backups")
    holding = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(tmp_path / "swapline.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for arguments in (("backup", "--out", tmp_path / "backups"), ("restore", "--from", backup, "--force")):
            result = run(*arguments, "--gateway", duckdb_host, code=73)
            assert "stop it for as long as this takes" in str(result.exception)
    assert folder.complete(tmp_path / "backups") == [backup]


def grafana_config(grafana: FakeGrafana) -> str:
    return f'[grafana]\nurl = "{grafana.url}"\ntoken = "{TOKEN}"\n'


def test_peoples_boards_come_back_with_their_folder(source: services.InfluxServer, tmp_path: Path) -> None:
    with running(FakeGrafana()) as grafana:
        grafana.folders["mine"] = {"uid": "mine", "title": "mine"}
        board = {"uid": "our-own", "title": "Our own", "panels": [{"id": 1, "title": "电压"}], "id": 9, "version": 3}
        grafana.boards["our-own"] = {"dashboard": board, "folderUid": "mine", "messages": [""]}
        config = config_of(tmp_path, source, grafana_config(grafana))
        run("backup", "--config", config, "--out", tmp_path / "backups", "--policy", MINUTE)
        (backup,) = folder.complete(tmp_path / "backups")
        assert (backup / "boards" / "apply" / "grafana" / "dashboards" / "van.json").is_file()
        restore = ("restore", "--config", config, "--from", backup, "--only", "boards")
        assert "as it was" in run(*restore).output
        grafana.save_by_hand("our-own", lambda one: one.update(title="Changed"))
        assert "left alone" in run(*restore).output
        grafana.boards.clear()
        grafana.folders.clear()
        assert "restored" in run(*restore).output
        found = grafana.boards["our-own"]
        assert found["folderUid"] == "mine"
        assert found["dashboard"]["panels"] == board["panels"]


def test_grafana_that_is_away_costs_its_boards_only(source: services.InfluxServer, tmp_path: Path) -> None:
    grafana = f'[grafana]\nurl = "http://127.0.0.1:{services.free_port()}"\ntoken = "t"\n'
    config = config_of(tmp_path, source, grafana)
    run("backup", "--config", config, "--out", tmp_path / "backups", code=69)
    (backup,) = folder.complete(tmp_path / "backups")
    assert (backup / "database" / RAW / "module.parquet").is_file()
