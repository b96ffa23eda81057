"""What the rest of `swapline cloud` gets from the database side: a part by version, files, credentials; and 3.x."""

import http.server
import json
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from swapline_bench import services
from swapline_cloud.config import CloudConfig
from swapline_cloud.database import access, continuous, flux, secret
from swapline_cloud.database.part1 import Influxdb1Part
from swapline_cloud.database.part2 import Influxdb2Part
from swapline_cloud.database.part3 import PATH, Influxdb3Part
from swapline_gateway.error import AccessError, ConfigurationError, StorageError

TOKEN = "an administrator's token"  # noqa: S105


def configuration(version: int, url: str, folder: Path, **database: object) -> CloudConfig:
    section = {"version": version, "url": url, "token": TOKEN, **database}
    return CloudConfig.model_validate({"database": section, "secrets": folder})


class FakeInfluxdb3:
    """As much of an InfluxDB 3.x as it takes to make databases, as its documentation says."""

    def __init__(self) -> None:
        self.databases: dict[str, str | None] = {"_internal": None}
        state = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, [{"iox::database": name} for name in state.databases])

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                is_new = body["db"] not in state.databases
                state.databases.setdefault(body["db"], body.get("retention_period"))
                self.answer(200 if is_new else 409, None)

            def answer(self, status: int, found: Any) -> None:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, found = 401, {"error": "the request was not authenticated"}
                elif urlsplit(self.path).path != PATH:
                    status, found = 404, None
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server3() -> Iterator[FakeInfluxdb3]:
    state = FakeInfluxdb3()
    thread = threading.Thread(target=state.server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    state.server.shutdown()
    thread.join()
    state.server.server_close()


@pytest.mark.parametrize(("version", "kind"), [(1, Influxdb1Part), (2, Influxdb2Part), (3, Influxdb3Part)])
def test_the_version_chooses_the_part(version: int, kind: type, tmp_path: Path) -> None:
    part = access.make_part(configuration(version, "http://127.0.0.1:9", tmp_path))
    assert isinstance(part, kind)
    part.close()


def test_databases_of_3_are_made_once_and_what_it_cannot_do_is_said(server3: FakeInfluxdb3, tmp_path: Path) -> None:
    part = Influxdb3Part(configuration(3, server3.url, tmp_path))
    changes = part.changes()
    assert [change.name for change in changes] == ["swapline/raw", "swapline/minute", "swapline/forever"]
    for change in changes:
        change.do()
    assert part.changes() == []
    assert server3.databases == {
        "_internal": None,
        "swapline/raw": "30d",
        "swapline/minute": "731d",
        "swapline/forever": None,
    }
    assert any("swapline cloud rollup --follow" in line for line in part.warnings())
    with pytest.raises(ConfigurationError, match="influxdb3 create token"):
        part.rotate("gateway")
    part.close()


def test_3_that_refuses_the_token_says_so(server3: FakeInfluxdb3, tmp_path: Path) -> None:
    part = Influxdb3Part(configuration(3, server3.url, tmp_path, token="guessed"))  # noqa: S106
    with pytest.raises(AccessError, match=r"refuses database\.token"):
        part.changes()
    part.close()


def test_files_for_people_have_everything_and_no_secret(tmp_path: Path) -> None:
    config = configuration(1, "http://127.0.0.1:9", tmp_path, username="root", password="geheim", database="fleet")  # noqa: S106
    files = access.render_files(config)
    assert {path.split("/")[0] for path in files} == {"influxdb1", "influxdb2", "influxdb3"}
    setup = files["influxdb1/setup.influxql"]
    for text in continuous.statements("fleet").values():
        assert f"{text};\n" in setup
    for right, role in (("READ", "reader"), ("WRITE", "gateway"), ("READ", "grafana")):
        assert f'GRANT {right} ON "fleet" TO "swapline_{role}";' in setup
        (line,) = [one for one in files["influxdb2/setup.sh"].splitlines() if f'"swapline {role}"' in one]
        assert line.count(f"--{right.lower()}-bucket ") == line.count("-bucket ") == 3
    for name, text in flux.scripts("swapline", "fleet").items():
        assert files[f"influxdb2/tasks/{name.removeprefix('swapline.')}.flux"] == text
    assert "fleet_forever" in files["influxdb2/setup.sh"]
    assert "fleet/minute" in files["influxdb3/setup.sh"]
    together = "".join(files.values())
    assert TOKEN not in together
    assert "geheim" not in together


def test_the_file_for_influxdb_1_sets_up_what_apply_wants(require: Callable[[str], Path], tmp_path: Path) -> None:
    require("influxd")
    with services.influxd() as server:
        config = configuration(1, server.url, tmp_path)
        answer = json.loads(server.execute(access.render_files(config)["influxdb1/setup.influxql"]))
        assert [result for result in answer["results"] if "error" in result] == []
        for role in secret.ROLES:
            secret.SecretFiles(tmp_path).write(f"{role}.password", "PASSWORD")
        part = Influxdb1Part(config)
        assert part.changes() == []
        assert "lets in everybody" in part.warnings()[0]
        part.close()


def test_rendering_twice_gives_the_same(tmp_path: Path) -> None:
    config = configuration(2, "http://127.0.0.1:9", tmp_path)
    assert access.render_files(config) == access.render_files(config)


def test_credentials_are_none_before_anybody_made_them(tmp_path: Path) -> None:
    assert access.credentials(configuration(1, "http://127.0.0.1:9", tmp_path), "grafana") is None
    secret.SecretFiles(tmp_path).write("grafana.password", "word")
    found = access.credentials(configuration(1, "http://127.0.0.1:9", tmp_path), "grafana")
    assert found == ("swapline_grafana", "word")


def test_a_secret_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    files = secret.SecretFiles(tmp_path / "a" / "b")
    files.write("gateway.token", "first")
    files.write("gateway.token", "second")
    assert files.read("gateway.token") == "second"
    assert [file.name for file in files.path.iterdir()] == ["gateway.token"]
    assert stat.S_IMODE(files.file("gateway.token").stat().st_mode) == 0o600
    files.file("gateway.token").write_text("\n")
    with pytest.raises(StorageError, match="is empty"):
        files.read("gateway.token")
    blocked = secret.SecretFiles(tmp_path / "a" / "b" / "gateway.token")
    with pytest.raises(StorageError, match="cannot be written"):
        blocked.write("x", "y")


def test_script_for_2x_takes_the_bucket_that_the_servers_set_up_made(tmp_path: Path) -> None:
    """Run the script with an `influx` that knows the bucket `swapline` and notes what is asked of it."""
    script = access.render_files(configuration(2, "http://127.0.0.1:8086", tmp_path))["influxdb2/setup.sh"]
    (tmp_path / "setup.sh").write_text(script)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "one.flux").write_text("")
    (tmp_path / "influx").write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
case "$*" in
  *"bucket list"*"--name swapline "*) echo "0123	swapline";;
  *"bucket list"*) grep -q "bucket create.* $6 " {tmp_path}/asked && echo "4567	$6" || exit 1;;
esac
"""
    )
    (tmp_path / "influx").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", str(tmp_path / "setup.sh")], env=environment, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    done = [line for line in asked if "bucket list" not in line]
    assert done[0] == "bucket update --id 0123 --retention 30d --shard-group-duration 1d"
    assert [line.split()[5] for line in done if "bucket create" in line] == ["swapline_minute", "swapline_forever"]
    assert [line.split()[-2] for line in done if "dbrp create" in line] == ["0123", "4567", "4567"]
    assert sum(line.startswith("auth create") for line in done) == 3
