"""`swapline cloud secrets` and `swapline cloud node`: what one host needs before anything on it starts."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from swapline_cloud.authority import SERVER, Authority, days_left, hosts_of, openssl
from swapline_cloud.command import host
from swapline_gateway.cli import Commands
from swapline_gateway.error import EXIT_CONFIGURATION, EXIT_STORAGE
from tests.cloud.host import HOSTS, VAN, make_secrets


@click.group(cls=Commands)
def cloud() -> None:
    """Have the commands of `swapline cloud` that are tried here, with its way to end."""


host.register(cloud)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cloud, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return every file with mode, group, time of change and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (state.st_mode, state.st_gid, state.st_ctime_ns, content)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the secrets of a host with two nodes. Nobody may change them."""
    return make_secrets(tmp_path_factory.mktemp("host") / "secrets")


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """Return secrets that a test may change."""
    return shutil.copytree(made, tmp_path / "secrets")


def test_first_start_makes_everything_and_the_second_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    code, output = run("secrets", "--out", folder, "--host", "fleet.example")
    assert code == 0
    assert "made     " in output
    before = snapshot(folder)
    assert run("secrets", "--out", folder, "--host", "fleet.example") == (0, f"complete {folder}\n")
    assert snapshot(folder) == before


def test_what_is_missing_is_made_and_the_rest_stays(own: Path) -> None:
    before = snapshot(own)
    (own / "grafana" / "admin_password").unlink()
    code, output = run("secrets", "--out", own)
    assert (code, output) == (0, f"made     {own}/grafana/admin_password\n")
    after = snapshot(own)
    changed = {path for path in after if after[path][3] != before[path][3]}
    assert changed == {"grafana/admin_password"}


def test_passwords_and_keys_are_random_long_and_of_no_use_to_others(made: Path) -> None:
    words = [made / "database/admin_password", made / "database/admin_token", made / "grafana/admin_password"]
    texts = {path.read_text() for path in words}
    assert len(texts) == 3
    assert all(len(text) == 48 for text in texts)
    private = [*words, *made.rglob("*.key"), *made.rglob("*.key.der")]
    assert len(private) == 3 + 5 + 2 * 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert {stat.S_IMODE((made / part).stat().st_mode) for part in ("authority", "broker", "apply")} == {0o700}


def test_reader_may_read_its_part_and_change_nothing(own: Path) -> None:
    group = os.getgroups()[-1] if os.getgroups() else os.getgid()  # any other one only root can give
    code, _ = run("secrets", "--out", own, "--reader", f"broker={group}", "--reader", f"apply={group}")
    assert code == 0
    for path in (own / "broker").iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), group)
        assert stat.S_IMODE(path.stat().st_mode) in (0o640, 0o644)
    assert stat.S_IMODE((own / "broker").stat().st_mode) == 0o750
    assert stat.S_IMODE((own / "apply").stat().st_mode) == 0o770
    assert stat.S_IMODE((own / "database" / "admin_token").stat().st_mode) == 0o600


def test_certificates_are_for_their_hosts_and_their_use_only(made: Path) -> None:
    assert set(HOSTS) < set(hosts_of(made / "broker" / "server.crt"))
    authority = str(made / "authority" / "ca.crt")
    for purpose, certificate in (
        ("sslserver", made / "broker/server.crt"),
        ("sslserver", made / "grafana/server.crt"),
        ("sslclient", made / "gateway/client.crt"),
        ("sslclient", made / "node" / VAN / "client.crt"),
    ):
        openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority, str(certificate))
    wrong = [
        "openssl",
        "verify",
        "-purpose",
        "sslserver",
        "-CAfile",
        authority,
        str(made / "node" / VAN / "client.crt"),
    ]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode != 0


def test_authority_outlives_its_nodes_and_those_what_is_renewed_on_the_host(made: Path) -> None:
    authority, node, server = (
        days_left(path)
        for path in (made / "authority/ca.crt", made / "node" / VAN / "client.crt", made / "broker/server.crt")
    )
    assert authority > node + 3000 > server + 5000


def test_renewal_signs_only_what_ends_and_keeps_keys_and_names(own: Path) -> None:
    Authority(own / "authority").sign(own / "broker", "broker", SERVER, 20, ["localhost", "old.example"])
    before = snapshot(own)
    code, output = run("secrets", "--out", own)
    assert code == 0
    assert f"{own}/broker/server.crt in 20 days" in output
    assert snapshot(own) == before  # it only says so
    code, output = run("secrets", "--out", own, "--renew", "30")
    assert (code, output) == (0, f"renewed  {own}/broker/server.crt: restart what uses it\n")
    assert days_left(own / "broker" / "server.crt") > 700
    assert hosts_of(own / "broker" / "server.crt") == ["localhost", "old.example"]
    after = snapshot(own)
    assert {path for path in after if after[path][3] != before[path][3]} == {"broker/server.crt"}


def test_new_name_of_the_host_comes_into_the_servers_certificates_once(own: Path) -> None:
    code, output = run("secrets", "--out", own, "--renew", "30", "--host", "NEW.example", "--host", "fd00:0::1")
    assert code == 0
    assert output.count("renewed") == 2
    assert set(hosts_of(own / "grafana" / "server.crt")) > {*HOSTS, "new.example"}
    again = run("secrets", "--out", own, "--renew", "30", "--host", "new.example")
    assert again == (0, f"complete {own}\n")


def test_lost_key_of_the_authority_is_not_replaced_in_silence(own: Path) -> None:
    shutil.rmtree(own / "authority")
    code, output = run("secrets", "--out", own)
    assert code == EXIT_STORAGE
    assert "put authority/ back from its backup" in output
    assert not (own / "authority").exists()


@pytest.mark.parametrize("arguments", [("secrets",), ("node", "demo/van-009")])
def test_who_may_not_see_the_authority_is_told_to_be_its_owner(
    arguments: Sequence[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.stat

    def guarded(path: Any, **options: Any) -> os.stat_result:
        if Path(os.fspath(path)).parent == own / "authority":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, **options)

    monkeypatch.setattr(os, "stat", guarded)  # tests may run as root, who sees everything
    code, output = run(*arguments, "--out", own)
    monkeypatch.undo()
    assert code == EXIT_STORAGE
    assert output.endswith(f"is not for us to see: run this as the owner of {own}.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("secrets", "--host", "a b"), "'a b' is no name or address of a server."),
        (("secrets", "--host", "a,DNS:evil.example"), "is no name or address of a server."),
        (("secrets", "--reader", "broker"), "allowed is PART=GROUP"),
        (("secrets", "--reader", "broker=nobody-has-this"), "There is no group 'nobody-has-this'"),
        (("secrets", "--reader", "door=0"), "'door' is none of apply, broker, database, gateway, grafana."),
        (("node", "van-001"), "'van-001' is not a fleet and a node"),
        (("node", "demo/+"), "'demo/+' is not a fleet and a node"),
        (("node", "demo/../x"), "is not a fleet and a node"),
        (("node", "demo/van-001"), "has no authority yet: `swapline cloud secrets` makes it."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments: Sequence[str], sentence: str, tmp_path: Path) -> None:
    code, output = run(*arguments, "--out", tmp_path / "secrets")
    assert code == EXIT_CONFIGURATION
    assert sentence in output


def test_node_gets_the_same_certificate_again_and_as_a_board_reads_it(own: Path) -> None:
    before = snapshot(own)
    code, output = run("node", VAN, "--out", own)
    assert code == 0
    assert str(own / "node" / VAN) in output
    after = snapshot(own)
    assert {path for path in after if after[path][3] != before[path][3]} == set()
    der = openssl("x509", "-inform", "DER", "-in", str(own / "node" / VAN / "client.der"), "-noout", "-subject")
    assert der.decode().strip() == f"subject=CN = {VAN}"
