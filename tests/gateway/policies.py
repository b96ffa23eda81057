"""A database of InfluxDB 1.x with a policy for what is kept for ever, as `swapline cloud apply` makes it."""

from swapline_bench import services
from swapline_gateway.config import Influxdb1Config


def with_policies(
    server: services.InfluxServer, config: Influxdb1Config, *, raw: str = "INF", forever: str = "forever"
) -> Influxdb1Config:
    """Make the database with its policies; return the configuration of a sink that knows of them.

    `raw` is how long rows are kept as they came: tests write rows of any year.
    """
    server.execute(f'CREATE DATABASE "{config.database}" WITH DURATION {raw} REPLICATION 1 NAME "raw"')
    server.execute(f'CREATE RETENTION POLICY "{forever}" ON "{config.database}" DURATION INF REPLICATION 1')
    return config.model_copy(update={"forever": forever})
