"""Layers of maps: points, and the way that somebody went. Positions are `latitude_deg` and `longitude_deg`."""

from typing import Any

from .sdk import common

_FIT = {"id": "fit", "lat": 0, "lon": 0, "zoom": 15, "padding": 10, "allLayers": True}


def points(name: str, ref_id: str, *, color_by: str, label: str, symbol: str, size: int) -> common.MapLayerOptions:
    """Return a layer with a point for each row of a query, in the colour of a field's thresholds."""
    style = {
        "color": {"field": color_by, "fixed": "text"},
        "opacity": 0.9,
        "size": {"fixed": size, "min": 2, "max": 20},
        "symbol": {"mode": "fixed", "fixed": f"img/icons/marker/{symbol}.svg"},
        "text": {"mode": "field", "field": label, "fixed": ""},
        "textConfig": {"fontSize": 11, "textAlign": "left", "textBaseline": "middle", "offsetX": 10, "offsetY": 0},
    }
    return _layer("markers", name, ref_id, {"style": style, "showLegend": False})


def way(name: str, ref_id: str, *, color_by: str) -> common.MapLayerOptions:
    """Return a layer that joins a query's rows, in the colour of a field's thresholds."""
    style = {"color": {"field": color_by, "fixed": "blue"}, "opacity": 1, "lineWidth": 3, "size": {"fixed": 3}}
    return _layer("route", name, ref_id, {"style": style, "arrow": 1})


def view() -> Any:
    """Return the view that shows whatever the layers have, but not nearer than a street."""
    return _FIT


def _layer(kind: str, name: str, ref_id: str, config: object) -> common.MapLayerOptions:
    where = common.FrameGeometrySource(
        common.FrameGeometrySourceMode.COORDS, latitude="latitude_deg", longitude="longitude_deg"
    )
    shown = {"id": "byRefId", "options": ref_id}
    return common.MapLayerOptions(kind, name, config=config, location=where, filter_data=shown, tooltip=True)
