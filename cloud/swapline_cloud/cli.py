"""`swapline cloud`: what a host needs, what the database and Grafana should be, and how to make them so."""

import click

from .command import register


@click.group()
def cloud() -> None:
    """Set up InfluxDB and Grafana for a fleet, and keep them as they should be."""


register(cloud)
