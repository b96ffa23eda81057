"""`swapline cloud`: its configuration, the files that `render` writes, and one `apply` of database and Grafana."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from swapline_cloud.alert import rules
from swapline_cloud.board.pen import DATA_SOURCE_UID
from swapline_cloud.cli import cloud
from swapline_cloud.config import AlertConfig, load
from swapline_cloud.database.client1 import AdminClient
from swapline_gateway.cli import Commands
from swapline_gateway.error import (
    EXIT_CONFIGURATION,
    EXIT_PROBLEM,
    EXIT_STOPPED,
    EXIT_STORAGE,
    EXIT_UNAVAILABLE,
)
from tests.cloud.fake_grafana import TOKEN, FakeGrafana, running
from tests.cloud.influx_auth import influxd_with_users

SWAPLINE = Commands("swapline", commands={"cloud": cloud})
BOARDS = {"fleet-now", "van", "module-passport", "station", "completeness", "pipeline-health"}
SECRETS = ("a-database-token", "a-grafana-token", "a-webhook-secret")
FULL = f"""
[database]
url = "http://influxdb:8086"
token = "{SECRETS[0]}"
[grafana]
url = "http://grafana:3000"
token = "{SECRETS[1]}"
[alert]
webhook_url = "https://hooks.example.org/{SECRETS[2]}"
email = ["ops@example.org", "li@example.org"]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(SWAPLINE, ["cloud", *arguments], catch_exceptions=False)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def configured(folder: Path, text: str) -> str:
    path = folder / "cloud.toml"
    path.write_text(text)
    return str(path)


# The configuration


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[databse]\nurl = "http://x"', "databse: unknown key; did you mean 'database'?"),
        ('[database]\nurl = "http://x"\ntokn = "a-secret"', "database.tokn: unknown key; did you mean 'token'?"),
        ("", "database: is missing."),
        ("[database]", "database.url: is missing."),
        ('[database]\nurl = "x:1"', "database.url: 'x:1' is not allowed; allowed: http://host:port"),
        ('[database]\nurl = "http://x"\ntoken = 7', "database.token: *** is not allowed"),
        ('[database]\nurl = "http://x"\n[alert]\nwebhook_url = "secret"', "alert.webhook_url: *** is not allowed"),
        ('[database]\nurl = "http://x"\nversion = 4', "database.version: 4 is not allowed"),
        ('[database]\nurl = "http://x"\ntoken_file = "none"', "none cannot be read"),
    ],
)
def test_wrong_configuration_names_file_key_and_what_is_allowed(tmp_path: Path, text: str, sentence: str) -> None:
    result = run("apply", "--config", configured(tmp_path, text))
    assert result.exit_code == EXIT_CONFIGURATION
    assert "cloud.toml: " in result.output
    assert sentence in result.output
    assert "a-secret" not in result.output


def test_secrets_may_stand_in_files_of_their_own(tmp_path: Path) -> None:
    text = '[database]\nurl = "http://x"\ntoken_file = "a"\n[alert]\nwebhook_url_file = "b"\n'
    (tmp_path / "a").write_text("a-token\n")
    (tmp_path / "b").write_text("https://hooks.example.org/secret\n")
    config = load(Path(configured(tmp_path, text)))
    assert config.database.token is not None
    assert config.database.token.get_secret_value() == "a-token"
    assert config.alert.webhook_url is not None
    assert config.alert.webhook_url.get_secret_value() == "https://hooks.example.org/secret"
    assert "secret" not in repr(config.alert)
    assert config.secrets == tmp_path / "secrets"


def test_grafana_alone_needs_a_grafana(tmp_path: Path) -> None:
    path = configured(tmp_path, '[database]\nurl = "http://127.0.0.1:9"')
    result = run("apply", "--config", path, "--only", "grafana")
    assert result.exit_code == EXIT_CONFIGURATION
    assert "[grafana] is missing" in result.output


def test_rotating_is_no_look(tmp_path: Path) -> None:
    path = configured(tmp_path, '[database]\nurl = "http://127.0.0.1:9"')
    assert run("apply", "--config", path, "--rotate", "grafana", "--check").exit_code == 2


# What render writes


@pytest.fixture(scope="module", params=["en", "zh"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of files, in one of the languages."""
    folder = tmp_path_factory.mktemp("rendered")
    result = run("render", "--config", configured(folder, FULL), "--out", str(folder / "out"), "--lang", request.param)
    assert result.exit_code == 0, result.output
    return folder / "out"


def read_yaml(folder: Path, name: str) -> Any:
    found = yaml.safe_load((folder / "grafana" / "provisioning" / name).read_text(encoding="utf-8"))
    assert found.pop("apiVersion") == 1
    ((_, value),) = found.items()
    return value


def test_render_needs_no_configuration(tmp_path: Path) -> None:
    assert run("render", "--out", str(tmp_path / "out")).exit_code == 0
    assert {path.stem for path in (tmp_path / "out" / "grafana" / "dashboards").iterdir()} == BOARDS
    assert read_yaml(tmp_path / "out", "alerting/contact_points.yaml") == []


def test_render_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = configured(tmp_path, FULL)
    for name in ("one", "two", "two"):
        assert run("render", "--config", path, "--out", str(tmp_path / name)).exit_code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_no_rendered_file_has_a_secret(rendered: Path) -> None:
    for name, text in content(rendered).items():
        assert not [secret for secret in SECRETS if secret.encode() in text], name


def test_rendered_data_source_takes_its_token_from_the_environment(rendered: Path) -> None:
    (source,) = read_yaml(rendered, "datasources/swapline.yaml")
    assert source["uid"] == DATA_SOURCE_UID
    assert source["secureJsonData"] == {"httpHeaderValue1": "Token $SWAPLINE_DB_TOKEN"}
    readme = (rendered / "README.md").read_text(encoding="utf-8")
    assert "`SWAPLINE_DB_TOKEN`" in readme
    assert "`SWAPLINE_WEBHOOK_URL`" in readme


def test_rendered_boards_are_where_their_provider_looks(rendered: Path) -> None:
    (provider,) = read_yaml(rendered, "dashboards/swapline.yaml")
    readme = (rendered / "README.md").read_text(encoding="utf-8")
    assert f"| `grafana/dashboards/` | `{provider['options']['path']}/` |" in readme
    boards = [json.loads(path.read_text()) for path in (rendered / "grafana" / "dashboards").iterdir()]
    assert {board["uid"] for board in boards} == {f"swapline-{name}" for name in BOARDS}


def test_rendered_rules_say_what_the_api_is_told(rendered: Path) -> None:
    groups = read_yaml(rendered, "alerting/rules.yaml")
    found = {rule["uid"]: (group, rule) for group in groups for rule in group["rules"]}
    texts = json.dumps(groups, ensure_ascii=False)
    language = "zh" if re.search("[\u4e00-\u9fff]", texts) else "en"
    wanted = rules.render(AlertConfig(), language)
    assert set(found) == {rule["uid"] for rule in wanted}
    for rule in wanted:
        group, file = found[rule["uid"]]
        assert (group["name"], group["interval"]) == (rule["ruleGroup"], f"{rules.INTERVALS_S[rule['ruleGroup']]}s")
        assert file["keepFiringFor"] == rule["keep_firing_for"]
        same = ("condition", "data", "noDataState", "execErrState", "for", "annotations")
        assert [file[key] for key in same] == [rule[key] for key in same]
        assert expanded(file["title"]) == rule["title"]
        assert {key: expanded(text) for key, text in file["labels"].items()} == rule["labels"]
        # Of annotations Grafana expands what has braces, and nothing else.
        assert not [text for text in file["annotations"].values() if "${" in text]


def expanded(text: str) -> str:
    """Return what Grafana makes of a text of a provisioning file where no variable is set."""
    return "$".join(re.sub(r"\$\w+|\$\{\w+\}", "", part) for part in text.split("$$"))


def test_rendered_contact_points_and_policy_belong_together(rendered: Path) -> None:
    (point,) = read_yaml(rendered, "alerting/contact_points.yaml")
    webhook, email = point["receivers"]
    assert webhook["settings"]["url"] == "$SWAPLINE_WEBHOOK_URL"
    assert email["settings"]["addresses"] == "ops@example.org;li@example.org"
    (policy,) = read_yaml(rendered, "alerting/policies.yaml")
    assert [route["receiver"] for route in policy["routes"]] == [point["name"]]
    assert policy["routes"][0]["object_matchers"] == [["swapline", "=", "true"]]


def test_rendered_languages_differ_in_texts_only(tmp_path: Path) -> None:
    for language in ("en", "zh"):
        run("render", "--out", str(tmp_path / language), "--lang", language)
    english, chinese = content(tmp_path / "en"), content(tmp_path / "zh")
    assert set(english) == set(chinese)
    changed = {name.split("/")[0] for name in english if english[name] != chinese[name]}
    assert changed == {"grafana"}


def test_render_leaves_foreign_files_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    result = run("render", "--out", str(out))
    assert result.exit_code == EXIT_STORAGE
    assert "notes.txt, which render did not write" in result.output
    assert content(out) == {"notes.txt": b"mine"}
    assert run("render", "--out", str(out), "--force").exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"


def test_render_takes_away_what_it_wrote_and_no_longer_writes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("render", "--out", str(out))
    (out / "grafana" / "dashboards" / "old.json").write_text("{}")
    (out / "FILES").write_text((out / "FILES").read_text() + "grafana/dashboards/old.json\n")
    assert run("render", "--out", str(out)).exit_code == 0
    assert not (out / "grafana" / "dashboards" / "old.json").exists()


# Database and Grafana in one go


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FakeGrafana, Path]]:
    """Return the configuration of a host with a real InfluxDB 1.x and a Grafana of our own."""
    folder = tmp_path_factory.mktemp("host")
    with influxd_with_users() as database, running(FakeGrafana()) as grafana:
        administrator = 'username = "admin"\npassword = "a-password-of-the-test"'
        text = f'[database]\nversion = 1\nurl = "{database.url}"\n{administrator}\n'
        text += f'[grafana]\nurl = "{grafana.url}"\ntoken = "{TOKEN}"\n'
        yield configured(folder, text), grafana, folder


def test_one_apply_sets_up_both_and_grafana_gets_what_the_database_made(host: tuple[str, FakeGrafana, Path]) -> None:
    path, grafana, folder = host
    planned = run("apply", "--config", path, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert grafana.writes == []
    assert run("apply", "--config", path, "--check").exit_code == EXIT_PROBLEM
    applied = run("apply", "--config", path)
    assert applied.exit_code == 0, applied.output
    password = (folder / "secrets" / "grafana.password").read_text().strip()
    assert grafana.secrets[DATA_SOURCE_UID] == {"password": password}
    assert "create database swapline" in applied.output
    assert password not in applied.output
    again = run("apply", "--config", path, "--check")
    assert again.exit_code == 0, again.output
    grafana.fail(500)
    assert run("apply", "--config", path, "--rotate", "grafana").exit_code == EXIT_UNAVAILABLE
    assert (folder / "secrets" / "grafana.password").read_text().strip() == password, "nobody would give it to Grafana"
    grafana.heal()
    rotated = run("apply", "--config", path, "--rotate", "grafana")
    assert rotated.exit_code == 0, rotated.output
    fresh = (folder / "secrets" / "grafana.password").read_text().strip()
    assert fresh != password
    assert grafana.secrets[DATA_SOURCE_UID] == {"password": fresh}
    (folder / "secrets" / "grafana.password").unlink()
    assert run("apply", "--config", path, "--check").exit_code == EXIT_CONFIGURATION
    assert run("apply", "--config", path, "--rotate", "grafana").exit_code == 0, "as the sentence says"
    assert run("apply", "--config", path, "--check").exit_code == 0


def test_ctrl_c_says_what_was_done_and_the_next_run_goes_on(
    host: tuple[str, FakeGrafana, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("apply", "--config", host[0], "--only", "database")
    assert run(*arguments).exit_code == 0
    administrator = AdminClient(load(Path(host[0])).database)
    for policy in ("minute", "forever"):
        administrator.run(f'DROP RETENTION POLICY "{policy}" ON "swapline"')
    administrator.close()
    whole = AdminClient.run

    def interrupted(client: AdminClient, statement: str) -> None:
        if "forever" in statement:
            raise KeyboardInterrupt
        whole(client, statement)

    monkeypatch.setattr(AdminClient, "run", interrupted)
    stopped = run(*arguments)
    assert stopped.exit_code == EXIT_STOPPED
    assert "1 of 2 changes are done. Not done: create retention policy forever." in stopped.output
    monkeypatch.undo()
    assert "[1/1] create retention policy forever" in run(*arguments).output
