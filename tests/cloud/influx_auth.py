"""An influxd that asks for user and password, as an operator's does."""

from collections.abc import Sequence
from pathlib import Path

from swapline_bench import services
from swapline_bench.services import HOST, InfluxServer


def influxd_with_users(folder: Path | None = None, *, settings: Sequence[str] = ()) -> InfluxServer:
    """Prepare an InfluxDB 1.x with `auth-enabled`; nobody is its administrator yet. `settings`: further lines."""
    binary = services.find_binary("influxd", "influxdb")

    def command(home: Path, port: int) -> Sequence[str]:
        config = home / "influxdb.conf"
        config.write_text(
            f"""reporting-disabled = true
bind-address = "{HOST}:0"
[meta]
  dir = "{home}/meta"
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "{HOST}:{port}"
  log-enabled = false
  auth-enabled = true
"""
            + "\n".join(settings)
        )
        return (str(binary), "-config", str(config))

    return InfluxServer("influxd", folder, command, rf"Listening on HTTP.*{HOST}:(?P<port>\d+)", chooses_port=True)
