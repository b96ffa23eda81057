"""`swapline check`: is everything that a gateway needs all right, and if not, what to do. Changes nothing."""

import asyncio
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import aiomqtt
import click

from swapline_gateway import config as configuration
from swapline_gateway.config import DuckdbConfig, GatewayConfig
from swapline_gateway.error import EXIT_PROBLEM, GatewayError
from swapline_gateway.finding import Finding
from swapline_gateway.spool_file import SQLITE_ERRORS
from swapline_gateway.uplink import backlog_filters, explain, live_filters, make_client, subscribe

FREE_SHARE_MIN = 0.05  # of the disk; below it a spool has nowhere to grow


@click.command()
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), required=True, help="The gateway's TOML file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding.")
@click.pass_context
def check(context: click.Context, config_path: Path, *, as_json: bool) -> None:
    """Look at configuration, broker, database, spool and port; say what to do about each problem."""
    config = configuration.load(config_path)
    is_all_ok = True
    for finding in _findings(config, config_path):
        is_all_ok = is_all_ok and finding.is_ok
        click.echo(json.dumps(asdict(finding)) if as_json else _for_people(finding))
    if not is_all_ok:
        context.exit(EXIT_PROBLEM)


def _for_people(finding: Finding) -> str:
    mark = click.style("ok     ", fg="green") if finding.is_ok else click.style("problem", fg="red")
    advice = f"\n        {'':<14} -> {finding.advice}" if finding.advice else ""
    return f"{mark} {finding.part:<14} {finding.text}{advice}"


def _findings(config: GatewayConfig, config_path: Path) -> Iterator[Finding]:
    yield Finding("configuration", is_ok=True, text=str(config_path))
    yield _broker(config)
    yield _spool(config)
    yield from _database(config)
    yield _http(config)


def _broker(config: GatewayConfig) -> Finding:
    try:
        asyncio.run(_connect(config))
    except (GatewayError, aiomqtt.MqttError, OSError, ValueError) as error:
        problem = error if isinstance(error, GatewayError) else explain(config.mqtt, error)
        return Finding("broker", is_ok=False, text=str(problem), advice="see [mqtt] of the configuration")
    return Finding("broker", is_ok=True, text=f"{config.mqtt.host}:{config.mqtt.port} takes us and our subscriptions")


async def _connect(config: GatewayConfig) -> None:
    alone = config.mqtt.model_copy(update={"client_id": None})  # the name belongs to the running gateway
    async with make_client(alone) as client:
        await subscribe(client, live_filters(alone) + backlog_filters(alone))


def _spool(config: GatewayConfig) -> Finding:
    path = config.spool.path
    folder = _existing(path.parent)
    if not folder.is_dir():
        return Finding("spool", is_ok=False, text=f"{folder} is no folder", advice="see spool.path")
    if not os.access(folder, os.W_OK):
        return Finding("spool", is_ok=False, text=f"{folder} is not writable", advice="change its owner, or spool.path")
    usage = shutil.disk_usage(folder)
    if usage.free < FREE_SHARE_MIN * usage.total:
        text = f"only {usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free at {folder}"
        return Finding("spool", is_ok=False, text=text, advice="make room, or move spool.path to another disk")
    if not path.exists():
        return Finding("spool", is_ok=True, text=f"{path} will be made at the first start")
    try:
        return _look_into(path, config.spool.limit_bytes)
    except SQLITE_ERRORS as error:
        advice = "the gateway puts a damaged spool aside at its next start"
        return Finding("spool", is_ok=False, text=f"{path}: {error}", advice=advice)


def _look_into(path: Path, limit_bytes: int) -> Finding:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        count, size = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM frame").fetchone()
        (aside,) = connection.execute("SELECT COUNT(*) FROM quarantine").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    text = f"{count} frames ({size / 1e6:.1f} of {limit_bytes / 1e6:.0f} MB) wait, {aside} in quarantine"
    if size >= 0.9 * limit_bytes:
        return Finding("spool", is_ok=False, text=text, advice="nearly full: see why the database takes nothing")
    advice = "`swapline quarantine list` shows them" if aside else ""
    return Finding("spool", is_ok=True, text=text, advice=advice)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _database(config: GatewayConfig) -> Iterator[Finding]:
    if isinstance(config.sink, DuckdbConfig):
        yield _duckdb(config.sink)
        return
    from swapline_gateway.influx_check import findings  # noqa: PLC0415 (loads urllib3)

    yield from findings(config.sink)


def _duckdb(config: DuckdbConfig) -> Finding:
    import duckdb  # noqa: PLC0415 (takes a moment to load)

    path = config.path
    if not path.exists():
        is_ok = os.access(_existing(path.parent), os.W_OK)
        text = f"{path} will be made at the first start" if is_ok else f"{_existing(path.parent)} is not writable"
        return Finding("database", is_ok=is_ok, text=text, advice="" if is_ok else "change its owner, or sink.path")
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            found = connection.execute("SELECT COUNT(*) FROM frames").fetchone()
    except duckdb.IOException as error:
        if "lock" in str(error):
            return Finding("database", is_ok=True, text=f"{path} is open in another process (a running gateway?)")
        advice = "the gateway replaces a damaged file by what can be read of it at its next start"
        return Finding("database", is_ok=False, text=f"{path}: {str(error).splitlines()[0]}", advice=advice)
    except duckdb.Error as error:
        text = f"{path} is not a database of ours: {str(error).splitlines()[0]}"
        return Finding("database", is_ok=False, text=text, advice="set sink.path to a file of our own")
    return Finding("database", is_ok=True, text=f"{path}: {found[0] if found else 0} frames stored")


def _http(config: GatewayConfig) -> Finding:
    if config.http is None:
        return Finding("pages", is_ok=True, text="no [http]: the gateway runs without pages and metrics")
    host, port = config.http.host, config.http.port
    if port == 0:
        return Finding("pages", is_ok=True, text="a free port will be taken")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _occupied(host, port, error.strerror or str(error))
    return Finding("pages", is_ok=True, text=f"{host}:{port} is free")


def _occupied(host: str, port: int, problem: str) -> Finding:
    """Tell a running gateway, whose health this asks, from a stranger on the same port."""
    import urllib3  # noqa: PLC0415

    name = f"[{host}]" if ":" in host else host
    try:
        health = urllib3.request("GET", f"http://{name}:{port}/healthz", timeout=5, retries=False).json()
        problems = health["problems"]
    except (urllib3.exceptions.HTTPError, OSError, ValueError, TypeError, KeyError):
        text = f"{host}:{port} cannot be had: {problem}"
        return Finding("pages", is_ok=False, text=text, advice="end what listens there, or change http.port")
    if problems:
        text = f"a gateway runs at {host}:{port} and reports: {'; '.join(map(str, problems))}"
        return Finding("pages", is_ok=False, text=text, advice="see its log")
    return Finding("pages", is_ok=True, text=f"a gateway runs at {host}:{port} and is well")
