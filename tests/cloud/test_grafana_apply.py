"""`swapline cloud apply --only grafana` against a Grafana of our own: what it makes, mends, keeps and says."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from swapline_cloud.cli import cloud
from swapline_cloud.secret_folder import SecretFolder
from swapline_gateway.cli import Commands
from swapline_gateway.error import EXIT_ACCESS, EXIT_CONFIGURATION, EXIT_PROBLEM, EXIT_UNAVAILABLE
from tests.cloud.fake_grafana import PASSWORD, TOKEN, USER, FakeGrafana, running

BOARDS = ("fleet-now", "van", "module-passport", "station", "completeness", "pipeline-health")
READ_TOKEN = "a-token-that-may-only-read"  # noqa: S105 (of the fake)
WEBHOOK = "https://hooks.example.org/services/T0/B0/a-secret-part"
NOTHING = "Nothing to do: all is as it should be.\n"
ALERT = f'[alert]\nwebhook_url = "{WEBHOOK}"\nemail = ["ops@example.org"]\n'
MEMBERS = 'viewers = ["li@example.org"]\neditors = ["ann@example.org"]\n'


SWAPLINE = Commands("swapline", commands={"cloud": cloud})


class Operator:
    """Somebody with a `cloud.toml` who runs `swapline cloud apply`."""

    def __init__(self, folder: Path, grafana: FakeGrafana) -> None:
        self.folder = folder
        self.grafana = grafana
        self.secret(READ_TOKEN)
        self.write(alert=ALERT, more=MEMBERS)

    def secret(self, token: str) -> None:
        (self.folder / "secrets").mkdir(exist_ok=True)
        (self.folder / "secrets" / "grafana.token").write_text(token)

    def write(self, *, alert: str = "", more: str = "", access: str = f'token = "{TOKEN}"', url: str = "") -> None:
        database = '[database]\nurl = "http://influxdb:8086"\ntoken = "an-administrator"\n'
        grafana = f'[grafana]\nurl = "{url or self.grafana.url}"\n{access}\ntimeout_s = 5\n{more}'
        (self.folder / "cloud.toml").write_text(f"{database}{grafana}{alert}")

    def run(self, *arguments: str) -> Result:
        command = ["apply", "--config", str(self.folder / "cloud.toml"), "--only", "grafana", *arguments]
        return CliRunner().invoke(SWAPLINE, ["cloud", *command], catch_exceptions=False)

    def apply(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def planned(self) -> set[tuple[str, str, str]]:
        lines = [json.loads(line) for line in self.apply("--dry-run", "--json").splitlines()]
        return {(line["action"], line["kind"], line["name"]) for line in lines}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGrafana]:
    with running(FakeGrafana()) as grafana:
        yield grafana


@pytest.fixture
def grafana(server: FakeGrafana) -> FakeGrafana:
    """Return the server as it is when nobody has used it yet."""
    url = server.url
    server.__init__()  # type: ignore[misc]
    server.url = url
    return server


@pytest.fixture
def operator(tmp_path: Path, grafana: FakeGrafana) -> Operator:
    return Operator(tmp_path, grafana)


@pytest.fixture
def applied(operator: Operator) -> Operator:
    """Return the operator of a Grafana that is as it should be."""
    operator.apply()
    operator.grafana.writes.clear()
    return operator


def test_apply_makes_everything_and_a_second_time_nothing(operator: Operator) -> None:
    output = operator.apply()
    grafana = operator.grafana
    assert set(grafana.boards) == {f"swapline-{name}" for name in BOARDS}
    assert {board["folderUid"] for board in grafana.boards.values()} == {"swapline"}
    assert grafana.rules
    assert {rule["provenance"] for rule in grafana.rules.values()} == {""}, "people could not edit them"
    assert {point["uid"] for point in grafana.points} == {"", "swapline-webhook", "swapline-email"}
    assert {team["name"] for team in grafana.teams.values()} == {"swapline-viewers", "swapline-editors"}
    total = len(output.splitlines())
    assert output.splitlines()[0] == f"[1/{total}] create data source swapline-influxdb"
    assert output.splitlines()[-1] == f"[{total}/{total}] create team members swapline-editors"
    before = grafana.snapshot()
    assert operator.apply() == NOTHING
    assert operator.run("--check").exit_code == 0
    assert grafana.snapshot() == before


def test_data_source_asks_in_influxql_with_a_token_that_only_grafana_has(applied: Operator) -> None:
    source = applied.grafana.sources["swapline-influxdb"]
    assert (source["type"], source["url"]) == ("influxdb", "http://influxdb:8086")
    settings = {key: source["jsonData"][key] for key in ("version", "dbName", "httpHeaderName1")}
    assert settings == {"version": "InfluxQL", "dbName": "swapline", "httpHeaderName1": "Authorization"}
    assert applied.grafana.secrets["swapline-influxdb"] == {"httpHeaderValue1": f"Token {READ_TOKEN}"}
    assert READ_TOKEN not in json.dumps(source)


def test_data_source_of_influxdb_1_has_a_user_and_a_password(operator: Operator) -> None:
    operator.write()
    path = operator.folder / "cloud.toml"
    path.write_text(path.read_text().replace('token = "an-administrator"', "version = 1"))
    (operator.folder / "secrets" / "grafana.password").write_text("a-read-password\n")
    operator.apply()
    assert operator.grafana.sources["swapline-influxdb"]["user"] == "swapline_grafana"
    assert operator.grafana.secrets["swapline-influxdb"] == {"password": "a-read-password"}
    assert operator.apply() == NOTHING


def test_dry_run_shows_everything_and_writes_nothing(operator: Operator) -> None:
    before = operator.grafana.snapshot()
    output = operator.apply("--dry-run")
    assert "create board swapline-van" in output
    assert output.splitlines()[-1].endswith("changes to make.")
    assert not [line for line in output.splitlines() if line.startswith(" ")], "what is new is a line each"
    assert "    +  Vans online" in operator.apply("--dry-run", "--verbose").splitlines()
    assert operator.grafana.snapshot() == before
    assert operator.grafana.writes == []


def test_no_output_has_a_secret(operator: Operator) -> None:
    outputs = [
        operator.run("--dry-run", "--verbose").output,
        operator.run("--dry-run", "--json").output,
        operator.run().output,
    ]
    operator.secret("another-token-that-may-only-read")
    operator.write(alert=ALERT.replace("a-secret-part", "another-part"))
    outputs += [operator.run("--check").output, operator.run("--json").output]
    assert "hooks.example.org/***" in outputs[0]
    for secret in (READ_TOKEN, "another-token", "a-secret-part", "another-part", TOKEN, "an-administrator"):
        assert not [output for output in outputs if secret in output]


def spoil_board(grafana: FakeGrafana) -> None:
    grafana.save_by_hand("swapline-van", lambda board: board.update(title="My van"))


def spoil_unset_key_of_board(grafana: FakeGrafana) -> None:
    grafana.save_by_hand("swapline-van", lambda board: board.update(weekStart="monday"))


def move_board(grafana: FakeGrafana) -> None:
    grafana.boards["swapline-van"]["folderUid"] = ""


def spoil_rule(grafana: FakeGrafana) -> None:
    next(iter(grafana.rules.values()))["for"] = "5h"


def spoil_interval(grafana: FakeGrafana) -> None:
    grafana.intervals["swapline", "swapline"] = 3600


def spoil_point(grafana: FakeGrafana) -> None:
    point = next(point for point in grafana.points if point["uid"] == "swapline-email")
    point["settings"]["addresses"] = "me@example.org"


def spoil_route(grafana: FakeGrafana) -> None:
    grafana.policy["routes"][0]["repeat_interval"] = "3d"


def spoil_source(grafana: FakeGrafana) -> None:
    grafana.sources["swapline-influxdb"]["jsonData"]["dbName"] = "telegraf"


def forget_secret(grafana: FakeGrafana) -> None:
    grafana.sources["swapline-influxdb"]["secureJsonFields"] = {}


def rename_folder(grafana: FakeGrafana) -> None:
    grafana.folders["swapline"]["title"] = "Vans"


def spoil_rights(grafana: FakeGrafana) -> None:
    next(item for item in grafana.permissions["swapline"] if item.get("teamId"))["permission"] = 4


def spoil_members(grafana: FakeGrafana) -> None:
    next(iter(grafana.members.values())).append(1)


def delete_rule(grafana: FakeGrafana) -> None:
    grafana.rules.popitem()


@pytest.mark.parametrize(
    ("spoil", "kind", "shown"),
    [
        (spoil_board, "update board", '- "title": "My van"'),
        (spoil_unset_key_of_board, "update board", "weekStart"),
        (move_board, "update board", '+ "folder": "swapline"'),
        (spoil_rule, "update alert rule", '- "for": "5h"'),
        (delete_rule, "create alert rule", "swapline-broker-away"),
        (spoil_interval, "update alert group", "-every 3600 s"),
        (spoil_point, "update contact point", "me@example.org"),
        (spoil_route, "update notification policy", '- "repeat_interval": "3d"'),
        (spoil_source, "update data source", '"dbName": "telegraf"'),
        (forget_secret, "update data source", "-secret: none"),
        (rename_folder, "update folder", "-Vans"),
        (spoil_rights, "update folder permissions", "-swapline-viewers: Admin"),
        (spoil_members, "update team members", "-admin@localhost"),
    ],
)
def test_drift_is_shown_and_mended(
    applied: Operator, spoil: Callable[[FakeGrafana], None], kind: str, shown: str
) -> None:
    spoil(applied.grafana)
    looked = applied.run("--check")
    assert looked.exit_code == EXIT_PROBLEM
    assert looked.output.startswith(kind)
    assert shown in looked.output
    assert looked.output.endswith("1 change to make.\n")
    assert applied.grafana.writes == []
    assert applied.apply().startswith(f"[1/1] {kind}")
    assert applied.apply() == NOTHING
    made = [*applied.grafana.rules.values(), *applied.grafana.points]
    assert not [one for one in made if one.get("provenance")], "people could not edit it any more"


def test_another_secret_is_seen_by_its_mark_and_sent(applied: Operator) -> None:
    applied.secret("another-token")
    assert "-secret: another one" in applied.apply("--dry-run")
    applied.apply()
    assert applied.grafana.secrets["swapline-influxdb"] == {"httpHeaderValue1": "Token another-token"}
    assert applied.apply() == NOTHING


def test_check_from_a_host_without_the_secret_finds_nothing_wrong(applied: Operator) -> None:
    (applied.folder / "secrets" / "grafana.token").unlink()
    assert applied.run("--check").exit_code == 0
    spoil_source(applied.grafana)
    applied.apply()
    assert applied.grafana.secrets["swapline-influxdb"] == {"httpHeaderValue1": f"Token {READ_TOKEN}"}


def test_missing_secret_is_named_with_what_makes_it(operator: Operator) -> None:
    (operator.folder / "secrets" / "grafana.token").unlink()
    assert "+secret: as the database's part makes it" in operator.apply("--dry-run", "--verbose")
    result = operator.run()
    assert result.exit_code == EXIT_CONFIGURATION
    assert "grafana.token is missing" in result.output
    assert "apply --only database" in result.output


def test_what_others_made_stays(operator: Operator) -> None:
    grafana = operator.grafana
    foreign_board = {"dashboard": {"uid": "swapline-mine", "title": "Mine", "tags": ["swapline"], "version": 1}}
    grafana.boards["swapline-mine"] = foreign_board | {"folderUid": "", "messages": [""]}
    copy = {"uid": "a1b2c3", "title": "Copy", "tags": ["swapline"], "version": 1}
    grafana.boards["a1b2c3"] = {"dashboard": copy, "folderUid": "swapline", "messages": [""]}
    rule = {"uid": "swapline-mine", "title": "Mine", "folderUID": "swapline", "ruleGroup": "swapline", "labels": {}}
    grafana.rules["swapline-mine"] = rule
    grafana.intervals["swapline", "swapline"] = 60
    route = {"receiver": "grafana-default-email", "object_matchers": [["team", "=", "office"]], "group_wait": "1m"}
    grafana.policy |= {"routes": [route], "repeat_interval": "2h"}
    grafana.points.append({"uid": "office", "name": "office", "type": "email", "settings": {"addresses": "o@x.org"}})
    operator.apply()
    operator.write()  # without contact points, without members
    operator.apply()
    assert grafana.boards["swapline-mine"]["dashboard"]["title"] == "Mine"
    assert grafana.boards["a1b2c3"]["dashboard"]["title"] == "Copy"
    assert grafana.rules["swapline-mine"]["title"] == "Mine"
    assert grafana.policy["routes"] == [route]
    assert grafana.policy["repeat_interval"] == "2h"
    assert {point["uid"] for point in grafana.points} == {"", "office"}
    assert {"role": "Viewer", "permission": 1} in grafana.permissions["swapline"]
    assert operator.apply() == NOTHING


def test_route_stands_before_others_and_lets_them_have_our_alerts_too(operator: Operator) -> None:
    everything = {"receiver": "grafana-default-email", "object_matchers": [["severity", "=~", ".*"]]}
    operator.grafana.policy["routes"] = [everything]
    operator.apply()
    ours, other = operator.grafana.policy["routes"]
    assert (ours["receiver"], ours["object_matchers"]) == ("swapline", [["swapline", "=", "true"]])
    assert ours["continue"] is True
    assert other == everything


def test_what_swapline_no_longer_has_goes(applied: Operator) -> None:
    grafana = applied.grafana
    board = {"uid": "swapline-old", "title": "Old", "tags": ["swapline"], "version": 1}
    grafana.boards["swapline-old"] = {"dashboard": board, "folderUid": "swapline", "messages": [""]}
    rule = dict(next(iter(grafana.rules.values())), uid="swapline-old", title="Old")
    grafana.rules["swapline-old"] = rule
    applied.write(more=MEMBERS)
    assert applied.planned() == {
        ("delete", "board", "swapline-old"),
        ("delete", "alert rule", "swapline-old"),
        ("delete", "notification policy", "swapline"),
        ("delete", "contact point", "swapline-webhook"),
        ("delete", "contact point", "swapline-email"),
    }
    applied.apply()
    assert "swapline-old" not in {*grafana.boards, *grafana.rules}
    assert {point["uid"] for point in grafana.points} == {""}
    assert applied.apply() == NOTHING


def test_rule_that_somebody_paused_stays_paused(applied: Operator) -> None:
    rule = next(iter(applied.grafana.rules.values()))
    rule["isPaused"] = True
    assert applied.apply() == NOTHING
    rule["for"] = "5h"
    applied.apply()
    assert applied.grafana.rules[rule["uid"]]["isPaused"] is True


def test_groups_get_their_interval_where_grafana_has_another_default(operator: Operator) -> None:
    operator.grafana.default_interval_s = 300
    operator.apply()
    assert set(operator.grafana.intervals.values()) == {60, 600}
    assert operator.apply() == NOTHING


def test_members_are_left_to_grafana_where_the_configuration_names_none(operator: Operator) -> None:
    operator.write()
    operator.apply()
    next(iter(operator.grafana.members.values())).append(2)
    assert operator.apply() == NOTHING


def test_who_makes_teams_as_a_user_does_not_stay_in_them(operator: Operator) -> None:
    operator.write(more=MEMBERS, access=f'username = "{USER}"\npassword = "{PASSWORD}"')
    operator.apply()
    assert list(operator.grafana.members.values()) == [[2], [3]]
    assert operator.apply() == NOTHING


def test_members_whom_grafana_does_not_know_are_named_after_all_else_is_done(operator: Operator) -> None:
    operator.write(more='viewers = ["li@example.org", "nobody@example.org"]\n')
    result = operator.run()
    assert result.exit_code == EXIT_CONFIGURATION
    assert "Grafana knows nobody as nobody@example.org" in result.output
    assert [2] in operator.grafana.members.values()
    assert operator.planned() == {("update", "team members", "swapline-viewers")}


@pytest.mark.parametrize("after", [0, 1, 4, 12])
def test_apply_that_fails_half_way_is_completed_by_the_next(operator: Operator, after: int) -> None:
    operator.grafana.fail(500, after_writes=after)
    failed = operator.run()
    assert failed.exit_code == EXIT_UNAVAILABLE
    if after:
        assert f"\n{after} of " in failed.output
        assert "Applying again is safe and goes on from there." in failed.output
    operator.grafana.heal()
    operator.apply()
    assert operator.apply() == NOTHING


def test_json_says_what_was_done_what_failed_and_what_was_not_done(operator: Operator) -> None:
    operator.grafana.fail(500, after_writes=3)
    output = operator.run("--json").stdout
    states = [json.loads(line)["state"] for line in output.splitlines()]
    assert states[:5] == ["done", "done", "done", "failed", "not done"]
    assert set(states[5:]) == {"not done"}


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (401, EXIT_ACCESS, "refuses our credentials: [grafana] needs the token of a service account"),
        (403, EXIT_ACCESS, "does not let us save the board swapline-fleet-now"),
        (412, EXIT_UNAVAILABLE, "did not save the board swapline-fleet-now: something changed meanwhile"),
        (500, EXIT_UNAVAILABLE, "could not save the board swapline-fleet-now: it says 500"),
        (400, EXIT_PROBLEM, "does not save the board swapline-fleet-now: it says 400"),
    ],
)
def test_refusals_end_in_a_sentence(operator: Operator, status: int, code: int, sentence: str) -> None:
    operator.grafana.fail(status, after_writes=2)
    result = operator.run()
    assert result.exit_code == code
    assert sentence in result.output
    assert "2 of " in result.output


def test_wrong_token_is_an_access_error_before_anything_is_done(operator: Operator) -> None:
    operator.write(access='token = "a-wrong-token"')
    result = operator.run()
    assert result.exit_code == EXIT_ACCESS
    assert "refuses our credentials" in result.output
    assert "a-wrong-token" not in result.output


def test_grafana_without_credentials_is_a_configuration_error(operator: Operator) -> None:
    operator.write(access="")
    assert operator.run().exit_code == EXIT_CONFIGURATION


def test_grafana_that_is_away_is_unavailable(operator: Operator) -> None:
    operator.write(url="http://127.0.0.1:9")
    result = operator.run()
    assert result.exit_code == EXIT_UNAVAILABLE
    assert "http://127.0.0.1:9 does not answer" in result.output


def test_address_of_something_else_is_no_grafana(operator: Operator) -> None:
    operator.grafana.fault = lambda _: web.Response(text="<html>Welcome</html>", content_type="text/html")
    result = operator.run()
    assert result.exit_code == EXIT_UNAVAILABLE
    assert "does not answer as Grafana does" in result.output


def test_grafana_with_a_certificate_of_our_own_authority_is_known_by_it(tmp_path: Path) -> None:
    SecretFolder(tmp_path / "tls").make(["127.0.0.1"])
    folder = tmp_path / "tls" / "grafana"
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    with running(FakeGrafana(), tls) as grafana:
        operator = Operator(tmp_path, grafana)
        unknown = operator.run("--dry-run")
        assert unknown.exit_code == EXIT_UNAVAILABLE
        assert "certificate verify failed" in unknown.output
        operator.write(more='ca = "tls/grafana/ca.crt"')
        operator.apply("--dry-run")
        operator.write(more='ca = "nowhere.crt"')
        assert operator.run("--dry-run").exit_code == EXIT_CONFIGURATION


def test_boards_and_rules_change_their_language_and_keep_their_uids(applied: Operator) -> None:
    uids = {*applied.grafana.boards, *applied.grafana.rules}
    changed: set[Any] = {kind for _, kind, _ in _lines(applied.apply("--lang", "zh", "--dry-run", "--json"))}
    assert changed == {"board", "alert rule"}
    applied.apply("--lang", "zh")
    assert {*applied.grafana.boards, *applied.grafana.rules} == uids
    assert applied.apply("--lang", "zh") == NOTHING


def _lines(output: str) -> list[tuple[str, str, str]]:
    found = [json.loads(line) for line in output.splitlines()]
    return [(line["action"], line["kind"], line["name"]) for line in found]
