"""Grafana's builders, as far as boards use them. Importing them warns of a newer kind of board: see decision 0036."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        barchart,
        bargauge,
        dashboard,
        geomap,
        histogram,
        stat,
        statetimeline,
        table,
        text,
        timeseries,
    )
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models import common, units
    from grafana_foundation_sdk.models import dashboard as model

__all__ = [
    "Builder",
    "Dataquery",
    "JSONEncoder",
    "barchart",
    "bargauge",
    "common",
    "dashboard",
    "geomap",
    "histogram",
    "model",
    "stat",
    "statetimeline",
    "table",
    "text",
    "timeseries",
    "units",
]
