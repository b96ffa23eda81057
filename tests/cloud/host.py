"""The servers of one host as cloud/ sets them up: their very files, only paths and ports are others."""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import aiomqtt

from swapline_bench import services
from swapline_cloud.secret_folder import SecretFolder

CLOUD = Path(__file__).parents[2] / "cloud"
SECRETS = "/etc/swapline/secrets"
HOSTS = ("fleet.example", "10.1.2.3", "fd00::1")
HEARD_S_MAX = 10.0
VAN, OTHER = "demo/van-001", "other/van-001"


def make_secrets(folder: Path) -> Path:
    """Make the secrets of a host with two nodes, and return where they are."""
    SecretFolder(folder).make(HOSTS)
    for name in (VAN, OTHER):
        SecretFolder(folder).make_node(name)
    return folder


class Broker(services.Server):
    """Mosquitto with the files that the container and Debian's service get, on a port of its own."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        secrets: Path,
        on_line: Callable[[str], None] | None = None,
        *,
        access: str = "",
    ) -> None:
        self._program, self.secrets = program, secrets
        self._access = access  # what somebody wrote below the access list
        running = r"mosquitto version \S+ running"
        super().__init__("mosquitto", folder, self._write, running, chooses_port=False, on_line=on_line)

    def _write(self, folder: Path, port: int) -> Sequence[str]:
        parts = folder / "conf.d"
        parts.mkdir(exist_ok=True)
        data = folder / "data"
        data.mkdir(exist_ok=True)
        access = (CLOUD / "mosquitto" / "swapline.acl").read_text()
        (folder / "swapline.acl").write_text(access + self._access)
        text = (CLOUD / "mosquitto" / "swapline.conf").read_text()
        text = text.replace("listener 8883", f"listener {port} {services.HOST}").replace(SECRETS, str(self.secrets))
        (parts / "swapline.conf").write_text(text.replace("/etc/mosquitto/", f"{folder}/"))
        text = (CLOUD / "docker" / "mosquitto.conf").read_text()
        text = text.replace("/etc/mosquitto/", f"{folder}/").replace("/mosquitto/data/", f"{data}/")
        config = folder / "mosquitto.conf"
        config.write_text("user root\n" + text)  # of a root's test; else it could not read the temporary folder
        return (str(self._program), "-c", str(config))

    def client(self, part: str) -> aiomqtt.Client:
        """Return a client that shows the certificate in a folder of the secrets."""
        folder = self.secrets / part
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
        return aiomqtt.Client(services.HOST, self.port, tls_context=context, timeout=HEARD_S_MAX)


class Influx(services.InfluxServer):
    """InfluxDB with the configuration that Debian's service gets, on ports and folders of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        ready = rf"Listening on HTTP.*{services.HOST}:(?P<port>\d+)"
        self._program = program
        super().__init__("influxd", folder, self._write, ready, chooses_port=True)

    def _write(self, folder: Path, port: int) -> Sequence[str]:
        text = (CLOUD / "systemd" / "influxdb.conf").read_text().replace("/var/lib/influxdb", str(folder))
        text = text.replace(f"{services.HOST}:8086", f"{services.HOST}:{port}").replace(":8088", ":0")
        config = folder / "influxdb.conf"
        config.write_text(text)
        return (str(self._program), "-config", str(config))
