"""The demo's MQTT broker: mosquitto where it is installed, else amqtt from PyPI."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from swapline_bench import services
from swapline_bench.services import HOST, MQTT_CONNECT, MissingBinaryError, Server, find_binary

AUTO, MOSQUITTO, AMQTT = "auto", "mosquitto", "amqtt"
KINDS = (AUTO, MOSQUITTO, AMQTT)
AUTOSAVE_S = 10
_AMQTT_CONF = """
listeners:
  default:
    type: tcp
    bind: {host}:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def has_mosquitto() -> bool:
    """Say whether mosquitto is installed."""
    try:
        find_binary(MOSQUITTO, MOSQUITTO)
    except MissingBinaryError:
        return False
    return True


def choose(kind: str) -> str:
    """Return which broker to run for `kind`. Raises `MissingBinaryError` if it is not installed."""
    if kind == MOSQUITTO or (kind == AUTO and has_mosquitto()):
        if not has_mosquitto():
            raise MissingBinaryError("mosquitto is not installed: apt-get install mosquitto, or use --broker amqtt.")
        return MOSQUITTO
    if importlib.util.find_spec("amqtt") is None:
        raise MissingBinaryError("No broker: apt-get install mosquitto, or pip install 'swapline[bench]' for amqtt.")
    return AMQTT


def make(folder: Path, kind: str = AUTO, *, on_line: Callable[[str], None] | None = None) -> Server:
    """Prepare a broker with its files in `folder`; its name is the kind. Raises `MissingBinaryError`."""
    name = choose(kind)
    folder.mkdir(parents=True, exist_ok=True)
    if name == MOSQUITTO:
        return services.mosquitto(folder, services.lasting(folder, autosave_s=AUTOSAVE_S), on_line=on_line)
    bound = r"Listener 'default' bind to"
    return Server(name, folder, _amqtt, bound, chooses_port=False, greeting=MQTT_CONNECT, on_line=on_line)


def _amqtt(folder: Path, port: int) -> Sequence[str]:
    path = folder / "amqtt.yaml"
    path.write_text(_AMQTT_CONF.format(host=HOST, port=port), encoding="utf-8")
    return (sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(path))
