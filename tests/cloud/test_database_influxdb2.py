"""`swapline cloud apply` with the real `influxdb-client`, against what answers as InfluxDB 2.x is documented to."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from swapline_cloud.cli import cloud
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import access, flux
from swapline_cloud.database.part2 import Influxdb2Part
from swapline_cloud.database.secret import ROLES
from swapline_cloud.plan import Change
from swapline_cloud.rollup import LATE_TURN, LEVELS, MINUTE, Level, Turn
from swapline_gateway.error import AccessError, ConfigurationError, GatewayError, UnavailableError
from tests.cloud.fake_influxdb2 import OPERATOR_TOKEN, FakeInfluxdb2, serving

DAY_S = 86_400
BUCKETS = ("swapline", "swapline_minute", "swapline_forever")


@pytest.fixture
def server() -> FakeInfluxdb2:
    return FakeInfluxdb2()


@pytest.fixture
def url(server: FakeInfluxdb2) -> Iterator[str]:
    with serving(server) as found:
        yield found


@pytest.fixture
def config(url: str, tmp_path: Path) -> CloudConfig:
    """Return the configuration of a server that `apply` has set up."""
    found = configuration(url, tmp_path / "made here")
    apply(found)
    return found


def configuration(url: str, folder: Path, **database: object) -> CloudConfig:
    section = {"version": 2, "url": url, "token": OPERATOR_TOKEN, **database}
    return CloudConfig.model_validate({"database": section, "secrets": folder})


def apply(config: CloudConfig, **more: Any) -> list[Change]:
    part = Influxdb2Part(config, **more)
    try:
        changes = list(part.changes())
        for change in changes:
            change.do()
        assert part.changes() == []
        return changes
    finally:
        part.close()


def planned(config: CloudConfig) -> list[Change]:
    part = Influxdb2Part(config)
    try:
        return list(part.changes())
    finally:
        part.close()


def names(changes: list[Change]) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.name) for change in changes]


def record(table: dict[str, dict[str, Any]], key: str, value: object) -> dict[str, Any]:
    return next(one for one in table.values() if one[key] == value)


def test_everything_is_made_and_a_second_apply_finds_nothing(server: FakeInfluxdb2, url: str, tmp_path: Path) -> None:
    config = configuration(url, tmp_path / "s")
    found = names(apply(config))
    assert found[:10] == [
        ("create", "organisation", "swapline"),
        ("create", "bucket", "swapline"),
        ("create", "bucket", "swapline_minute"),
        ("create", "bucket", "swapline_forever"),
        ("create", "DBRP mapping", "swapline.raw"),
        ("create", "DBRP mapping", "swapline.minute"),
        ("create", "DBRP mapping", "swapline.forever"),
        ("create", "token", "swapline reader"),
        ("create", "token", "swapline gateway"),
        ("create", "token", "swapline grafana"),
    ]
    assert {(action, kind) for action, kind, _ in found[10:]} == {("create", "task")}
    assert len(found[10:]) == 3 * 8  # fresh minutes, late ones and hours of seven streams and of frames
    rules = {one["name"]: one["retentionRules"][0] for one in server.buckets.values()}
    assert {name: (rule["everySeconds"], rule["shardGroupDurationSeconds"]) for name, rule in rules.items()} == {
        "swapline": (30 * DAY_S, DAY_S),
        "swapline_minute": (731 * DAY_S, 7 * DAY_S),
        "swapline_forever": (0, 91 * DAY_S),
    }
    ids = {one["id"]: one["name"] for one in server.buckets.values()}
    assert [(one["retention_policy"], ids[one["bucketID"]], one["default"]) for one in server.dbrps.values()] == [
        ("raw", "swapline", True),
        ("minute", "swapline_minute", False),
        ("forever", "swapline_forever", False),
    ]


def test_a_second_apply_only_asks(server: FakeInfluxdb2, config: CloudConfig) -> None:
    server.requests.clear()
    assert planned(config) == []
    assert {request.split()[0] for request in server.requests} == {"GET"}


def test_a_server_that_nobody_set_up_is_set_up(tmp_path: Path) -> None:
    server = FakeInfluxdb2(is_set_up=False)
    with serving(server) as url:
        config = configuration(url, tmp_path, token="a new operator's token")  # noqa: S106
        changes = apply(config)
        assert names(changes)[0] == ("create", "set-up", url)
        assert names(changes)[1] == ("create", "bucket", "swapline")
    assert len(server.set_ups) == 1
    assert server.set_ups[0]["password"] == (tmp_path / "admin.password").read_text().strip()
    assert stat.S_IMODE((tmp_path / "admin.password").stat().st_mode) == 0o600
    shown = "".join(change.diff for change in changes)
    assert "a new operator's token" not in shown
    assert server.set_ups[0]["password"] not in shown


def grants(server: FakeInfluxdb2, description: str) -> set[tuple[str, str]]:
    ids = {one["id"]: one["name"] for one in server.buckets.values()}
    permissions = record(server.authorizations, "description", description)["permissions"]
    assert all(one["resource"]["type"] == "buckets" for one in permissions)
    return {(one["action"], ids[one["resource"]["id"]]) for one in permissions}


def test_gateway_only_writes_reader_and_grafana_only_read(server: FakeInfluxdb2, config: CloudConfig) -> None:
    assert config.database.version == 2
    for role, action in (("gateway", "write"), ("reader", "read"), ("grafana", "read")):
        assert grants(server, f"swapline {role}") == {(action, bucket) for bucket in BUCKETS}


def test_gateway_of_before_that_read_too_gets_its_reader_and_the_diff_says_what_it_needs(
    server: FakeInfluxdb2, config: CloudConfig
) -> None:
    before = access.credentials(config, "gateway")
    gateway, reader = (record(server.authorizations, "description", f"swapline {one}") for one in ("gateway", "reader"))
    gateway["permissions"] += reader["permissions"]
    server.authorizations.pop(reader["id"])
    (config.secrets / "reader.token").unlink()
    changes = apply(config)
    assert names(changes) == [("create", "token", "swapline reader"), ("update", "token", "swapline gateway")]
    shown = changes[1].diff.splitlines()
    assert "-read swapline" in shown
    assert shown[-2].startswith("! the gateway needs [sink.reader] first")
    assert shown[-1].endswith("start the gateway again")
    assert grants(server, "swapline gateway") == {("write", bucket) for bucket in BUCKETS}
    assert access.credentials(config, "gateway") != before


def test_tokens_are_in_files_that_only_their_owner_reads(server: FakeInfluxdb2, config: CloudConfig) -> None:
    for role in ROLES:
        file = config.secrets / f"{role}.token"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        token = record(server.authorizations, "description", f"swapline {role}")["token"]
        assert file.read_text().strip() == token
        assert access.credentials(config, role) == (None, token)


def shorten(server: FakeInfluxdb2) -> None:
    record(server.buckets, "name", "swapline_minute")["retentionRules"][0]["everySeconds"] = 900 * DAY_S


def end_forever(server: FakeInfluxdb2) -> None:
    record(server.buckets, "name", "swapline_forever")["retentionRules"] = [{"type": "expire", "everySeconds": DAY_S}]


def drop_bucket(server: FakeInfluxdb2) -> None:
    server.buckets.pop(record(server.buckets, "name", "swapline_minute")["id"])


def drop_mapping(server: FakeInfluxdb2) -> None:
    server.dbrps.pop(record(server.dbrps, "retention_policy", "forever")["id"])


def bend_mapping(server: FakeInfluxdb2) -> None:
    mapping = record(server.dbrps, "retention_policy", "forever")
    mapping["bucketID"] = record(server.buckets, "name", "swapline")["id"]


def move_default(server: FakeInfluxdb2) -> None:
    server.set_default(record(server.dbrps, "retention_policy", "minute"))


def widen_token(server: FakeInfluxdb2) -> None:
    token = record(server.authorizations, "description", "swapline grafana")
    token["permissions"].append({"action": "write", "resource": {"type": "orgs"}})


def widen_reader(server: FakeInfluxdb2) -> None:
    token = record(server.authorizations, "description", "swapline reader")
    token["permissions"].append({"action": "write", "resource": {"type": "orgs"}})


def switch_off_token(server: FakeInfluxdb2) -> None:
    record(server.authorizations, "description", "swapline gateway")["status"] = "inactive"


def drop_token(server: FakeInfluxdb2) -> None:
    server.authorizations.pop(record(server.authorizations, "description", "swapline grafana")["id"])


def drop_task(server: FakeInfluxdb2) -> None:
    server.tasks.pop(record(server.tasks, "name", "swapline.module.minute")["id"])


def change_task(server: FakeInfluxdb2) -> None:
    task = record(server.tasks, "name", "swapline.module.minute")
    task["flux"] = task["flux"].replace("fn: last", "fn: first")


def stop_task(server: FakeInfluxdb2) -> None:
    record(server.tasks, "name", "swapline.module.minute")["status"] = "inactive"


BUCKET, MAPPING, TOKEN, TASK = "bucket", "DBRP mapping", "token", "task"


@pytest.mark.parametrize(
    ("harm", "found", "shown"),
    [
        (shorten, [("update", BUCKET, "swapline_minute")], ("-keep 900 days", "! the server deletes what is older")),
        (end_forever, [("update", BUCKET, "swapline_forever")], ("-keep 1 days", "+keep for ever")),
        (drop_mapping, [("create", MAPPING, "swapline.forever")], ("@@", "+bucket swapline_forever")),
        (bend_mapping, [("update", MAPPING, "swapline.forever")], ("-bucket swapline", "+bucket swapline_forever")),
        (move_default, [("update", MAPPING, "swapline.raw")], ("-default: no", "+default: yes")),
        (widen_token, [("update", TOKEN, "swapline grafana")], ("-write all orgs", "start the grafana again")),
        (widen_reader, [("update", TOKEN, "swapline reader")], ("-write all orgs", "start the gateway again")),
        (switch_off_token, [("update", TOKEN, "swapline gateway")], ("-inactive", "start the gateway again")),
        (drop_token, [("create", TOKEN, "swapline grafana")], ("@@", "+read swapline_forever")),
        (drop_task, [("create", TASK, "swapline.module.minute")], ("@@", "+option task = {")),
        (change_task, [("update", TASK, "swapline.module.minute")], ("fn: first", "fn: last")),
        (stop_task, [("update", TASK, "swapline.module.minute")], ("-// inactive", "import")),
    ],
)
def test_what_somebody_changed_is_found_shown_and_mended(
    server: FakeInfluxdb2,
    config: CloudConfig,
    harm: Callable[[FakeInfluxdb2], None],
    found: list[tuple[str, str, str]],
    shown: tuple[str, str],
) -> None:
    harm(server)
    changes = apply(config)
    assert names(changes) == found
    assert all(one in changes[0].diff for one in shown)


def test_a_bucket_that_was_dropped_is_made_again_with_all_that_named_it(
    server: FakeInfluxdb2, config: CloudConfig
) -> None:
    drop_bucket(server)
    assert names(apply(config)) == [
        ("create", BUCKET, "swapline_minute"),
        ("update", MAPPING, "swapline.minute"),
        ("update", TOKEN, "swapline reader"),
        ("update", TOKEN, "swapline gateway"),
        ("update", TOKEN, "swapline grafana"),
    ]


def test_what_is_not_ours_stays_and_what_was_ours_goes(server: FakeInfluxdb2, config: CloudConfig) -> None:
    organisation = record(server.organisations, "name", "swapline")["id"]
    other = server.add_organisation("somebody")["id"]
    bucket = server.add_bucket({"name": "somebody's", "orgID": organisation})["id"]
    server.add_bucket({"name": "swapline_minute", "orgID": other})
    for name in ("somebody's", "swapline.gone.minute", "swapline.module.minute"):
        script = f'option task = {{name: "{name}", every: 1h}}'
        server.add_task({"orgID": organisation, "flux": script})
    permission = {"action": "write", "resource": {"type": "buckets", "id": bucket}}
    server.add_authorization({"orgID": organisation, "description": "somebody", "permissions": [permission]})
    server.add_dbrp({"orgID": organisation, "bucketID": bucket, "database": "swapline", "retention_policy": "theirs"})
    counts = len(server.buckets), len(server.authorizations), len(server.dbrps), len(server.tasks)
    assert names(apply(config)) == [
        ("delete", TASK, "swapline.gone.minute"),
        ("delete", TASK, "swapline.module.minute"),  # the second one of its name
    ]
    assert (len(server.buckets), len(server.authorizations), len(server.dbrps), len(server.tasks) + 2) == counts
    assert record(server.tasks, "name", "somebody's")


def test_many_buckets_and_tasks_are_read_by_pages(server: FakeInfluxdb2, config: CloudConfig) -> None:
    organisation = record(server.organisations, "name", "swapline")["id"]
    first = dict(server.buckets)
    server.buckets.clear()
    for number in range(120):
        server.add_bucket({"name": f"other {number}", "orgID": organisation})
        server.add_task({"orgID": organisation, "flux": f'option task = {{name: "other {number}", every: 1h}}'})
    server.buckets |= {f"f{key[1:]}": one | {"id": f"f{key[1:]}"} for key, one in first.items()}
    for one in (
        *server.dbrps.values(),
        *(p["resource"] for a in server.authorizations.values() for p in a["permissions"]),
    ):
        key = "bucketID" if "bucketID" in one else "id"
        one[key] = f"f{one[key][1:]}"
    assert planned(config) == []


def test_other_levels_change_the_tasks_that_they_are_about(config: CloudConfig) -> None:
    part = Influxdb2Part(config, levels=(Level(MINUTE, "1m", 60, (Turn(900, 1800), LATE_TURN)), LEVELS[1]))
    changes = part.changes()
    part.close()
    minutes = flux.scripts("swapline", "swapline", LEVELS[:1])
    assert {change.action for change in changes} == {"update"}
    assert {change.name for change in changes} == {name for name in minutes if not name.endswith(".late")}


@pytest.mark.parametrize("role", ["reader", "grafana"])
def test_a_token_that_nobody_knows_is_an_error_that_says_what_to_do(
    server: FakeInfluxdb2, config: CloudConfig, role: str
) -> None:
    file = config.secrets / f"{role}.token"
    kept = file.read_text()
    file.unlink()
    with pytest.raises(ConfigurationError, match=rf"swapline cloud apply --rotate {role}") as caught:
        planned(config)
    assert str(file) in str(caught.value)
    assert access.rotate(config, role) == str(file)
    assert file.read_text() != kept
    assert planned(config) == []
    ours = [one for one in server.authorizations.values() if one["description"] == f"swapline {role}"]
    assert [one["token"] for one in ours] == [file.read_text().strip()]


def test_a_file_with_another_token_is_found(config: CloudConfig) -> None:
    (config.secrets / "gateway.token").write_text("of another server\n")
    changes = apply(config)
    assert names(changes) == [("update", TOKEN, "swapline gateway")]
    assert "-another token than in" in changes[0].diff
    assert "of another server" not in changes[0].diff


def test_no_change_shows_a_token(server: FakeInfluxdb2, config: CloudConfig) -> None:
    for harm in (widen_token, switch_off_token, drop_bucket):
        harm(server)
    tokens = [one["token"] for one in server.authorizations.values()]
    changes = apply(config)
    tokens += [one["token"] for one in server.authorizations.values()]
    assert len(changes) >= 3
    assert not any(token in change.diff for token in tokens for change in changes)


def test_who_refuses_us_or_is_no_influxdb_2_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"refuses database\.token: unauthorized access"):
        planned(configuration(url, tmp_path, token="guessed"))  # noqa: S106
    with pytest.raises(ConfigurationError, match=r"database\.token is missing"):
        planned(configuration(url, tmp_path, token=None))
    with pytest.raises(UnavailableError, match="does not answer"):
        planned(configuration("http://127.0.0.1:9", tmp_path))
    with pytest.raises(GatewayError, match="404"):
        planned(configuration(url + "/elsewhere", tmp_path))


def store(server: FakeInfluxdb2, bucket: str, measurement: str, field: str, value: object, **tags: str) -> None:
    server.points.append({"bucket": bucket, "measurement": measurement, "field": field, "value": value, **tags})


def test_a_bucket_forgets_only_when_what_is_kept_for_ever_has_been_brought_along(
    server: FakeInfluxdb2, url: str, tmp_path: Path
) -> None:
    organisation = server.add_organisation("swapline")
    server.add_bucket({"name": "swapline", "orgID": organisation["id"]})
    toml = tmp_path / "cloud.toml"
    toml.write_text(f'secrets = "s"\n[database]\nversion = 2\nurl = "{url}"\ntoken = "{OPERATOR_TOKEN}"\n')
    for measurement, field in (("event", "time_quality"), ("alarm", "time_quality"), ("stay", "is_void")):
        store(server, "swapline", measurement, field, 1)
        store(server, "swapline", measurement, "detail", 2)
    store(server, "swapline", "module", "time_quality", 3)
    first = run("apply", toml)
    assert "update bucket swapline waits: 3 events, alarms and rows of the books" in first.output
    assert "`swapline cloud migrate`" in first.output
    rules = record(server.buckets, "name", "swapline")["retentionRules"]
    assert rules[0]["everySeconds"] == 0
    again = run("apply", toml, "--check", code=1)
    assert "! waits: 3 events" in again.output
    assert again.output.endswith("1 change to make.\n")
    (said,) = run("apply", toml, "--json").output.splitlines()
    assert (json.loads(said)["state"], json.loads(said)["problem"][:8]) == ("waits", "3 events")
    store(server, "swapline_forever", "migrate_state", "whole_rows", 2, source="raw")
    assert "waits: 1 events" in run("apply", toml).output
    store(server, "swapline_forever", "migrate_state", "whole_rows", 3, source="raw")
    assert "[1/1] update bucket swapline\n" in run("apply", toml).output
    assert record(server.buckets, "name", "swapline")["retentionRules"][0]["everySeconds"] == 30 * DAY_S
    store(server, "swapline", "event", "time_quality", 1)
    assert "Nothing to do" in run("apply", toml).output


def run(command: str, toml: Path, *more: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cloud, [command, "--config", str(toml), *more])
    assert result.exit_code == code, (result.output, result.exception)
    return result
