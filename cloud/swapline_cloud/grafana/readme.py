"""The README of rendered files: where each goes."""

from collections.abc import Sequence

from swapline_cloud.config import CloudConfig

from .provisioning import BOARD_PATH, BOARDS, PROVISIONING, variables

_DATABASES = {1: "influxdb1/", 2: "influxdb2/", 3: "influxdb3/"}

_TEXT = """\
# Made by `swapline cloud render`

{count} files, {boards} of them boards. Change `cloud.toml` and render again; what is changed here is lost with the next
render. Two ways lead to the same Grafana, and one Grafana takes one of them: `swapline cloud apply`, after which people
may edit what was made and `apply --check` finds it, or these files, which Grafana shows as provisioned and nobody can
edit there.

## Grafana

| what | goes to |
|---|---|
| `{provisioning}/` | `/etc/grafana/provisioning/` (its folders beside what is there) |
| `{board_folder}/` | `{board_path}/` |

Grafana reads them at its start. Its environment needs, with the values of your folder of secrets:

{variables}

- `alerting/policies.yaml` **replaces the whole notification policy** of the organisation, if it has any: leave the file
  out where other alerts have their routes there, and add its route by hand.
- Alert rules stand in the folder "swapline alerts".
- Teams and rights of the folder have no provisioning files: make them by hand, or with `apply`.

## Database

`{database}` is for the InfluxDB of version {version} that the configuration names; the other folders are for the
others. `influxdb1/setup.influxql` are statements for its tool `influx`; `setup.sh` in the others asks their own tools.
"""


def text(config: CloudConfig, names: Sequence[str]) -> str:
    """Return the README of these files."""
    return _TEXT.format(
        count=len(names),
        boards=sum(name.startswith(f"{BOARDS}/") for name in names),
        provisioning=PROVISIONING,
        board_folder=BOARDS,
        board_path=BOARD_PATH,
        variables="\n".join(f"- `{name}`: {what}" for name, what in variables(config).items()),
        database=_DATABASES[config.database.version],
        version=config.database.version,
    )
