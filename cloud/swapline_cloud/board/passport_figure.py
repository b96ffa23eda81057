"""The figures on top of the board "Module passport"."""

from typing import Any

from swapline_cloud.text import Text
from swapline_gateway.battery.table import FOREVER_UTC_MS

from .field import Field
from .passport_query import book, estimate
from .pen import Pen
from .shared import TO_STATION, TO_VAN
from .unit import ORANGE, RED, YELLOW, steps, unit_by_name

_NOT_YET = Text("not yet known", "尚未可知")
_SMALL: dict[str, Any] = {"width": 4, "height": 4}
_SIGMA = Text("uncertainty", "不确定度")


def draw(pen: Pen) -> list[Any]:
    """Return the panels."""
    return [_holder(pen), *_estimates(pen), *_totals(pen)]


def _holder(pen: Pen) -> Any:
    return pen.table(
        Text("Now in", "当前位置"),
        Text(
            "The van or station that holds it, as far as is known, and since when. Empty: it left and has not "
            "turned up; find it (workshop, theft, a holder without a working node).",
            "已知的当前持有者及起始时间。为空：已取出但未再出现，请查找（维修、被盗或持有者节点故障）。",
        ),
        [
            book(
                '"until_utc_ms", "node", "bay", "fleet"',  # of tags alone InfluxQL answers nothing
                "stay",
                where=[f'"until_utc_ms" = {FOREVER_UTC_MS}'],
                within="time <= ${__to}ms",
            )
        ],
        fields=[
            Field("node", Text("Holder", "持有者"), links=(TO_VAN, TO_STATION)),
            Field("bay", Text("Bay", "电池位"), width=70),
            Field("Time", Text("Since", "起始"), "dateTimeFromNow", width=120),
            Field("fleet", Text("Fleet", "车队"), width=90),
        ],
        none_text=Text("nobody knows", "未知"),
        width=8,
        height=4,
    )


def _estimates(pen: Pen) -> list[Any]:
    return [
        pen.stat(
            Text("Capacity", "容量"),
            Text(
                "Of its weakest cell, between full and nearly empty, with its standard uncertainty. Not yet known: "
                "it was never below about 10 % at rest; let it run low once. Compare with rated: below 80 % of it, "
                "retire the module.",
                "最弱单体在满电与接近放空之间的容量及标准不确定度。尚未可知：从未在 10 % 以下静置，请安排一次深放电。"
                "低于额定容量 80 %：应退役。",
            ),
            [estimate("capacity_ah", "capacity_sigma_ah")],
            unit=unit_by_name("capacity_ah"),
            fields=[
                Field("capacity_ah", Text("Capacity", "容量"), decimals=1),
                Field("capacity_sigma_ah", _SIGMA, decimals=1),
            ],
            none_text=_NOT_YET,
            **_SMALL,
        ),
        pen.stat(
            Text("Resistance", "内阻"),
            Text(
                "Ten-second pulse resistance, referred to 25 degC, with its standard uncertainty. Grown by half "
                "since it was new, or far above its siblings (`swapline module`): it heats and sags under load; "
                "use it where power is low.",
                "折算到 25 度的十秒脉冲内阻及标准不确定度。比新时增长一半或明显高于同型号模块（`swapline module`）："
                "发热且压降大，应用于低功率场合。",
            ),
            [estimate("resistance_mohm", "resistance_sigma_mohm")],
            unit=unit_by_name("resistance_mohm"),
            fields=[
                Field("resistance_mohm", Text("Resistance", "内阻"), decimals=2),
                Field("resistance_sigma_mohm", _SIGMA, decimals=2),
            ],
            none_text=_NOT_YET,
            **_SMALL,
        ),
        pen.stat(
            Text("Spread at rest", "静置压差"),
            Text(
                "Highest less lowest cell after half an hour's rest, median of 30 days. Orange from 50 mV: let it "
                "stand full at a station so that it balances. Red from 100 mV: look at its early warnings.",
                "静置半小时后最高与最低单体之差（30 天中位数）。50 mV 起变橙：在换电站满电静置以均衡。100 mV 起变红："
                "查看预警。",
            ),
            [estimate("spread_mv")],
            unit=unit_by_name("spread_mv"),
            thresholds=steps((20, YELLOW), (50, ORANGE), (100, RED)),
            none_text=_NOT_YET,
            decimals=0,
            **_SMALL,
        ),
        pen.stat(
            Text("Trend of the spread", "压差趋势"),
            Text(
                "How much the spread at rest grows in 30 days. Red, 10 mV and more: a cell loses charge faster "
                "than balancing makes good; plan its exchange.",
                "静置压差每 30 天的增长。10 mV 以上变红：某节电芯自放电快于均衡，请安排更换。",
            ),
            [estimate("spread_trend_mv")],
            unit="suffix: mV/30 d",
            thresholds=steps((3, YELLOW), (10, RED)),
            none_text=_NOT_YET,
            decimals=1,
            **_SMALL,
        ),
    ]


def _totals(pen: Pen) -> list[Any]:
    return [
        pen.stat(
            Text("Equivalent full cycles", "等效满循环"),
            Text(
                "Charge in and out, in units of full cycles of its rated capacity. LFP cells are made for 3,000 "
                "and more; beyond that (red) watch capacity and resistance.",
                "充放电量折算为额定容量的满循环数。磷酸铁锂设计寿命 3000 次以上；超过（变红）请关注容量与内阻。",
            ),
            [estimate("equivalent_full_cycles")],
            unit="short",
            thresholds=steps((2000, YELLOW), (3000, RED)),
            none_text=_NOT_YET,
            decimals=1,
            width=5,
            height=4,
        ),
        pen.stat(
            Text("Energy in and out", "累计电能"),
            Text(
                "Of its whole known life. Out over in is its efficiency; below 90 % with counters that are "
                "believed, it loses charge: look at its early warnings.",
                "全部已知寿命内的充入与放出电能。放出与充入之比为效率；低于 90 % 说明漏电，请查看预警。",
            ),
            [estimate("energy_in_kwh"), estimate("energy_out_kwh")],
            unit=unit_by_name("energy_in_kwh"),
            fields=[
                Field("energy_in_kwh", Text("in", "充入"), decimals=0),
                Field("energy_out_kwh", Text("out", "放出"), decimals=0),
            ],
            none_text=_NOT_YET,
            width=7,
            height=4,
        ),
        pen.stat(
            Text("Charged fast", "快充比例"),
            Text(
                "Share of charge that went in with more than 1 C. Red, above a third: cells age faster; let it "
                "charge slowly at night.",
                "以高于 1 C 充入的电量所占比例。超过三分之一变红：老化加快，请安排夜间慢充。",
            ),
            [estimate("fast_charge_share")],
            unit=unit_by_name("fast_charge_share"),
            thresholds=steps((0.15, YELLOW), (0.33, RED)),
            none_text=_NOT_YET,
            decimals=0,
            width=4,
            height=4,
        ),
        pen.stat(
            Text("Swaps and holders", "换电与持有者"),
            Text(
                "Changes from one holder to another, and how many holders there were. Far fewer than its siblings: "
                "it stands somewhere; far more: look whether its lock or its code is read right.",
                "更换持有者的次数与持有者数量。远少于同类：长期闲置；远多于同类：检查锁止与编码读取。",
            ),
            [estimate("swap_count", "holder_count")],
            unit="short",
            fields=[
                Field("swap_count", Text("swaps", "换电次数")),
                Field("holder_count", Text("holders", "持有者数")),
            ],
            none_text=_NOT_YET,
            width=5,
            height=4,
        ),
        pen.stat(
            Text("Known time", "有数据时长"),
            Text(
                "How long its readings cover. All figures stand on this; a short time makes them weak. Much less "
                "than its age: it sat in holders without a working node.",
                "读数覆盖的时长，是以上指标的基础；时长短则可信度低。远小于其使用时间：曾在节点故障的持有者中。",
            ),
            [estimate("known_s")],
            unit=unit_by_name("known_s"),
            none_text=_NOT_YET,
            width=3,
            height=4,
        ),
    ]
