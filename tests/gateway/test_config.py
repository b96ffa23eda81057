from pathlib import Path

import pytest
import urllib3

from swapline_gateway import config as configuration
from swapline_gateway.error import EXIT_CONFIGURATION, ConfigurationError
from swapline_gateway.influxql import reading_headers


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
        (
            "[sink]\ntype = 'influxdb1'\nurl = 'http://x'\n[sink.reader]\nusrname = 'x'",
            ["sink.reader.usrname: unknown key", "did you mean 'username'?", "database, policy)"],
        ),
        (
            "[sink]\ntype = 'influxdb2'\nurl = 'http://x'\n[sink.reader]\nusername = 'x'",
            ["sink.reader.username: unknown key", "(known here: token, database, policy)"],
        ),
        (
            "[sink]\ntype = 'influxdb1'\nurl = 'http://x'\n[sink.reader]\npassword = 'geheim'",
            ["sink.reader.password: *** is not allowed; it goes with a username of its own"],
        ),
        (
            "[sink]\ntype = 'influxdb2'\nurl = 'http://x'\n[sink.reader]\npolicy = 'a\"b'",
            ["sink.reader.policy: 'a\"b' is not allowed"],
        ),
        ("[sink]\n[sink.reader]\ntoken = 'x'", ["sink.reader: unknown key"]),
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


def test_reader_of_a_database_has_credentials_of_its_own_or_the_sinks(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("geheim\n")
    section = "[sink]\ntype = 'influxdb1'\nurl = 'http://x'\nusername = 'w'\npassword = 'p'\n"
    reader = "[sink.reader]\nusername = 'r'\npassword_file = 'word'\n"
    sink = load(tmp_path, section + reader).sink
    assert isinstance(sink, configuration.Influxdb1Config)
    assert reading_headers(sink) == urllib3.make_headers(basic_auth="r:geheim")
    assert "geheim" not in repr(sink)
    for rest in ("", "[sink.reader]\npolicy = 'raw'\n"):
        sink = load(tmp_path, section + rest).sink
        assert isinstance(sink, configuration.Influxdb1Config)
        assert reading_headers(sink) == urllib3.make_headers(basic_auth="w:p")
    section = "[sink]\ntype = 'influxdb2'\nurl = 'http://x'\ntoken = 'w'\n"
    for rest, token in (("", "w"), ("[sink.reader]\ndatabase = 'd'\n", "w"), ("[sink.reader]\ntoken = 'r'\n", "r")):
        sink2 = load(tmp_path, section + rest).sink
        assert isinstance(sink2, configuration.Influxdb2Config)
        assert reading_headers(sink2) == {"Authorization": f"Token {token}"}
