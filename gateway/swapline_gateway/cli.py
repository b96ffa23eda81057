"""`swapline`: the command line. Other packages add commands through the entry-point group `swapline.commands`."""

import asyncio
import importlib.metadata
import signal
import sys
from pathlib import Path
from typing import Any

import click

from . import config as configuration
from . import log
from .error import EXIT_PROBLEM, EXIT_STOPPED, GatewayError

_EPILOG = """Exit codes: 0 done; 1 a check found a problem; 2 wrong usage; 69 a broker, database or port is not there;
73 a file, folder or disk of ours cannot be used; 77 credentials are refused; 78 the configuration is wrong;
130 stopped by Ctrl-C."""


class Commands(click.Group):
    """Our own commands and those of installed plug-ins; a `GatewayError` ends any of them with its sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, with the plug-ins that can be loaded here: a gateway's host has no bench."""
        return sorted({*super().list_commands(ctx), *(name for name, point in _plugins().items() if _loads(point))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading its plug-in only now."""
        known = super().get_command(ctx, cmd_name)
        if known is not None or cmd_name not in _plugins():
            return known
        try:
            loaded = _plugins()[cmd_name].load()
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`swapline {cmd_name}` needs {error.name}: pip install 'swapline[bench]'"
            ) from error
        command: click.Command = loaded
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; say what went wrong in one sentence."""
        try:
            return super().invoke(ctx)
        except GatewayError as error:
            click.echo(f"swapline: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("swapline: stopped.", err=True)
            ctx.exit(EXIT_STOPPED)


def _plugins() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group="swapline.commands")}


def _loads(point: importlib.metadata.EntryPoint) -> bool:
    try:
        point.load()
    except ModuleNotFoundError:
        return False
    return True


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="swapline")
def main() -> None:
    """Carry telemetry of vans and swap stations from a serial byte to a database, exactly once."""


@main.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="The TOML file.")
def gateway(config_path: Path) -> None:
    """Run the gateway: MQTT in, database out. Ctrl-C or SIGTERM ends it and loses nothing."""
    config = configuration.load(config_path)
    log.configure(config.log)
    asyncio.run(_run_gateway(config))


# How long a thread may keep the interpreter from another one that has something to do. With Python's own 5 ms, each
# header that the connection reads waits so long for the thread that writes the database.
SWITCH_INTERVAL_S = 0.0005


async def _run_gateway(config: configuration.GatewayConfig) -> None:
    from .gateway import Gateway  # noqa: PLC0415 (loads the database's libraries; `--help` need not wait for them)

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    running = Gateway(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.stop)
    await running.run()


from .command import register  # noqa: E402 (the other commands hang themselves on `main`)

register(main)

__all__ = ["EXIT_PROBLEM", "main"]
