"""The choices that boards share: fleet, holder, module."""

from swapline_cloud.query import source, tag_is
from swapline_cloud.rollup import FOREVER
from swapline_cloud.text import Text

from .pen import Pen
from .sdk import dashboard

_FLEET = 'SHOW TAG VALUES FROM "node" WITH KEY = "fleet"'


def fleet(pen: Pen) -> dashboard.QueryVariable:
    """Return `$fleet`: one, some or all."""
    return pen.variable("fleet", Text("Fleet", "车队"), _FLEET, is_multi=True, has_all=True)


def van(pen: Pen) -> dashboard.QueryVariable:
    """Return `$node`: one van, by what only vans say."""
    return _holder(pen, Text("Van", "车辆"), "vehicle")


def station(pen: Pen) -> dashboard.QueryVariable:
    """Return `$node`: one station, by what only stations say."""
    return _holder(pen, Text("Station", "换电站"), "slot")


def node(pen: Pen) -> dashboard.QueryVariable:
    """Return `$node`: some nodes, or all."""
    statement = f'SHOW TAG VALUES FROM "node" WITH KEY = "node" WHERE {tag_is("fleet", "fleet")}'
    return pen.variable("node", Text("Node", "节点"), statement, is_multi=True, has_all=True)


def module(pen: Pen) -> dashboard.QueryVariable:
    """Return `$module`: one battery module, by its code, of all that ever had a passport.

    `SHOW TAG VALUES` cannot tell: InfluxDB 2.x answers it of the default policy, whatever policy it names.
    """
    known = f'SELECT last("is_void"), "module" FROM {source("passport", FOREVER)} GROUP BY "module"'  # noqa: S608
    statement = f'SELECT distinct("module") FROM ({known})'  # noqa: S608 (our own names)
    return pen.variable("module", Text("Module", "电池模块"), statement)


def _holder(pen: Pen, label: Text, measurement: str) -> dashboard.QueryVariable:
    statement = f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "node" WHERE {tag_is("fleet", "fleet")}'
    return pen.variable("node", label, statement)
