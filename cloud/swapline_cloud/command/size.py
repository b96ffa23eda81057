"""`swapline cloud size`: how many gateways, cores and gigabytes a fleet needs."""

import json
from dataclasses import asdict

import click

from swapline_cloud.size import Size, size_of


def register(group: click.Group) -> None:
    """Hang the command on the group."""
    group.add_command(size)


@click.command()
@click.option("--vans", type=click.IntRange(1), required=True)
@click.option("--driving-hours", type=click.FloatRange(0, 24), default=20.0, show_default=True, help="A day.")
@click.option("--vans-per-station", type=click.IntRange(1), default=25, show_default=True)
@click.option("--traffic-price", type=click.FloatRange(0), default=1.0, show_default=True, help="Of a GB on the air.")
@click.option("--disk-price", type=click.FloatRange(0), default=0.1, show_default=True, help="Of a GB and month.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def size(
    *,
    vans: int,
    driving_hours: float,
    vans_per_station: int,
    traffic_price: float,
    disk_price: float,
    as_json: bool,
) -> None:
    """Say what a fleet needs, from what was measured; docs/scale.md says where each figure is from.

    Prices are yours: what a GB costs differs by ten from one contract to the next.
    """
    found = size_of(vans, driving_h=driving_hours, vans_a_station=vans_per_station)
    price = found.traffic_gb_a_van_month * traffic_price + found.stored_gb_a_van * disk_price
    if as_json:
        click.echo(json.dumps(asdict(found) | {"price_a_van_month": round(price, 3)}))
        return
    for text, value in lines(found):
        click.echo(f"{text:<44} {value:>16}")
    click.echo(f"{'traffic and storage, a van and month':<44} {price:>16,.2f}")


def lines(found: Size) -> list[tuple[str, str]]:
    """Return what people read of a size."""
    return [
        ("stations", f"{found.stations:,}"),
        ("rows/s, when every van drives", f"{found.rows_per_s:,.0f}"),
        ("values/s", f"{found.values_per_s:,.0f}"),
        ("frames/s", f"{found.frames_per_s:,.0f}"),
        ("messages/s", f"{found.messages_per_s:,.0f}"),
        ("gateway processes (two at least)", f"{found.gateways:,}"),
        ("cores of brokers", f"{found.broker_cores:,}"),
        ("cores of InfluxDB, writing alone", f"{found.influxdb_cores:,}"),
        ("cores of its roll-ups, of modules and cells", f"{found.rollup_cores:,}"),
        ("or of VictoriaMetrics, which has none", f"{found.victoria_metrics_cores:,}"),
        ("traffic of a van, GB a month", f"{found.traffic_gb_a_van_month:,.2f}"),
        ("raw rows, GB", f"{found.raw_gb:,.0f}"),
        ("minutes of two years, GB", f"{found.minute_gb:,.0f}"),
        ("hours, GB a year", f"{found.hour_gb_a_year:,.0f}"),
        ("series in the raw rows of a month", f"{found.series_a_month:,}"),
    ]
