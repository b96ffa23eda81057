"""cloud/systemd: units that systemd understands and that may do little, and configurations that fit them.

Needs `systemd-analyze` and `systemd-sysusers` of systemd 250 or newer, and no running systemd. What they cannot say
(that a filter of system calls is not too narrow) only a running service shows.
"""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from swapline_cloud import config as cloud_configuration
from swapline_cloud.cli import cloud
from swapline_cloud.database.part1 import USERS
from swapline_cloud.secret_folder import SecretFolder
from swapline_gateway import config as gateway_configuration
from swapline_gateway.config import Influxdb1Config

SYSTEMD = Path(__file__).parents[2] / "cloud" / "systemd"
PROGRAM = "/opt/swapline/bin/swapline"
SECRETS = "/etc/swapline/secrets"
EXPOSURE_MAX = 2.5  # of 10, as `systemd-analyze security` counts; Debian's influxdb.service has 9.2
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
TIMERS = sorted(path.name for path in SYSTEMD.glob("*.timer"))


class Unit:
    """A unit file: its keys, each with all values that it is given."""

    def __init__(self, name: str) -> None:
        self.values: dict[str, list[str]] = {}
        for line in (SYSTEMD / name).read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.values.setdefault(key, []).append(value)

    def one(self, key: str) -> str:
        (value,) = self.values[key]
        return value


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with all units, which start the program of this environment."""
    program = shutil.which("swapline", path=str(Path(sys.executable).parent))
    assert program, "`swapline` is in the development environment"
    for name in SERVICES + TIMERS:
        (tmp_path / name).write_text((SYSTEMD / name).read_text().replace(PROGRAM, program))
    return tmp_path


def test_systemd_understands_every_line(units: Path, require: Callable[[str], Path]) -> None:
    analyze = require("systemd-analyze")
    files = [str(units / name) for name in SERVICES + TIMERS]
    done = subprocess.run([str(analyze), "verify", "--man=no", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_say_so_of_a_line_that_it_does_not_understand(
    units: Path, require: Callable[[str], Path]
) -> None:
    unit = units / SERVICES[0]
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHome=perhaps\nProtectHouse=yes"))
    command = [str(require("systemd-analyze")), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "perhaps" in done.stderr
    assert "ProtectHouse" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_service_may_do_little(name: str, units: Path, require: Callable[[str], Path]) -> None:
    analyze = require("systemd-analyze")
    command = [str(analyze), "security", "--offline=true", "--no-pager", str(units / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < EXPOSURE_MAX, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_bounds_and_an_owner(name: str) -> None:
    unit = Unit(name)
    assert unit.one("MemoryMax")
    assert unit.one("TasksMax")
    if name != "swapline-secrets.service":  # the authority's key is root's
        assert unit.one("User").startswith("swapline")
        assert unit.one("IPAddressDeny") == "any"
    else:
        assert unit.one("PrivateNetwork") == "yes"


@pytest.mark.parametrize("name", SERVICES)
def test_command_of_a_service_is_one_that_we_have(name: str) -> None:
    program, *arguments = Unit(name).one("ExecStart").split()
    assert program == PROGRAM
    if arguments[0] != "cloud":
        assert arguments == ["gateway", "--config", "/etc/swapline/gateway.toml"]
        return
    command = cloud.commands[arguments[1]]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments[2:] if argument.startswith("--")} <= options
    needed = {parameter.opts[-1] for parameter in command.params if parameter.required}
    assert needed <= set(arguments)


@pytest.mark.parametrize("name", ["swapline-gateway.service", "swapline-rollup.service"])
def test_what_stays_comes_back_for_ever_but_not_with_a_wrong_configuration(name: str) -> None:
    unit = Unit(name)
    assert unit.one("Restart") == "on-failure"
    assert unit.one("StartLimitIntervalSec") == "0"
    assert "78" in unit.one("RestartPreventExitStatus").split()


@pytest.mark.parametrize("name", TIMERS)
def test_timer_has_its_service_and_a_time_that_systemd_understands(name: str, require: Callable[[str], Path]) -> None:
    assert (SYSTEMD / name.replace(".timer", ".service")).is_file()
    done = subprocess.run(
        [require("systemd-analyze"), "calendar", Unit(name).one("OnCalendar")], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_users_are_made_with_the_groups_that_they_need(tmp_path: Path, require: Callable[[str], Path]) -> None:
    program = require("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    text = (SYSTEMD / "swapline.sysusers").read_bytes()
    subprocess.run([program, f"--root={tmp_path}", "-"], input=text, check=True, capture_output=True)
    lines = (tmp_path / "etc" / "group").read_text().splitlines()
    members = {name: users for name, _, _, users in (line.split(":") for line in lines)}
    assert {"swapline", "swapline-admin"} <= set(members)
    assert members["grafana"] == members["swapline"] == "swapline-admin"
    for name in SERVICES:
        unit = Unit(name)
        wanted = [*unit.values.get("User", []), *" ".join(unit.values.get("SupplementaryGroups", [])).split()]
        assert set(wanted) <= set(members), name


def test_service_does_not_wait_for_units_that_wait_for_it() -> None:
    unit = Unit("swapline-secrets.service")
    waiting = unit.one("Before").split()
    lines = [line for line in unit.values["ExecStartPost"] if "systemctl" in line]
    assert {line.rstrip('"').split()[-1] for line in lines} == set(waiting) - {"grafana-server.service"}
    assert all("--no-block" in line for line in lines)
    assert int(unit.one("TimeoutStartSec")) > 0  # a oneshot has none by itself


@pytest.mark.parametrize("is_renewed", [True, False])
def test_gateway_is_started_again_when_its_copy_of_the_certificate_is_an_old_one(
    tmp_path: Path, *, is_renewed: bool
) -> None:
    (line,) = [line for line in Unit("swapline-secrets.service").values["ExecStartPost"] if "/bin/sh" in line]
    copied, made = tmp_path / "copied.crt", tmp_path / "made.crt"
    loaded = Unit("swapline-gateway.service").values["LoadCredential"]
    name, _, source = next(one for one in loaded if one.startswith("client.crt:")).partition(":")
    copied.write_text("old")
    made.write_text("new" if is_renewed else "old")
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    (tmp_path / "systemctl").chmod(0o755)
    shell, option, script = shlex.split(line.lstrip("-+"))
    assert f"/run/credentials/swapline-gateway.service/{name}" in script
    assert source in script
    script = script.replace(f"/run/credentials/swapline-gateway.service/{name}", str(copied)).replace(source, str(made))
    subprocess.run([shell, option, script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    called = tmp_path / "called"
    assert called.exists() == is_renewed
    assert not is_renewed or called.read_text() == "--no-block try-restart swapline-gateway.service\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return /etc/swapline as docs/deploy.md sets it up, with the secrets where systemd puts them for the gateway."""
    SecretFolder(tmp_path / "secrets").make(["fleet.example"])
    for role in ("gateway", "reader"):
        (tmp_path / "secrets" / "apply" / f"{role}.password").write_text(f"of-{role}\n")
    loaded = tmp_path / "credentials"
    loaded.mkdir()
    for line in Unit("swapline-gateway.service").values["LoadCredential"]:
        name, _, source = line.partition(":")
        shutil.copy(source.replace(SECRETS, str(tmp_path / "secrets")), loaded / name)
    for name in ("gateway.toml", "cloud.toml"):
        text = (SYSTEMD / name).read_text().replace(SECRETS, str(tmp_path / "secrets"))
        (tmp_path / name).write_text(text.replace("/run/credentials/swapline-gateway.service", str(loaded)))
    return tmp_path


def test_gateway_accepts_its_configuration_and_finds_what_systemd_loads_for_it(etc: Path) -> None:
    config = gateway_configuration.load(etc / "gateway.toml")
    assert isinstance(config.sink, Influxdb1Config)
    users = ((config.sink, "gateway"), (config.sink.reader, "reader"))
    for user, role in users:
        assert user.username == USERS[role]
        assert user.password is not None
        assert user.password.get_secret_value() == f"of-{role}"
    assert config.mqtt.tls is not None
    assert all(path.is_file() for _, path in config.mqtt.tls)
    state = Unit("swapline-gateway.service").one("StateDirectory")
    assert config.spool.path.parent == Path("/var/lib") / state


def test_apply_accepts_its_configuration_and_may_write_where_it_keeps_what_it_makes(etc: Path) -> None:
    config = cloud_configuration.load(etc / "cloud.toml")
    assert config.database.version == 1
    assert config.database.password is not None
    assert config.grafana is not None
    assert config.grafana.url == "https://localhost:3000"
    assert config.grafana.ca is not None
    assert config.grafana.ca.is_file()
    assert config.secrets == etc / "secrets" / "apply"
    assert Unit("swapline-apply.service").one("ReadWritePaths") == f"{SECRETS}/apply"


def test_wrong_configuration_ends_with_the_code_that_systemd_does_not_restart(tmp_path: Path) -> None:
    result = CliRunner().invoke(cloud, ["apply", "--config", str(tmp_path / "absent.toml")])
    assert result.exception is not None
    code = getattr(result.exception, "exit_code", None)
    assert str(code) in Unit("swapline-apply.service").one("RestartPreventExitStatus").split()


def test_grafana_serves_tls_and_its_secrets_stand_in_files() -> None:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=(";", "#"))
    parser.read(SYSTEMD / "grafana.ini")
    assert parser["server"]["protocol"] == "https"
    for key in ("admin_password", "secret_key"):
        assert re.fullmatch(r"\$__file\{/etc/swapline/secrets/grafana/\w+\}", parser["security"][key])
    assert parser["server"]["cert_file"].startswith(f"{SECRETS}/grafana/")


def test_page_for_operators_names_files_that_are_there_and_commands_that_we_have() -> None:
    page = (SYSTEMD.parents[1] / "docs" / "deploy.md").read_text()
    for pattern in set(re.findall(r"\bcloud/(?:systemd|mosquitto|docker)/[\w.*-]+[\w*]", page)):
        assert list(SYSTEMD.parents[1].glob(pattern)), pattern
    named = set(re.findall(r"\bswapline cloud ([a-z]+)", page)) | set(
        re.findall(r"\b(?:secrets|apply) cloud ([a-z]+)", page)
    )
    assert named
    assert named <= set(cloud.commands)
    for unit in set(re.findall(r"\bswapline-(?:gateway|apply|rollup|secrets|backup)\.(?:service|timer)", page)):
        assert (SYSTEMD / unit).is_file(), unit
