"""Rows of the database that `swapline cloud` sets up: as whom they are asked for, and how each policy is written to."""

from typing import Any

from swapline_cloud.config import DatabaseConfig
from swapline_cloud.rollup import FOREVER, RAW
from swapline_gateway.config import Influxdb1Config, Influxdb2Config, Influxdb2Reader
from swapline_gateway.sinks.influxdb1 import Influxdb1Sink
from swapline_gateway.sinks.influxdb2 import Influxdb2Sink

from .policy import POLICIES


def asking(config: DatabaseConfig) -> Influxdb1Config | Influxdb2Config:
    """Return the gateway's settings of a database, under which it is asked and written to, as who may set it up."""
    raw: dict[str, Any] = {"url": config.url, "timeout_s": config.timeout_s}
    if config.version == 1:
        raw |= {"username": config.username, "password": config.password, "database": config.database}
        return Influxdb1Config(type="influxdb1", **raw)
    raw |= {"org": config.organisation, "bucket": config.database}
    raw |= {} if config.token is None else {"token": config.token}
    raw |= {"reader": Influxdb2Reader(policy=RAW)} if config.version == 3 else {}
    return Influxdb2Config(type="influxdb2", **raw)


def asking_forever(config: DatabaseConfig) -> Influxdb1Config | Influxdb2Config:
    """Return the same, with the policy of what is kept for ever: then questions find events and alarms there."""
    found = asking(config)
    key = "forever" if isinstance(found, Influxdb1Config) else "forever_bucket"
    return found.model_copy(update={key: FOREVER})


def make_sink(config: DatabaseConfig) -> tuple[Influxdb1Sink | Influxdb2Sink, dict[str, str]]:
    """Return what writes, and how it calls each policy."""
    found = asking(config)
    names = [policy.name for policy in POLICIES]
    if isinstance(found, Influxdb1Config):
        return Influxdb1Sink(found), {name: name for name in names}
    if config.version == 3:
        return Influxdb2Sink(found), {name: f"{config.database}/{name}" for name in names}
    return Influxdb2Sink(found), {policy.name: policy.bucket(config.database) for policy in POLICIES}
