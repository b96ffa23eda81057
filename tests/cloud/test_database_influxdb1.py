"""`swapline cloud apply` against a real InfluxDB 1.x that asks for passwords."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swapline_bench.services import InfluxServer
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import access, continuous
from swapline_cloud.database.client1 import AdminClient
from swapline_cloud.database.part1 import Influxdb1Part
from swapline_cloud.database.secret import GATEWAY, GRAFANA, READER, ROLES
from swapline_cloud.plan import Change
from swapline_cloud.rollup import FOREVER, LATE_TURN, LEVELS, MINUTE, Level, Turn
from swapline_gateway.error import AccessError, ConfigurationError, UnavailableError
from tests.cloud.influx_auth import influxd_with_users

MINUTES = continuous.statements("swapline", LEVELS[:1])
QUERY_COUNT = len(continuous.statements("swapline"))
ROOT = ("root", 'a root\'s "pass" word \\')


@pytest.fixture(scope="module")
def server(require: Callable[[str], Path]) -> Iterator[InfluxServer]:
    require("influxd")
    with influxd_with_users() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets") / "made here"


@pytest.fixture(scope="module")
def config(server: InfluxServer, folder: Path) -> CloudConfig:
    """Return the configuration of a server that `apply` has set up from nothing."""
    found = configuration(server.url, folder)
    apply(Influxdb1Part(found))
    return found


def configuration(url: str, folder: Path, **database: object) -> CloudConfig:
    section = {"version": 1, "url": url, "username": ROOT[0], "password": ROOT[1], **database}
    return CloudConfig.model_validate({"database": section, "secrets": folder})


def apply(part: Influxdb1Part) -> list[Change]:
    changes = list(part.changes())
    for change in changes:
        change.do()
    return changes


def names(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.name) for change in changes]


def drift_of(config: CloudConfig, statement: str) -> list[Change]:
    """Let somebody change the server; return what `apply` finds and mends; nothing is left to do after it."""
    AdminClient(config.database).run(statement)
    part = Influxdb1Part(config)
    changes = apply(part)
    assert part.changes() == []
    return changes


def as_user(config: CloudConfig, role: str) -> AdminClient:
    found = access.credentials(config, role)
    assert found is not None
    assert found.username is not None
    return AdminClient(config.database, as_user=(found.username, found.secret))


def test_a_server_without_administrator_is_set_up_whole_and_a_second_apply_finds_nothing(tmp_path: Path) -> None:
    with influxd_with_users() as fresh:
        part = Influxdb1Part(configuration(fresh.url, tmp_path / "s", database="another"))
        changes = apply(part)
        assert names(changes)[:4] == [
            ("create", "administrator", "root"),
            ("create", "database", "another"),
            ("create", "retention policy", "minute"),
            ("create", "retention policy", "forever"),
        ]
        assert len([change for change in changes if change.kind == "continuous query"]) == QUERY_COUNT
        users = ("swapline_reader", "swapline_gateway", "swapline_grafana")
        assert names(changes)[-3:] == [("create", "user", user) for user in users]
        assert part.changes() == []
        assert part.warnings() == []


def test_neither_a_change_nor_an_error_shows_a_secret(config: CloudConfig, tmp_path: Path) -> None:
    stranger = {"username": "nobody", "password": "the secret of nobody"}
    with pytest.raises(AccessError, match="refuses user 'nobody'") as caught:
        Influxdb1Part(configuration(config.database.url, tmp_path, **stranger)).changes()
    assert "the secret" not in str(caught.value)
    secrets = [found.secret for role in ROLES if (found := access.credentials(config, role))]
    assert len(secrets) == 3
    changes = drift_of(config, "SET PASSWORD FOR \"swapline_grafana\" = 'guessed'")
    changes += drift_of(config, 'DROP USER "swapline_gateway"')
    assert [change.name for change in changes] == ["swapline_grafana", "swapline_gateway"]
    for change in changes:
        assert not any(one in change.diff for one in (*secrets, ROOT[1]))


def test_secrets_are_files_that_only_their_owner_reads(config: CloudConfig, folder: Path) -> None:
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert files == {f"{role}.password": 0o600 for role in ROLES}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len({access.credentials(config, role) for role in ROLES}) == 3


def test_policies_are_as_the_retention_says(config: CloudConfig) -> None:
    rows = AdminClient(config.database).rows('SHOW RETENTION POLICIES ON "swapline"')
    found = {row["name"]: (row["duration"], row["shardGroupDuration"], row["default"]) for row in rows}
    assert found == {
        "raw": ("720h0m0s", "24h0m0s", True),
        "minute": ("17544h0m0s", "168h0m0s", False),
        "forever": ("0s", "2184h0m0s", False),
    }


@pytest.mark.parametrize("role", [READER, GRAFANA])
def test_reader_and_grafana_read_and_cannot_write(config: CloudConfig, role: str) -> None:
    reader = as_user(config, role)
    assert reader.rows('SELECT * FROM "swapline"."forever"."stay" LIMIT 1') == []
    for statement in (
        'SELECT mean("voltage_v") INTO "swapline"."raw"."stolen" FROM "swapline"."raw"."module"',
        'DELETE FROM "module"',
        'DROP MEASUREMENT "module"',
        f'CREATE DATABASE "{role}"',
    ):
        with pytest.raises(AccessError):
            reader.run(statement)


def test_gateway_writes_and_cannot_ask_nor_set_anything_up(config: CloudConfig) -> None:
    gateway = as_user(config, GATEWAY)
    for statement in (
        'SELECT * FROM "swapline"."forever"."stay" LIMIT 1',
        'SHOW RETENTION POLICIES ON "swapline"',
        'CREATE DATABASE "gateways_own"',
        "CREATE USER \"friend\" WITH PASSWORD 'x' WITH ALL PRIVILEGES",
    ):
        with pytest.raises(AccessError):
            gateway.run(statement)
    AdminClient(config.database).run('CREATE RETENTION POLICY "extra" ON "swapline" DURATION 1d REPLICATION 1')
    gateway.run('DROP RETENTION POLICY "extra" ON "swapline"')  # InfluxDB has no finer right: docs/retention.md


def test_gateway_of_before_that_read_too_gets_its_reader_and_the_diff_says_what_it_needs(config: CloudConfig) -> None:
    client = AdminClient(config.database)
    client.run('DROP USER "swapline_reader"')
    (config.secrets / "reader.password").unlink()
    changes = drift_of(config, 'GRANT ALL ON "swapline" TO "swapline_gateway"')
    assert names(changes) == [("create", "user", "swapline_reader"), ("update", "grant", "swapline_gateway")]
    assert "+READ on swapline" in changes[0].diff
    shown = changes[1].diff.splitlines()
    assert {"-ALL PRIVILEGES on swapline", "+WRITE on swapline"} <= set(shown)
    assert shown[-1].startswith("! the gateway needs [sink.reader] first")
    assert as_user(config, READER).is_let_in()


@pytest.mark.parametrize(
    ("statement", "found", "removed", "added"),
    [
        (
            'ALTER RETENTION POLICY "minute" ON "swapline" DURATION 900d',
            ("update", "retention policy", "minute"),
            "-keep 900 days",
            "! the server deletes what is older than 731 days",
        ),
        (
            'ALTER RETENTION POLICY "forever" ON "swapline" DURATION 3000d SHARD DURATION 7d',
            ("update", "retention policy", "forever"),
            "-keep 3000 days",
            "+keep for ever",
        ),
        (
            'ALTER RETENTION POLICY "minute" ON "swapline" DEFAULT',
            ("update", "retention policy", "raw"),
            "-default: no",
            "+default: yes",
        ),
        (
            'DROP CONTINUOUS QUERY "swapline.module.minute.1" ON "swapline"',
            ("create", "continuous query", "swapline.module.minute.1"),
            "@@",
            "+CREATE CONTINUOUS QUERY swapline.module.minute.1",
        ),
        ('DROP USER "swapline_grafana"', ("create", "user", "swapline_grafana"), "@@", "+READ on swapline"),
        (
            'GRANT ALL ON "swapline" TO "swapline_grafana"',
            ("update", "grant", "swapline_grafana"),
            "-ALL PRIVILEGES on swapline",
            "+READ on swapline",
        ),
        (
            'REVOKE ALL ON "swapline" FROM "swapline_gateway"',
            ("update", "grant", "swapline_gateway"),
            "-NO PRIVILEGES on swapline",
            "+WRITE on swapline",
        ),
        (
            'GRANT ALL PRIVILEGES TO "swapline_grafana"',
            ("update", "user", "swapline_grafana"),
            "-administrator: yes",
            "+administrator: no",
        ),
        (
            "SET PASSWORD FOR \"swapline_gateway\" = 'guessed'",
            ("update", "user", "swapline_gateway"),
            "-another password",
            "+the password in",
        ),
    ],
)
def test_what_somebody_changed_is_found_shown_and_mended(
    config: CloudConfig, statement: str, found: tuple[str, str, str], removed: str, added: str
) -> None:
    changes = drift_of(config, statement)
    assert names(changes) == [found]
    assert removed in changes[0].diff
    assert added in changes[0].diff
    for role in ROLES:
        assert as_user(config, role).is_let_in()


def test_a_query_that_says_something_else_is_made_anew(config: CloudConfig) -> None:
    client = AdminClient(config.database)
    client.run('DROP CONTINUOUS QUERY "swapline.module.forever.4" ON "swapline"')
    changes = drift_of(
        config,
        'CREATE CONTINUOUS QUERY "swapline.module.forever.4" ON "swapline" BEGIN SELECT mean("cell_count") AS "m"'
        ' INTO "swapline"."forever"."module" FROM "swapline"."raw"."module" GROUP BY time(1h), * END',
    )
    assert names(changes) == [("update", "continuous query", "swapline.module.forever.4")]
    assert (
        "-CREATE CONTINUOUS QUERY swapline.module.forever.4 ON swapline BEGIN SELECT mean(cell_count)AS"
        in changes[0].diff
    )
    assert "+  last(" in changes[0].diff


def test_what_is_not_ours_stays_and_what_was_ours_goes(config: CloudConfig) -> None:
    client = AdminClient(config.database)
    for statement in (
        'CREATE DATABASE "somebody"',
        "CREATE USER \"somebody\" WITH PASSWORD 'x'",
        'GRANT READ ON "swapline" TO "somebody"',
        'CREATE RETENTION POLICY "somebody" ON "swapline" DURATION 1w REPLICATION 1',
        'CREATE CONTINUOUS QUERY "somebody" ON "swapline" BEGIN SELECT mean("a") INTO "somebody" FROM "b"'
        " GROUP BY time(1h) END",
        'CREATE CONTINUOUS QUERY "swapline.b.hour" ON "somebody" BEGIN SELECT mean("a") INTO "c" FROM "b"'
        " GROUP BY time(1h) END",
    ):
        client.run(statement)
    changes = drift_of(
        config,
        'CREATE CONTINUOUS QUERY "swapline.gone.minute" ON "swapline" BEGIN SELECT mean("a") INTO "c" FROM "b"'
        " GROUP BY time(1h) END",
    )
    assert names(changes) == [("delete", "continuous query", "swapline.gone.minute")]
    assert "somebody" in {row["name"] for row in client.rows("SHOW DATABASES")}
    assert {"user": "somebody", "admin": False, "_series": ""} in client.rows("SHOW USERS")
    assert "somebody" in {row["name"] for row in client.rows('SHOW RETENTION POLICIES ON "swapline"')}
    queries = {(row["_series"], row["name"]) for row in client.rows("SHOW CONTINUOUS QUERIES")}
    assert {("swapline", "somebody"), ("somebody", "swapline.b.hour")} < queries
    assert ("swapline", "swapline.gone.minute") not in queries


def test_a_changed_catalogue_changes_the_queries_that_it_is_about(config: CloudConfig) -> None:
    levels = (Level(MINUTE, "1m", 60, (Turn(900, 1800), LATE_TURN)), LEVELS[1])
    changes = Influxdb1Part(config, levels=levels).changes()
    assert {change.action for change in changes} == {"update"}
    assert {change.name for change in changes} == {name for name in MINUTES if ".late." not in name}
    assert "-CREATE CONTINUOUS QUERY swapline.module.minute.1 ON swapline RESAMPLE EVERY 300s FOR 600s" in next(
        change.diff for change in changes if change.name == "swapline.module.minute.1"
    )
    changes = Influxdb1Part(config, levels=LEVELS[:1]).changes()
    assert {(change.action, change.name.split(".")[2]) for change in changes} == {("delete", FOREVER)}


@pytest.mark.parametrize("role", [READER, GRAFANA])
def test_a_user_whose_password_nobody_knows_is_an_error_that_says_what_to_do(
    config: CloudConfig, folder: Path, role: str
) -> None:
    file = folder / f"{role}.password"
    kept = file.read_text()
    file.unlink()
    with pytest.raises(ConfigurationError, match=rf"swapline cloud apply --rotate {role}") as caught:
        Influxdb1Part(config).changes()
    assert str(file) in str(caught.value)
    assert access.rotate(config, role) == str(file)
    assert file.read_text() != kept
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Influxdb1Part(config).changes() == []
    assert not AdminClient(config.database, as_user=(f"swapline_{role}", kept.strip())).is_let_in()
    with pytest.raises(ConfigurationError, match="these have: reader, gateway, grafana"):
        access.rotate(config, "root")


def test_a_database_that_the_gateway_made_gets_the_policies_and_keeps_its_rows(config: CloudConfig) -> None:
    client = AdminClient(config.database)
    client.run('CREATE DATABASE "old"')
    part = Influxdb1Part(config.model_copy(update={"database": config.database.model_copy(update={"database": "old"})}))
    changes = apply(part)
    assert [change.name for change in changes if change.kind == "retention policy"] == ["raw", "minute", "forever"]
    assert "database" not in {change.kind for change in changes}
    assert part.changes() == []
    assert "autogen" in {row["name"] for row in client.rows('SHOW RETENTION POLICIES ON "old"')}


def test_who_does_not_answer_or_is_no_influxdb_is_named(config: CloudConfig, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        Influxdb1Part(configuration("http://127.0.0.1:9", tmp_path)).changes()
    nobody = configuration(config.database.url, tmp_path, username=None, password=None)
    with pytest.raises(AccessError, match=r"set database\.username and database\.password"):
        Influxdb1Part(nobody).changes()
