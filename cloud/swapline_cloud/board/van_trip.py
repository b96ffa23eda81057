"""What the board "Van" shows of the trip, the way, and the vehicle itself."""

from typing import Any

from swapline_cloud.query import Query, courses, growth, history, select
from swapline_cloud.rollup import LAST, MAXIMUM, MINIMUM
from swapline_cloud.text import Text

from . import layer, word
from .field import Field, States
from .pen import Pen, ref_id
from .shared import HERE
from .unit import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, alarm_limits, steps, unit_by_name, unit_of

# Windings of insulation class F bear 155 degC (IEC 60085); controllers take power back before that.
_MOTOR_STEPS = steps((120, YELLOW), (150, RED))
_HDOP_STEPS = steps((2, YELLOW), (5, RED))
_SATELLITE_STEPS = steps((5, YELLOW), (8, GREEN), base=RED)
_AUXILIARY_STEPS = steps((11.5, YELLOW), (12.2, GREEN), base=RED)


def trip(pen: Pen) -> list[Any]:
    """Return the panels of speed, distance, power and consumption."""
    power = {"power_kw": "{traction_voltage_v} * {traction_current_a} / -1000"}
    consumption = {"consumption_kwh_per_km": "{traction_voltage_v} * {traction_current_a} / -1000 / {speed_kmh}"}
    own = select(
        'mean("consumption_kwh_per_km") AS "day"', "outlook", where=HERE, by=["time($__interval)"], tail="fill(none)"
    )
    return [
        _states(
            pen,
            Text("Drive mode", "驾驶模式"),
            Text(
                "Who drives. Fault or emergency stop (red): the van stands until a person has looked; see the faults.",
                "当前由谁驾驶。故障或急停（红）：须有人检查后才能行驶，请查看故障。",
            ),
            "vehicle",
            "drive_mode",
            width=24,
        ),
        pen.timeseries(
            Text("Speed", "车速"),
            Text(
                "By wheels and by satellites. Wheels faster than satellites for long: they slip, or the tyre size is"
                " wrong.",
                "轮速与卫星测速。轮速长时间高于卫星：打滑或轮胎尺寸设置错误。",
            ),
            [
                *history("vehicle", "speed_kmh", where=HERE, alias="wheels"),
                *history("position", "speed_kmh", where=HERE, alias="satellites"),
            ],
            unit=unit_of("vehicle", "speed_kmh"),
            fields=[
                Field("wheels", Text("wheels", "轮速"), color=BLUE),
                Field("satellites", Text("satellites", "卫星"), color=GREEN),
            ],
            minimum=0,
            width=12,
        ),
        pen.timeseries(
            Text("Traction power", "牵引功率"),
            Text(
                "Voltage times current of the high-voltage bus; negative is recuperation. Power without speed: "
                "heating, or something that drags.",
                "高压母线电压乘电流，负值为能量回收。有功率而无车速：加热或有拖滞。",
            ),
            courses("vehicle", power, where=HERE, alias="power"),
            unit=unit_of("vehicle", "heating_power_kw"),
            fields=[Field("power", Text("power", "功率"), color=ORANGE)],
            width=12,
        ),
        pen.bars(
            Text("Distance by odometer", "里程增长"),
            Text(
                "Growth of the odometer in each bar's time. A working hour without growth: see drive mode and faults.",
                "每根柱对应时间内里程表的增长。工作时段没有增长：请查看驾驶模式与故障。",
            ),
            growth("vehicle", "odometer_km", where=HERE, alias="driven"),
            unit=unit_of("vehicle", "odometer_km"),
            fields=[Field("driven", Text("driven", "行驶"), color=BLUE)],
            interval="10m",
            minimum=0,
            width=12,
        ),
        pen.timeseries(
            Text("Consumption", "能耗"),
            Text(
                "Mean power over mean speed, and what the outlook reckons with (of the last day, kept 30 days). Red "
                "from 0.45 kWh/km on, twice what an electric delivery van usually takes: heating, brakes, tyres or "
                "load.",
                "平均功率除以平均车速，以及展望所用的最近一天能耗（保留 30 天）。超过 0.45 kWh/km"
                " 变红（约为电动厢货常值两倍）："
                "检查加热、制动、轮胎或载重。",
            ),
            [*courses("vehicle", consumption, where=HERE, alias="trip"), Query(own, "$col")],
            unit=unit_by_name("consumption_kwh_per_km"),
            thresholds=steps((0.3, YELLOW), (0.45, RED)),
            fields=[
                Field("trip", Text("now", "当前"), color=BLUE),
                Field("day", Text("of the last day", "最近一天"), color=GREY),
            ],
            interval="10m",
            width=12,
        ),
    ]


def position(pen: Pen) -> list[Any]:
    """Return the panels of the way and of how good its positions are."""
    places = {name: f"{{{name}}}" for name in ("latitude_deg", "longitude_deg", "speed_kmh")}
    queries = courses("position", places, aggregate=LAST, where=HERE, is_table=True)
    name = "轨迹" if pen.language == "zh" else "way"
    return [
        pen.geomap(
            Text("Way", "轨迹"),
            Text(
                "Where it went in the shown range, in the colour of its speed. A straight jump: no fix in between; "
                "compare with the fix quality beside it.",
                "所选范围内的行驶轨迹，颜色表示车速。直线跳跃：其间没有定位，请对照旁边的定位质量。",
            ),
            queries,
            [layer.way(name, ref_id(index), color_by="speed_kmh") for index in range(len(queries))],
            unit=unit_of("position", "speed_kmh"),
            thresholds=steps((5, BLUE), (30, GREEN), (60, YELLOW), (100, RED), base=GREY),
            fields=[
                Field("latitude_deg", Text("Latitude", "纬度"), unit_of("position", "latitude_deg"), decimals=5),
                Field("longitude_deg", Text("Longitude", "经度"), unit_of("position", "longitude_deg"), decimals=5),
                Field("speed_kmh", Text("Speed", "车速"), unit_of("position", "speed_kmh"), decimals=0),
            ],
            interval="10s",
            width=12,
            height=16,
        ),
        _states(
            pen,
            Text("Fix quality", "定位质量"),
            Text(
                "Red means no position. Under open sky for minutes: antenna or its cable.",
                "红色表示无定位。开阔天空下持续数分钟：检查天线或馈线。",
            ),
            "position",
            "fix_quality",
            width=12,
            height=4,
        ),
        pen.timeseries(
            Text("Satellites used", "使用卫星数"),
            Text(
                "In the solution. Fewer than 8 (yellow) or 5 (red) under open sky: look at the antenna.",
                "参与定位的卫星数。开阔天空下少于 8（黄）或 5（红）：检查天线。",
            ),
            history("position", "satellites_used", where=HERE, alias="used"),
            unit="short",
            thresholds=_SATELLITE_STEPS,
            fields=[Field("used", Text("used", "使用"), color=BLUE)],
            width=12,
            height=4,
        ),
        pen.timeseries(
            Text("Horizontal dilution", "水平精度因子"),
            Text(
                "Geometry's factor on the error: below 2 is good, above 5 (red) the position is a guess; do not judge "
                "a route by it.",
                "几何因子：小于 2 良好，大于 5（红）时位置不可信，勿据此判断路线。",
            ),
            history("position", "hdop", aggregate=MAXIMUM, where=HERE, alias="hdop"),
            unit="short",
            thresholds=_HDOP_STEPS,
            fields=[Field("hdop", Text("HDOP", "HDOP"), color=BLUE)],
            width=12,
            height=4,
        ),
        pen.timeseries(
            Text("Best signal", "最强信号"),
            Text(
                "Carrier-to-noise of the strongest satellite. Below 35 dB (red) under open sky: antenna, cable, or a "
                "jammer nearby.",
                "最强卫星的载噪比。开阔天空下低于 35 dB（红）：天线、馈线问题或附近有干扰。",
            ),
            history("position", "snr_max_db", where=HERE, alias="snr"),
            unit=unit_of("position", "snr_max_db"),
            thresholds=steps((35, YELLOW), (40, GREEN), base=RED),
            fields=[Field("snr", Text("best", "最强"), color=BLUE)],
            width=12,
            height=4,
        ),
    ]


def body(pen: Pen) -> list[Any]:
    """Return the panels of doors, lock, faults, temperatures, insulation and supplies."""
    return [
        _bits(
            pen,
            Text("Open doors", "打开的门"),
            Text(
                "Red is open. A cargo door open while driving: stop, somebody may be taking parcels.",
                "红色为打开。行驶中货舱门打开：停车，可能有人取走包裹。",
            ),
            "doors",
            height=6,
        ),
        _states(
            pen,
            Text("Cargo lock", "货舱锁"),
            Text(
                "Jammed (red): nobody can unload; send a technician. Open for long outside a stop: lock it remotely.",
                "卡住（红）：无法卸货，请派技师。非停靠时长时间打开：远程上锁。",
            ),
            "vehicle",
            "cargo_lock",
            width=12,
            height=3,
        ),
        _states(
            pen,
            Text("Gear", "挡位"),
            Text(
                "Selected direction. Drive without speed for long: see drive mode and faults.",
                "所选挡位。长时间前进挡而无车速：查看驾驶模式与故障。",
            ),
            "vehicle",
            "gear",
            width=12,
            height=3,
        ),
        _bits(
            pen,
            Text("Vehicle faults", "车辆故障"),
            Text(
                "What the vehicle controller reports, a strip a fault; red is there. Brake, steering, insulation, "
                "interlock: do not drive on. The alarm of the same name has the level.",
                "车辆控制器上报的故障，每项一条，红色为存在。制动、转向、绝缘、互锁：禁止行驶。级别见同名报警。",
            ),
            "faults",
            height=14,
        ),
        pen.timeseries(
            Text("Drive temperatures", "驱动温度"),
            Text(
                "Motor windings and inverter. Red from 150 degC on: the controller takes power back; let it cool, and "
                "look at the cooling before the next trip.",
                "电机绕组与逆变器温度。超过 150 度变红：控制器将限功率；先冷却，并在下次出车前检查冷却系统。",
            ),
            [
                *history("vehicle", "motor_temperature_c", aggregate=MAXIMUM, where=HERE, alias="motor"),
                *history("vehicle", "inverter_temperature_c", aggregate=MAXIMUM, where=HERE, alias="inverter"),
            ],
            unit=unit_of("vehicle", "motor_temperature_c"),
            thresholds=_MOTOR_STEPS,
            fields=[
                Field("motor", Text("motor", "电机"), color=BLUE),
                Field("inverter", Text("inverter", "逆变器"), color=ORANGE),
            ],
            height=7,
        ),
        pen.timeseries(
            Text("Air temperatures", "空气温度"),
            Text(
                "Cargo space, cabin and outside. The cargo line is what a cold chain is judged by; above its order's "
                "limit: unload and look at the cooling.",
                "货舱、驾驶舱与车外温度。冷链以货舱温度为准；超过订单限值时：卸货并检查制冷。",
            ),
            [
                *history("vehicle", "cargo_temperature_c", where=HERE, alias="cargo"),
                *history("vehicle", "cabin_temperature_c", where=HERE, alias="cabin"),
                *history("vehicle", "ambient_temperature_c", where=HERE, alias="outside"),
            ],
            unit=unit_of("vehicle", "cargo_temperature_c"),
            fields=[
                Field("cargo", Text("cargo", "货舱"), color=BLUE),
                Field("cabin", Text("cabin", "驾驶舱"), color=ORANGE),
                Field("outside", Text("outside", "车外"), color=GREEN),
            ],
            height=7,
        ),
        pen.timeseries(
            Text("Heating and cooling power", "加热与制冷功率"),
            Text(
                "Both cost range. High with mild weather outside: a door stands open or a sensor is wrong.",
                "两者都消耗续航。车外温和而功率高：门未关或传感器故障。",
            ),
            [
                *history("vehicle", "heating_power_kw", where=HERE, alias="heating"),
                *history("vehicle", "aircon_power_kw", where=HERE, alias="cooling"),
            ],
            unit=unit_of("vehicle", "heating_power_kw"),
            fields=[
                Field("heating", Text("heating", "加热"), color=RED),
                Field("cooling", Text("cooling", "制冷"), color=BLUE),
            ],
            minimum=0,
            width=8,
            height=7,
        ),
        pen.timeseries(
            Text("Vehicle insulation", "整车绝缘"),
            Text(
                "High-voltage bus against the chassis. Red is an alarm of level 3: stop, nobody touches the van, call "
                "the workshop.",
                "高压母线对车身绝缘。变红为 3 级报警：停车，任何人不得触碰，联系维修。",
            ),
            history("vehicle", "insulation_kohm", aggregate=MINIMUM, where=HERE, alias="insulation"),
            unit=unit_of("vehicle", "insulation_kohm"),
            thresholds=alarm_limits("vehicle", "insulation_kohm"),
            fields=[Field("insulation", Text("insulation", "绝缘"), color=BLUE)],
            width=8,
            height=7,
        ),
        pen.timeseries(
            Text("Auxiliary voltage", "低压电源"),
            Text(
                "Of a 12 V supply. Below 11.5 V (red) node and autonomy computer go next: charge or change the "
                "auxiliary battery. A 24 V van is always green here.",
                "按 12 V 电源判定。低于 11.5 V（红）时节点与自动驾驶计算机即将断电：请充电或更换低压电池。24 V"
                " 车辆始终为绿。",
            ),
            history("vehicle", "auxiliary_voltage_v", aggregate=MINIMUM, where=HERE, alias="auxiliary"),
            unit=unit_of("vehicle", "auxiliary_voltage_v"),
            thresholds=_AUXILIARY_STEPS,
            fields=[Field("auxiliary", Text("auxiliary", "低压"), color=BLUE)],
            width=8,
            height=7,
        ),
    ]


def _states(pen: Pen, title: Text, description: Text, stream: str, field: str, **more: Any) -> Any:
    queries = history(stream, field, aggregate=LAST, where=HERE, alias=field)
    states = word.states(stream, field)
    more = {"height": 4} | more
    return pen.timeline(title, description, queries, states=states, fields=[Field(field, title)], **more)


def _bits(pen: Pen, title: Text, description: Text, field: str, **more: Any) -> Any:
    names = word.bits("vehicle", field)
    columns = {f"bit_{bit}": f"({{{field}}} & {1 << bit}) / {1 << bit}" for bit in names}
    states: States = {0: (Text("no", "否"), GREEN), 1: (Text("yes", "是"), RED)}
    return pen.timeline(
        title,
        description,
        courses("vehicle", columns, aggregate=LAST, where=HERE, alias="$col"),
        states=states,
        fields=[Field(f"bit_{bit}", text) for bit, text in names.items()],
        **more,
    )
