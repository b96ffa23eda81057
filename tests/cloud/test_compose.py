"""cloud/compose.yaml and cloud/Dockerfile, as far as they can be tried where no Docker runs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from swapline_cloud import config as cloud_configuration
from swapline_cloud.cli import cloud
from swapline_cloud.command.host import make_secrets
from swapline_gateway import config as gateway_configuration
from swapline_gateway.config import Influxdb2Config
from swapline_gateway.error import ConfigurationError
from tests.cloud.fake_influxdb2 import OPERATOR_TOKEN, FakeInfluxdb2, serving

ROOT = Path(__file__).parents[2]
CLOUD = ROOT / "cloud"
COMPOSE = CLOUD / "compose.yaml"
DOCKERFILE = CLOUD / "Dockerfile"
SECRETS = "/etc/swapline/secrets"
EXACT = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+(-[a-z0-9-]+)?")
TLS_PORTS = {8883, 3000}
Service = dict[str, Any]


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def services() -> dict[str, Service]:
    found: dict[str, Service] = compose()["services"]
    return found


def is_once(service: Service) -> bool:
    return bool(service["restart"] == "no")


LONG = [name for name, service in services().items() if not is_once(service)]
ALL = list(services())


def mounts(service: Service) -> list[tuple[str, str, str]]:
    """Return source, target and mode of every volume."""
    found = []
    for text in service.get("volumes", []):
        source, target, *mode = text.split(":")
        found.append((source, target, mode[0] if mode else "rw"))
    return found


def test_compose_file_is_what_the_compose_specification_allows() -> None:
    checker = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert checker, "check-jsonschema is in the development environment"
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", str(COMPOSE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALL)
def test_every_image_has_an_exact_version(name: str) -> None:
    assert EXACT.fullmatch(services()[name]["image"])


def test_images_that_the_image_is_built_from_have_exact_versions() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert len(images) == 2
    assert all(EXACT.fullmatch(image) for image in images)


@pytest.mark.parametrize("name", LONG)
def test_every_service_that_stays_is_watched_and_comes_back(name: str) -> None:
    service = services()[name]
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    # Without the last one Docker first looks after `interval`, and who waits for it waits for that.
    assert {"interval", "timeout", "retries", "start_period", "start_interval"} <= set(check)


@pytest.mark.parametrize("name", ALL)
def test_every_service_has_bounds_and_no_rights_that_it_does_not_need(name: str) -> None:
    service = services()[name]
    assert not service.get("privileged")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"max-size", "max-file"} == set(service["logging"]["options"])
    assert {"cpus", "memory", "pids"} == set(service["deploy"]["resources"]["limits"])
    assert service.get("cap_add", []) == (["CHOWN"] if name == "secrets" else [])
    user = service["user"].split(":")[0]
    assert (user == "0") == (name == "secrets")


def test_the_one_service_that_is_root_has_no_network() -> None:
    assert services()["secrets"]["network_mode"] == "none"


def test_what_listens_outside_speaks_tls_and_the_console_stays_on_this_host() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    outside = [port for port in ports if not port.startswith("127.0.0.1:")]
    assert {int(port.rsplit(":", 1)[1]) for port in outside} == TLS_PORTS
    assert "127.0.0.1:8080:8080" in ports
    assert services()["grafana"]["environment"]["GF_SERVER_PROTOCOL"] == "https"


def test_database_is_reached_by_nobody_outside() -> None:
    database = services()["influxdb"]
    assert "ports" not in database
    assert database["networks"] == ["data"]
    assert compose()["networks"]["data"] == {"internal": True}


def test_no_secret_stands_in_the_file() -> None:
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", key):
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert value.startswith(SECRETS)
    assert not re.search(r"[0-9a-f]{32}", COMPOSE.read_text())


def test_volumes_have_names_and_mounted_files_are_in_the_repository() -> None:
    named = set(compose()["volumes"])
    used = set()
    for name, service in services().items():
        for source, target, mode in mounts(service):
            if source.startswith("."):
                assert (CLOUD / source).is_file(), f"{name}: {source}"
                assert mode == "ro"
            else:
                assert source in named, f"{name}: {source}"
                used.add(source)
            assert target.startswith("/")
    assert used == named


def test_nobody_but_their_maker_may_change_secrets_and_each_sees_only_its_own() -> None:
    read: dict[str, set[str]] = {}
    for name, service in services().items():
        for source, _, mode in mounts(service):
            if source.startswith("secret-"):
                read.setdefault(name, set()).add(source.removeprefix("secret-"))
                is_maker = name == "secrets" or (source == "secret-apply" and name.startswith("apply"))
                assert mode == ("rw" if is_maker else "ro"), f"{name}: {source}"
    assert read.pop("secrets") == {"authority", "broker", "database", "gateway", "grafana", "apply", "node"}
    assert read == {
        "mosquitto": {"broker"},
        "influxdb": {"database"},
        "gateway": {"gateway", "apply"},
        "grafana": {"grafana"},
        "apply-database": {"database", "apply"},
        "apply": {"database", "grafana", "apply"},
        "rollup": {"database", "apply"},
        "backup": {"database", "grafana", "apply"},
    }


def test_services_wait_for_what_can_be_waited_for() -> None:
    for name, service in services().items():
        for other, how in service.get("depends_on", {}).items():
            is_end = how["condition"] == "service_completed_successfully"
            assert is_end == is_once(services()[other]), f"{name} waits for {other}"
            assert is_end or how["condition"] == "service_healthy"


def test_gateway_does_not_wait_for_grafana() -> None:
    def behind(name: str) -> set[str]:
        others = set(services()[name].get("depends_on", {}))
        return others.union(*(behind(other) for other in others)) if others else others

    assert behind("gateway") == {"secrets", "mosquitto", "influxdb", "apply-database"}


def test_readers_of_secrets_are_the_users_of_the_services() -> None:
    command = services()["secrets"]["command"]
    readers = dict(part.removeprefix("--reader=").split("=") for part in command if part.startswith("--reader="))
    for part, service in (("broker", "mosquitto"), ("database", "influxdb"), ("gateway", "gateway")):
        assert services()[service]["user"].split(":")[1] == readers[part]
    assert services()["grafana"]["user"].split(":")[1] == readers["grafana"]
    assert set(services()["apply"]["group_add"]) == {readers["database"], readers["grafana"]}
    assert services()["apply"]["user"].split(":")[1] == readers["apply"] == readers["gateway"]


@pytest.mark.parametrize("name", [name for name, service in services().items() if "swapline" in service["image"]])
def test_command_of_a_service_of_ours_is_one_that_we_have(name: str) -> None:
    service = services()[name]
    if "command" not in service:
        assert name == "gateway"  # what the image does by itself
        assert 'CMD ["gateway", "--config", "/etc/swapline/gateway.toml"]' in DOCKERFILE.read_text()
        return
    group, command, *arguments = service["command"]
    assert group == cloud.name
    known = {option for parameter in cloud.commands[command].params for option in parameter.opts}
    assert {argument.split("=")[0] for argument in arguments if argument.startswith("--")} <= known


def test_command_of_the_secrets_service_is_one_that_we_have(tmp_path: Path) -> None:
    group = next(part for part in services()["secrets"]["command"] if part.startswith("--out="))
    assert group == f"--out={SECRETS}"
    assert services()["secrets"]["command"][:2] == ["cloud", "secrets"]
    arguments = [part.replace(SECRETS, str(tmp_path)) for part in services()["secrets"]["command"][2:]]
    arguments = [re.sub(r"\$\{SWAPLINE_HOST:\?.*\}", "fleet.example", part) for part in arguments]
    make_secrets.main([part for part in arguments if not part.startswith("--reader")], standalone_mode=False)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("authority", "broker", "database", "gateway", "grafana", "apply"),
    }


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return a folder with the image's configurations and the secrets that they name, as the containers see them."""
    make_secrets.main(["--out", str(tmp_path / "secrets"), "--host", "fleet.example"], standalone_mode=False)
    for name in ("gateway.toml", "database.toml", "cloud.toml"):
        text = (CLOUD / "docker" / name).read_text()
        (tmp_path / name).write_text(text.replace(SECRETS, str(tmp_path / "secrets")))
    return tmp_path


@pytest.fixture
def database(etc: Path) -> Iterator[FakeInfluxdb2]:
    """Serve an InfluxDB 2.x (a played one) as the image sets it up with its environment; the configurations name it."""
    environment = services()["influxdb"]["environment"]
    token = Path(environment["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE"].replace(SECRETS, str(etc / "secrets")))
    assert token.read_text()
    token.write_text(OPERATOR_TOKEN)
    state = FakeInfluxdb2()
    organisation = state.add_organisation(environment["DOCKER_INFLUXDB_INIT_ORG"])
    state.add_bucket({"orgID": organisation["id"], "name": environment["DOCKER_INFLUXDB_INIT_BUCKET"]})
    with serving(state) as url:
        for name in ("gateway.toml", "database.toml", "cloud.toml"):
            text = (etc / name).read_text()
            (etc / name).write_text(text.replace("http://influxdb:8086", url))
        yield state


def run_service(name: str, etc: Path) -> str:
    """Run the command of a service of ours as its container would, and return what it says."""
    group, *command = [part.replace("/etc/swapline", str(etc)) for part in services()[name]["command"]]
    assert group == cloud.name
    result = CliRunner().invoke(cloud, command)
    assert result.exit_code == 0, f"{result.output}{result.exception}"
    return result.output


@pytest.mark.usefixtures("database")
def test_what_the_database_is_set_up_with_lets_apply_in_and_what_that_makes_the_gateway_finds(etc: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.token cannot be read"):
        gateway_configuration.load(etc / "gateway.toml")
    assert "create" in run_service("apply-database", etc)
    assert run_service("apply-database", etc) == "Nothing to do: all is as it should be.\n"
    sink = gateway_configuration.load(etc / "gateway.toml").sink
    assert isinstance(sink, Influxdb2Config)
    for token, role in ((sink.token, "gateway"), (sink.reader.token, "reader")):
        assert token is not None
        assert token.get_secret_value() == (etc / "secrets" / "apply" / f"{role}.token").read_text().strip()


def test_gateway_accepts_its_configuration_and_writes_into_buckets_that_apply_makes(
    etc: Path, database: FakeInfluxdb2
) -> None:
    run_service("apply-database", etc)
    config = gateway_configuration.load(etc / "gateway.toml")
    assert isinstance(config.sink, Influxdb2Config)
    names = {bucket["name"] for bucket in database.buckets.values()}
    assert {config.sink.bucket, config.sink.forever_bucket} <= names
    assert config.mqtt.tls is not None
    assert all(path.is_file() for _, path in config.mqtt.tls)
    assert config.mqtt.host in services()
    assert config.http is not None
    assert config.http.port == 8080
    check = services()["gateway"]["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{config.http.port}/healthz" in check


def test_apply_accepts_its_configurations_and_both_mean_the_same_database(etc: Path) -> None:
    alone = cloud_configuration.load(etc / "database.toml")
    both = cloud_configuration.load(etc / "cloud.toml")
    assert alone.grafana is None
    assert both.grafana is not None
    assert both.grafana.password is not None
    assert both.grafana.ca is not None
    assert both.grafana.ca.is_file()
    assert (alone.database, alone.secrets) == (both.database, both.secrets)
    assert alone.database.token is not None
    assert alone.database.organisation == services()["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_ORG"]
    assert alone.database.database == services()["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_BUCKET"]


def test_image_copies_only_what_is_there_and_what_its_ignore_list_lets_through() -> None:
    ignore = (CLOUD / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        source
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == entry or source.startswith(entry + "/") for entry in allowed), source
    assert "*" in ignore


def test_secrets_and_settings_of_a_host_are_never_committed() -> None:
    for path in (
        "cloud/.env",
        "cloud/secrets/broker/server.key",
        "cloud/nodes/demo/van-001/client.key",
        "cloud/cloud.toml",
    ):
        done = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=False)
        assert done.returncode == 0, path
