from pathlib import Path

import pytest

from swapline_gateway import config as configuration
from swapline_gateway.error import EXIT_CONFIGURATION, ConfigurationError


def load(folder: Path, text: str) -> configuration.GatewayConfig:
    path = folder / "gateway.toml"
    path.write_text(text)
    return configuration.load(path)


def test_empty_file_gives_the_embedded_database_and_no_pages(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert isinstance(config.sink, configuration.DuckdbConfig)
    assert config.sink.path == tmp_path / "swapline.duckdb"
    assert config.http is None
    assert config.mqtt.fleet == "+"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("[mqtt]\nprot = 1", ["mqtt.prot: unknown key", "did you mean 'port'?"]),
        ("[mqtt]\nport = 70000", ["mqtt.port: 70000 is not allowed", "less than or equal to 65535"]),
        ("[mqtt]\nport = 'x'", ["mqtt.port: 'x' is not allowed", "valid integer"]),
        ("[sink]\ntype = 'influx'", ["sink.type: 'influx' is not allowed", "'duckdb', 'influxdb1', 'influxdb2'"]),
        ("[sink]\ntype = 'influxdb1'", ["sink.url: is missing"]),
        ("[sink]\npth = 'x'", ["sink.pth: unknown key", "did you mean 'path'?"]),
        (
            "[sink]\ntype = 'influxdb2'\nurl = 'http://x'\ntokn = ''",
            ["sink.tokn: unknown key", "did you mean 'token'?"],
        ),
        ("[mqtt.tls]\ncertificat = 'x'", ["mqtt.tls.certificat: unknown key", "did you mean 'certificate'?"]),
        ("[spol]\npath = 'x'", ["spol: unknown key", "did you mean 'spool'?"]),
        ("sink = 3", ["sink: 3 is not allowed", "[sink]"]),
        ("[mqtt]\nfleet = 'a/b'", ["mqtt.fleet: 'a/b' is not allowed", "'+' for all fleets"]),
        ("[mqtt]\nclient_id = ''", ["mqtt.client_id: '' is not allowed", "at least 1 character"]),
        ("[sink]\ntype = 'influxdb1'\nurl = 'localhost:8086'", ["sink.url: 'localhost:8086' is", "http://host:port"]),
        ("[sink]\ntype = 'influxdb2'\nurl = 'ftp://x'", ["sink.url: 'ftp://x' is not allowed", "http://host:port"]),
        ("[sink]\ntype = 'influxdb2'\nurl = 'http://x:99999'", ["sink.url: 'http://x:99999' is not allowed"]),
        ("[sink]\ntype = 'influxdb1'\nurl = 'http://x'\ndatabase = 'a\"b'", ["sink.database: 'a\"b' is not allowed"]),
        ("[mqtt", ["is not TOML"]),
    ],
)
def test_wrong_file_is_explained_by_file_key_value_and_what_is_allowed(
    tmp_path: Path, text: str, sentences: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == EXIT_CONFIGURATION
    for sentence in [str(tmp_path / "gateway.toml"), *sentences]:
        assert sentence in str(caught.value)


def test_every_mistake_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "[mqtt]\nprot = 1\nport = 0\n[log]\nlevel = 'loud'")
    assert len(str(caught.value).splitlines()) == 3


def test_secrets_show_neither_in_errors_nor_in_text(tmp_path: Path) -> None:
    config = load(
        tmp_path, "[mqtt]\npassword = 'sesame'\n[sink]\ntype = 'influxdb2'\nurl = 'http://x'\ntoken = 'sesame'"
    )
    assert "sesame" not in repr(config)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "[sink]\ntype = 'influxdb2'\nurl = 'http://x'\ntoken = ['sesame']")
    assert "sesame" not in str(caught.value)


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        configuration.load(tmp_path / "none.toml")
