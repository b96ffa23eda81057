"""Secrets that the configuration names by their files."""

from pathlib import Path

import pytest

from swapline_gateway import config as configuration
from swapline_gateway.config import Influxdb2Config
from swapline_gateway.error import ConfigurationError

SINK = '[sink]\ntype = "influxdb2"\nurl = "http://database:8086"\n'


def load(folder: Path, text: str) -> configuration.GatewayConfig:
    path = folder / "gateway.toml"
    path.write_text(text)
    return configuration.load(path)


def test_token_is_read_from_the_file_beside_the_configuration_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc==\n")
    sink = load(tmp_path, SINK + 'token_file = "token"').sink
    assert isinstance(sink, Influxdb2Config)
    assert sink.token.get_secret_value() == "abc=="


def test_password_is_read_from_an_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    password = load(tmp_path, f'[mqtt]\nusername = "gateway"\npassword_file = "{tmp_path}/password"').mqtt.password
    assert password is not None
    assert password.get_secret_value() == "secret"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SINK + 'token_file = "absent"', "token_file: {folder}/absent cannot be read: No such file or directory."),
        (SINK + 'token_file = "empty"', "token_file: {folder}/empty is empty."),
        (SINK + 'token_file = "bytes"', "token_file: {folder}/bytes cannot be read: is not text."),
        (SINK + 'token_file = "full"\ntoken = "abc"', "token_file: token is there as well"),
        (SINK + "token_file = 3", "sink.token_file: unknown key"),
        ('[spool]\npassword_file = "full"', "spool.password: unknown key"),
        ('[mqtt.tls]\nkey_file = "full"', "mqtt.tls.key_file: unknown key"),
    ],
)
def test_file_that_cannot_be_the_secret_is_named_and_the_secret_is_not(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "full").write_text("hush-hush")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert sentence.format(folder=tmp_path) in str(caught.value)
    assert "hush-hush" not in str(caught.value)
