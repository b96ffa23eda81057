"""What `apply` does to a database, as files for people who do it by hand. No secret is in them."""

import shlex

from swapline_cloud.config import CloudConfig
from swapline_gateway.influxql import identifier

from . import continuous, flux, secret
from .part1 import USERS, grant_statement, policy_statement, terms
from .part2 import ACTIONS, DESCRIPTIONS
from .policy import POLICIES


def files(config: CloudConfig) -> dict[str, str]:
    """Return the files by path, for all versions of InfluxDB."""
    tasks = flux.scripts(config.database.organisation, config.database.database)
    return {
        "influxdb1/setup.influxql": _setup1(config),
        **{f"influxdb2/tasks/{name.removeprefix(continuous.OWN)}.flux": text for name, text in tasks.items()},
        "influxdb2/setup.sh": _setup2(config),
        "influxdb3/setup.sh": _setup3(config),
    }


def _setup1(config: CloudConfig) -> str:
    database = config.database.database
    lines = [
        "-- InfluxDB 1.x: curl -u ADMINISTRATOR --data-urlencode q@setup.influxql http://127.0.0.1:8086/query",
        "-- Put passwords where PASSWORD stands, and set auth-enabled = true in [http] of influxdb.conf.",
        f"CREATE DATABASE {identifier(database)} WITH {terms(POLICIES[0])};",
        *(f"{policy_statement('CREATE', database, policy)};" for policy in POLICIES[1:]),
    ]
    for role in secret.ROLES:
        lines.append(f"CREATE USER {identifier(USERS[role])} WITH PASSWORD 'PASSWORD';")
        lines.append(f"{grant_statement(config.database, role)};")
    lines += [f"{text};" for text in continuous.statements(database).values()]
    return "\n".join(lines) + "\n"


def _setup2(config: CloudConfig) -> str:
    database, organisation = config.database.database, config.database.organisation
    buckets = [policy.bucket(database) for policy in POLICIES]
    lines = [
        "#!/bin/sh",
        "# InfluxDB 2.x, by its own tool `influx`, which must be set up as an operator's (influx config create).",
        "# Not tried against a live one.",
        "set -eu",
        'cd "$(dirname "$0")"',
        f"org={shlex.quote(organisation)}",
        f"database={shlex.quote(database)}",
        'bucket_id() { influx bucket list --org "$org" --name "$1" --hide-headers | cut -f 1; }',
        # The set-up of a server has made one, often of this very name; so `create` alone would end the script.
        "keep_bucket() {",
        '  id=$(bucket_id "$1" 2>/dev/null)',
        '  if [ -n "$id" ]; then influx bucket update --id "$id" --retention "$2" --shard-group-duration "$3"',
        '  else influx bucket create --org "$org" --name "$1" --retention "$2" --shard-group-duration "$3"; fi',
        "}",
        'map() { influx v1 dbrp create --org "$org" --db "$database" --rp "$1" --bucket-id "$(bucket_id "$2")" $3; }',
    ]
    for policy, bucket in zip(POLICIES, buckets, strict=True):
        lines.append(f"keep_bucket {bucket} {policy.days or 0}d {policy.shard_days}d")
        lines.append(f"map {policy.name} {bucket} {'--default' if policy.is_default else '--default=false'}")
    lines += [
        'for task in tasks/*.flux; do influx task create --org "$org" --file "$task"; done',
        "# Each prints its token once: keep it where only the gateway (gateway, reader), or only Grafana, reads it.",
    ]
    for role in secret.ROLES:
        may = " ".join(f'--{ACTIONS[role]}-bucket "$(bucket_id {bucket})"' for bucket in buckets)
        lines.append(f'influx auth create --org "$org" --description "{DESCRIPTIONS[role]}" {may}')
    return "\n".join(lines) + "\n"


def _setup3(config: CloudConfig) -> str:
    lines = [
        "#!/bin/sh",
        "# InfluxDB 3.x, by its own tool; INFLUXDB3_AUTH_TOKEN is an administrator's. Not tried against a live one.",
        "# Roll-ups are made by `swapline cloud rollup --follow`: 3.x has no tasks.",
        "set -eu",
    ]
    for policy in POLICIES:
        period = "" if policy.days is None else f" --retention-period {policy.days}d"
        lines.append(f"influxdb3 create database{period} {config.database.database}/{policy.name}")
    return "\n".join(lines) + "\n"
