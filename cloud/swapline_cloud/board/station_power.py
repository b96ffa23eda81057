"""What the board "Station" shows of slots over time, of chargers and of the grid."""

from typing import Any

from swapline_cloud.query import daily, growth, history
from swapline_cloud.rollup import LAST, MAXIMUM
from swapline_cloud.text import Text

from . import word
from .field import Field, States
from .pen import Pen
from .shared import BAY, HERE
from .unit import BLUE, GREEN, ORANGE, RED, YELLOW, steps, unit_of

# Power stages take their current back from about 75 degC on; 60 is what filters full of dust do.
CHARGER_STEPS = steps((60, YELLOW), (75, RED))
# EN 50160: 230 V and 10 % to both sides; 50 Hz and 1 % (a grid of 60 Hz shows red here: change the steps).
_VOLTAGE_STEPS = steps((207, GREEN), (253, RED), base=RED)
_FREQUENCY_STEPS = steps((49.5, YELLOW), (49.8, GREEN), (50.2, YELLOW), (50.5, RED), base=RED)
_SLOT: dict[str, Any] = {"where": HERE, "by": ["bay"], "alias": "$tag_bay"}
_PHASES = {"l1": ("L1", BLUE), "l2": ("L2", ORANGE), "l3": ("L3", GREEN)}


def slots(pen: Pen) -> list[Any]:
    """Return the panels of slots and their chargers over time."""
    return [
        _strip(
            pen,
            Text("Slots occupied", "仓位占用"),
            Text(
                "Grey is empty. A slot that stays empty while others change: its lock or its sensor; one that never "
                "changes: vans do not take that module, look at its health.",
                "灰色为空。其他仓位轮换而某个一直为空：检查锁或传感器；一直不变：车辆不取该模块，请检查其健康度。",
            ),
            "occupied",
            word.states("slot", "occupied"),
        ),
        _strip(
            pen,
            Text("Charger states", "充电机状态"),
            Text(
                "Charging is yellow, full is green, fault is red: see the faults below, restart the charger, else lock "
                "the slot and call the workshop.",
                "黄色充电中，绿色已充满，红色故障：查看下方故障并重启充电机，否则锁定仓位并报修。",
            ),
            "charger_state",
            word.states("slot", "charger_state"),
        ),
        _strip(
            pen,
            Text("Slot faults", "仓位故障"),
            Text(
                "What each charger reports; red is one fault, by name, a bare number is several at once (see the "
                "alarms). Smoke, insulation, contactor: lock the slot and keep away.",
                "各充电机上报的故障，红色为单项故障名称，数字表示多项并存（见报警）。烟雾、绝缘、接触器："
                "锁定仓位并远离。",
            ),
            "faults",
            word.single_bits("slot", "faults"),
        ),
        _strip(
            pen,
            Text("Slots locked", "仓位锁"),
            Text(
                "Yellow is unlocked. Occupied and unlocked outside a swap: somebody could take the module; lock it.",
                "黄色为未锁。非换电期间占用且未锁：模块可能被取走，请上锁。",
            ),
            "locked",
            word.states("slot", "locked"),
        ),
        pen.timeseries(
            Text("Charge by slot", "各仓位电量"),
            Text(
                "Of the modules in the slots. A line that stays flat below 90 % while its charger says charging: the "
                "BMS limits the current, or the charger is weak; compare with its neighbours.",
                "仓位内模块电量。充电中却停在 90 % 以下不动：BMS 限流或充电机功率不足，请与相邻仓位比较。",
            ),
            history("module", "soc_pct", **_SLOT),
            unit=unit_of("module", "soc_pct"),
            thresholds=steps((20, ORANGE), (50, YELLOW), (90, GREEN), base=RED),
            series=BAY,
            minimum=0,
            maximum=100,
            width=8,
        ),
        pen.timeseries(
            Text("Charger power by slot", "各充电机功率"),
            Text(
                "At the chargers' outputs. One at zero with an empty module in its slot: see its state and faults.",
                "充电机输出功率。仓位内模块未满而功率为零：查看状态与故障。",
            ),
            history("slot", "charger_power_kw", **_SLOT),
            unit=unit_of("slot", "charger_power_kw"),
            series=BAY,
            minimum=0,
            width=8,
        ),
        pen.timeseries(
            Text("Charger temperature by slot", "各充电机温度"),
            Text(
                "Hottest power stage. Above 60 degC (yellow), or warmer than its neighbours at the same power: clean "
                "filter and fan. Red from 75 degC on: it takes power back.",
                "最热功率级。高于 60 度（黄）或同功率下高于相邻：清洁滤网与风扇。超过 75 度变红：充电机将降功率。",
            ),
            history("slot", "charger_temperature_c", aggregate=MAXIMUM, **_SLOT),
            unit=unit_of("slot", "charger_temperature_c"),
            thresholds=CHARGER_STEPS,
            series=BAY,
            width=8,
        ),
    ]


def grid(pen: Pen) -> list[Any]:
    """Return the panels of the grid's connection and of energy."""
    return [
        pen.timeseries(
            Text("Power from the grid", "电网功率"),
            Text(
                "All phases and each of them, positive from the grid. One phase far above the others: chargers are "
                "spread unevenly; move modules or limit that phase's chargers.",
                "总功率与各相功率，正值为取电。某相明显偏高：充电机分配不均，请移动模块或限制该相充电机。",
            ),
            [
                *history("meter", "power_kw", where=HERE, alias="all"),
                *[q for p in _PHASES for q in history("meter", f"power_{p}_kw", where=HERE, alias=p)],
            ],
            unit=unit_of("meter", "power_kw"),
            fields=[Field("all", Text("all phases", "总功率"), color=RED), *_phase_fields()],
            width=12,
        ),
        pen.timeseries(
            Text("Energy drawn", "取电量"),
            Text(
                "Growth of the meter's counters in each point: drawn, and fed in. Drawn at night, when power is cheap, "
                "is what the charge plan should show. Nothing for an hour: the meter or its line is silent.",
                "每点内电表计数的增长：取电与馈电。低谷时段应有较多取电。一小时为零：电表或线路无应答。",
            ),
            [
                *growth("meter", "energy_import_kwh", where=HERE, alias="drawn"),
                *growth("meter", "energy_export_kwh", where=HERE, alias="fed"),
            ],
            unit=unit_of("meter", "energy_import_kwh"),
            fields=[
                Field("drawn", Text("drawn", "取电"), color=BLUE),
                Field("fed", Text("fed in", "馈电"), color=GREEN),
            ],
            interval="15m",
            minimum=0,
            width=12,
        ),
        pen.days(
            Text("Energy per day", "每日能量"),
            Text(
                "By counters, for the last 14 days of UTC up to the range's end: drawn from the grid, put into "
                "modules. The difference is losses; more than a tenth: a charger is ill, or something else hangs on "
                "that meter.",
                "按计数器统计截至范围终点的最近 14 天（UTC）：电网取电与充入模块。差值为损耗；超过一成："
                "充电机异常或电表带有其他负载。",
            ),
            [
                daily("meter", "energy_import_kwh", "grid_kwh", where=HERE, each=["node"]),
                daily("slot", "energy_kwh", "charged_kwh", where=HERE, each=["node", "bay"]),
            ],
            unit=unit_of("meter", "energy_import_kwh"),
            fields=[
                Field("grid_kwh", Text("from the grid", "来自电网"), color=BLUE),
                Field("charged_kwh", Text("into modules", "充入模块"), color=GREEN),
            ],
            width=12,
        ),
        pen.timeseries(
            Text("Grid voltages", "电网电压"),
            Text(
                "Phase against neutral; red outside 207 to 253 V (EN 50160). Low while all chargers run: the "
                "connection is weak, limit the power. One phase at zero: a fuse.",
                "相对中性线电压；超出 207 至 253 V（EN 50160）变红。充电机满载时偏低：接入容量不足，请限功率。"
                "某相为零：熔断器。",
            ),
            [q for p in _PHASES for q in history("meter", f"voltage_{p}_v", where=HERE, alias=p)],
            unit=unit_of("meter", "voltage_l1_v"),
            thresholds=_VOLTAGE_STEPS,
            fields=_phase_fields(),
            width=12,
        ),
        pen.timeseries(
            Text("Grid currents", "电网电流"),
            Text(
                "By phase. Near the fuse's rating for long: limit the chargers before it blows. Far apart: see power.",
                "各相电流。长时间接近熔断器额定值：请先限制充电机。相差很大：见功率。",
            ),
            [q for p in _PHASES for q in history("meter", f"current_{p}_a", aggregate=MAXIMUM, where=HERE, alias=p)],
            unit=unit_of("meter", "current_l1_a"),
            fields=_phase_fields(),
            width=8,
            height=7,
        ),
        pen.timeseries(
            Text("Grid frequency", "电网频率"),
            Text(
                "Of a 50 Hz grid. Outside 49.5 to 50.5 Hz (red) the grid is in trouble: stop charging until it is"
                " back.",
                "按 50 Hz 电网判定。超出 49.5 至 50.5 Hz（红）：电网异常，恢复前请停止充电。",
            ),
            history("meter", "frequency_hz", where=HERE, alias="frequency"),
            unit=unit_of("meter", "frequency_hz"),
            thresholds=_FREQUENCY_STEPS,
            fields=[Field("frequency", Text("frequency", "频率"), color=BLUE)],
            width=8,
            height=7,
        ),
        pen.timeseries(
            Text("Power factor", "功率因数"),
            Text(
                "Active over apparent power. Below 0.9 (red) under load: some suppliers charge for it; look at the "
                "chargers' input filters.",
                "有功与视在功率之比。负载下低于 0.9（红）：可能产生力调电费，请检查充电机输入滤波。",
            ),
            history("meter", "power_factor", where=HERE, alias="factor"),
            unit="none",
            thresholds=steps((0.9, YELLOW), (0.95, GREEN), base=RED),
            fields=[Field("factor", Text("power factor", "功率因数"), color=BLUE)],
            width=8,
            height=7,
        ),
    ]


def _phase_fields() -> list[Field]:
    return [Field(phase, Text(name, name), color=color) for phase, (name, color) in _PHASES.items()]


def _strip(pen: Pen, title: Text, description: Text, field: str, states: States) -> Any:
    queries = history("slot", field, aggregate=LAST, **_SLOT)
    return pen.timeline(title, description, queries, states=states, series=BAY, width=12, height=7)
