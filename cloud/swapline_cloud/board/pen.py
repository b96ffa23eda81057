"""The pen: draws panels and boards so that all of them look and behave alike.

Every panel has a title, a description that says what to do when it is red, a unit, and queries of `query.py`. Uids and
panel ids do not change from one render to the next: a board's uid is `swapline-<name>`, the same in both languages.
"""

import json
from collections.abc import Sequence
from typing import Any

from swapline_cloud.query import Query
from swapline_cloud.text import Text

from . import layer, sdk
from .field import Field, Link, States, arrange, joined, mapping, overrides
from .grid import lay_out
from .sdk import common, dashboard, model

DATA_SOURCE_TYPE, DATA_SOURCE_UID = "influxdb", "swapline-influxdb"
DATA_SOURCE = common.DataSourceRef(DATA_SOURCE_TYPE, DATA_SOURCE_UID)
TAG = "swapline"


class InfluxQuery(sdk.Dataquery):
    """A raw InfluxQL query, as Grafana's InfluxDB data source keeps it; the SDK has no type of its own for it."""

    def __init__(self, query: Query, ref_id: str) -> None:
        self.query = query
        self.ref_id = ref_id

    def to_json(self) -> dict[str, object]:
        """Return it as Grafana keeps it."""
        return {
            "refId": self.ref_id,
            "datasource": {"type": DATA_SOURCE_TYPE, "uid": DATA_SOURCE_UID},
            "query": self.query.statement,
            "rawQuery": True,
            "resultFormat": "table" if self.query.is_table else "time_series",
            "alias": self.query.alias,
        }


class _Target(sdk.Builder[sdk.Dataquery]):
    def __init__(self, query: Query, ref_id: str) -> None:
        self._query = InfluxQuery(query, ref_id)

    def build(self) -> sdk.Dataquery:
        return self._query


class _Built(sdk.Builder[Any]):
    """What is complete already, where the SDK wants a builder."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def build(self) -> Any:
        return self._value


def ref_id(index: int) -> str:
    """Return the name of a panel's query: A to Z, then AA, AB and so on."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


class Pen:
    """Draws in one language. The methods return the SDK's own builders, for whatever a panel needs beside."""

    def __init__(self, language: str) -> None:
        self.language = language

    def say(self, text: Text) -> str:
        """Return a text in the pen's language."""
        return text.of(self.language)

    def timeseries(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return a chart over time. See `_dress` for what else may be said."""
        panel = sdk.timeseries.Panel().line_width(1).fill_opacity(8).show_points(common.VisibilityMode.AUTO)
        panel = panel.legend(sdk_legend(common.LegendDisplayMode.LIST, common.LegendPlacement.BOTTOM)).tooltip(
            _Built(common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI))
        )
        if more.get("thresholds"):
            panel = panel.thresholds_style(
                _Built(common.GraphThresholdsStyleConfig(mode=common.GraphThresholdsStyleMode.DASHED))
            )
        return self._dress(panel, title, description, queries, **more)

    def stat(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return one large number (or one for each series) with a colour."""
        panel = (
            sdk.stat.Panel().color_mode(common.BigValueColorMode.BACKGROUND).graph_mode(common.BigValueGraphMode.NONE)
        )
        panel = panel.reduce_options(_Built(common.ReduceDataOptions(calcs=["lastNotNull"], values=False)))
        return self._dress(panel, title, description, queries, **more)

    def table(
        self,
        title: Text,
        description: Text,
        queries: Sequence[Query],
        *,
        sort: str = "",
        is_descending: bool = False,
        key: str = "",
        **more: Any,
    ) -> Any:
        """Return a table. Its queries are of tables; where `fields` are given, they are its columns, in their order.

        `sort` is the column that it is sorted by; `key` the one by which several queries' rows come side by side.
        """
        panel = self._dress(sdk.table.Panel(), title, description, queries, **more)
        names = [field.name for field in more.get("fields", ())]
        if not names:
            return panel
        return panel.transformations(arrange(names, sort=sort, is_descending=is_descending, key=key))

    def bargauge(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return a bar for each series' last value."""
        panel = sdk.bargauge.Panel().orientation(common.VizOrientation.HORIZONTAL)
        panel = panel.reduce_options(_Built(common.ReduceDataOptions(calcs=["lastNotNull"], values=False)))
        return self._dress(panel, title, description, queries, **more)

    def bars(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return a chart of bars over time: how much in each of its points."""
        panel = self.timeseries(title, description, queries, **more)
        return panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(60).show_points(common.VisibilityMode.NEVER)

    def days(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return bars for each time that tables' rows have, whatever the board's range is."""
        panel = self._dress(sdk.barchart.Panel().x_field("Time"), title, description, queries, **more)
        return panel.transformations([joined("Time")])

    def histogram(self, title: Text, description: Text, queries: Sequence[Query], *, bucket: int, **more: Any) -> Any:
        """Return how many of a table's rows have about which value."""
        return self._dress(sdk.histogram.Panel().bucket_size(bucket), title, description, queries, **more)

    def timeline(self, title: Text, description: Text, queries: Sequence[Query], **more: Any) -> Any:
        """Return a strip for each series in the colours of its states."""
        panel = sdk.statetimeline.Panel().show_value(common.VisibilityMode.AUTO).merge_values(True)
        return self._dress(panel, title, description, queries, **more)

    def geomap(
        self,
        title: Text,
        description: Text,
        queries: Sequence[Query],
        layers: Sequence[common.MapLayerOptions] = (),
        **more: Any,
    ) -> Any:
        """Return a map of layers (`layer.py`), as near as shows all of them. Its queries are of tables."""
        panel = sdk.geomap.Panel().view(_Built(layer.view())).layers([_Built(one) for one in layers])
        panel = panel.basemap(_Built(common.MapLayerOptions("default", "basemap", config={})))
        controls = {"showZoom": True, "mouseWheelZoom": True, "showAttribution": True, "showScale": True}
        panel = panel.controls(_Built(controls)).tooltip(_Built({"mode": "details"}))
        return self._dress(panel, title, description, queries, **more)

    def row(self, title: Text) -> dashboard.Row:
        """Return a heading between panels."""
        return dashboard.Row(self.say(title))

    def _dress(
        self,
        panel: Any,
        title: Text,
        description: Text,
        queries: Sequence[Query],
        *,
        unit: str = "",
        thresholds: Sequence[model.Threshold] = (),
        states: States | None = None,
        fields: Sequence[Field] = (),
        width: int = 12,
        height: int = 8,
        minimum: float | None = None,
        maximum: float | None = None,
        decimals: int | None = None,
        series: Text | None = None,
        interval: str = "",
        links: Sequence[Link] = (),
        none_text: Text | None = None,
    ) -> Any:
        """Put on what every panel has.

        `states` gives numbers a text and a colour; `fields` say what is different for single ones, by the query's
        names; `series` is what each is called ("bay ${__field.labels.bay}"); `links` are (text, address) behind a
        value, with Grafana's variables in the address; `interval` is the finest point of a chart ("10s"); `none_text`
        stands where a query answers nothing because nothing is wrong.
        """
        panel = panel.title(self.say(title)).description(self.say(description)).datasource(DATA_SOURCE)
        panel = panel.span(width).height(height)
        if unit:
            panel = panel.unit(unit)
        if thresholds:
            panel = panel.thresholds(
                dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(list(thresholds))
            ).color_scheme(_Built(model.FieldColor(mode=self._color_mode(panel))))
        if states:
            panel = panel.mappings([mapping(states, self.language)])
        for value, call in ((minimum, "min"), (maximum, "max"), (decimals, "decimals")):
            if value is not None:
                panel = getattr(panel, call)(value)
        if series is not None:
            panel = panel.display_name(self.say(series))
        if interval:
            panel = panel.interval(interval)
        if links:
            panel = panel.data_links([dashboard.DashboardLink(self.say(text)).url(url) for text, url in links])
        if none_text is not None:
            panel = panel.no_value(self.say(none_text))
        for field in fields:
            choose, name = panel.override_by_name, field.name
            if field.tag:
                choose, name = panel.override_by_regexp, f"/^{field.name} /"
            panel = choose(name, overrides(field, self.language))
        for index, query in enumerate(queries):
            panel = panel.with_target(_Target(query, ref_id(index)))
        return panel

    def _color_mode(self, panel: Any) -> model.FieldColorModeId:
        is_chart = isinstance(panel, sdk.timeseries.Panel)
        return model.FieldColorModeId.PALETTE_CLASSIC if is_chart else model.FieldColorModeId.THRESHOLDS

    def variable(
        self, name: str, label: Text, statement: str, *, is_multi: bool = False, has_all: bool = False
    ) -> dashboard.QueryVariable:
        """Return a choice whose values InfluxDB knows (`SHOW TAG VALUES ...`)."""
        built = dashboard.QueryVariable(name).label(self.say(label)).datasource(DATA_SOURCE).query(statement)
        built = built.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
        built = built.multi(is_multi).include_all(has_all)
        return built.all_value(".*") if has_all else built

    def board(
        self,
        name: str,
        title: Text,
        description: Text,
        *,
        variables: Sequence[Any] = (),
        start: str = "now-6h",
        refresh: str = "30s",
    ) -> dashboard.Dashboard:
        """Return an empty board with its links to the others."""
        board = dashboard.Dashboard(self.say(title)).uid(uid(name)).tags([TAG]).description(self.say(description))
        board = board.time(start, "now").refresh(refresh).timezone("browser").editable()
        board = board.tooltip(model.DashboardCursorSync.CROSSHAIR)
        board = board.link(
            dashboard.DashboardLink("swapline")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=False)
            .keep_time(keep_time=True)
            .include_vars(include_vars=False)  # `node` is a van on one board and a station on another
        )
        for variable in variables:
            board = board.with_variable(variable)
        return board


def sdk_legend(mode: Any, placement: Any) -> sdk.Builder[Any]:
    """Return a chart's legend."""
    return _Built(common.VizLegendOptions(display_mode=mode, placement=placement, show_legend=True, calcs=[]))


def uid(name: str) -> str:
    """Return the uid of a board, a rule or a folder: it never changes, so that links and bookmarks stay."""
    return f"swapline-{name}"


def link(name: str, **variables: str) -> str:
    """Return the address of another board: `link("van", node="${__data.fields.node}")`."""
    chosen = "&".join(f"var-{key}={value}" for key, value in variables.items())
    return f"/d/{uid(name)}?${{__url_time_range}}" + (f"&{chosen}" if chosen else "")


def as_json(board: dashboard.Dashboard) -> dict[str, Any]:
    """Return a board as Grafana's JSON, its panels numbered in their order."""
    found: dict[str, Any] = json.loads(json.dumps(board.build(), cls=sdk.JSONEncoder))
    panels = found.get("panels", [])
    lay_out(panels)
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return found
