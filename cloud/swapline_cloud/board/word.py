"""The catalogue's names of values and bits in both languages, with the colours that boards give them.

The English ones are `catalogue_text`'s own. A test holds that each has its Chinese one.
"""

from swapline_cloud.text import Text
from swapline_wire import catalogue_text

from .field import States
from .unit import BLUE, GREEN, GREY, LEVEL_COLORS, ORANGE, RED, YELLOW

PURPLE = "purple"
_NO_YES = {0: "否", 1: "是"}
_TIME_QUALITIES = {0: "无", 1: "估计", 2: "网关", 3: "NTP", 4: "GNSS"}

VEHICLE_FAULTS = (
    *(
        "驱动逆变器",
        "电机过温",
        "制动",
        "转向",
        "低压电源过低",
        "DC/DC 变换器",
        "绝缘低于限值",
        "高压互锁断开",
        "预充失败",
    ),
    *("自动驾驶计算机失联", "远程链路中断", "货舱门", "冷却", "胎压", "1 号电池位锁", "2 号电池位锁", "3 号电池位锁"),
)
PROTECTIONS = (
    *(
        "单体过压",
        "单体欠压",
        "整组过压",
        "整组欠压",
        "充电过温",
        "充电低温",
        "放电过温",
        "放电低温",
        "充电过流",
        "放电过流",
    ),
    *("短路", "采样前端故障", "软件锁定开关", "单体压差", "开关管过温", "绝缘", "传感器故障", "该 BMS 的其他保护"),
)
SLOT_FAULTS = (
    *(
        "电网输入",
        "输出过压",
        "输出过流",
        "过温",
        "风扇",
        "模块 BMS 无应答",
        "仓位锁",
        "输出接触器粘连",
        "绝缘低于限值",
    ),
    *("位置传感器", "急停", "烟雾或火警探测器"),
)
_BITS = {
    ("vehicle", "doors"): ("左货舱门", "右货舱门", "后货舱门", "检修门"),
    ("vehicle", "faults"): VEHICLE_FAULTS,
    ("module", "switches"): ("充电", "放电", "预充", "加热"),
    ("module", "protections"): PROTECTIONS,
    ("module", "balancing"): tuple(f"第 {number} 节电芯" for number in range(1, 33)),
    ("slot", "faults"): SLOT_FAULTS,
}
_ALARMS = (
    *("单体过压", "单体欠压", "整组过压", "整组欠压", "单体压差", "过温", "低温", "温差", "充电过流", "放电过流"),
    *("模块绝缘低", "整车绝缘低", "疑似碰撞的减速", "模块失联", "疑似热失控"),
)
_VALUES: dict[tuple[str, str], dict[int, str]] = {
    ("vehicle", "drive_mode"): dict(enumerate(("关闭", "就绪", "人工", "自动", "远程", "换电中", "故障", "急停"))),
    ("vehicle", "gear"): dict(enumerate(("驻车", "倒车", "空挡", "前进"))),
    ("vehicle", "cargo_lock"): dict(enumerate(("打开", "锁定", "卡住"))),
    ("position", "fix_quality"): dict(
        enumerate(("无定位", "单点", "差分", "PPS", "RTK 固定", "RTK 浮动", "航位推算", "手动", "模拟"))
    ),
    ("position", "fix_mode"): {1: "无定位", 2: "二维", 3: "三维"},
    ("slot", "occupied"): _NO_YES,
    ("slot", "locked"): _NO_YES,
    ("slot", "charger_state"): dict(enumerate(("空闲", "已连接", "充电中", "已充满", "故障", "已预约"))),
    ("node", "reset_cause"): dict(
        enumerate(("未知", "上电", "硬件", "看门狗", "深度睡眠", "软件", "欠压", "配置", "内存不足"))
    ),
    ("node", "clock_quality"): _TIME_QUALITIES,
    ("node", "safe_mode"): _NO_YES,
    ("event", "code"): dict(enumerate(("启动", "模块装入", "模块取出", "帧被丢弃", "行被丢弃", "时钟跳变", "配置"), 1)),
    ("alarm", "level"): {0: "已解除", 1: "1 级", 2: "2 级", 3: "3 级"},
    ("alarm", "stream"): dict(enumerate(("车辆", "位置", "模块", "电芯", "仓位", "电表", "节点", "事件", "报警"), 1)),
    ("alarm", "code"): dict(enumerate(_ALARMS, 1))
    | {32 + bit: f"BMS 保护：{name}" for bit, name in enumerate(PROTECTIONS)}
    | {64 + bit: f"充电机故障：{name}" for bit, name in enumerate(SLOT_FAULTS)}
    | {96 + bit: f"车辆故障：{name}" for bit, name in enumerate(VEHICLE_FAULTS)},
}
_COLORS: dict[tuple[str, str], dict[int, str]] = {
    ("vehicle", "drive_mode"): {0: GREY, 1: BLUE, 2: YELLOW, 3: GREEN, 4: PURPLE, 5: BLUE, 6: RED, 7: RED},
    ("vehicle", "gear"): {0: GREY, 1: YELLOW, 2: BLUE, 3: GREEN},
    ("vehicle", "cargo_lock"): {0: YELLOW, 1: GREEN, 2: RED},
    ("position", "fix_quality"): {0: RED, 1: GREEN, 2: GREEN, 3: GREEN, 4: GREEN, 5: GREEN, 6: YELLOW, 7: ORANGE},
    ("position", "fix_mode"): {1: RED, 2: YELLOW, 3: GREEN},
    ("slot", "occupied"): {0: GREY, 1: GREEN},
    ("slot", "locked"): {0: YELLOW, 1: GREEN},
    ("slot", "charger_state"): {0: GREY, 1: BLUE, 2: YELLOW, 3: GREEN, 4: RED, 5: PURPLE},
    ("node", "reset_cause"): {1: GREEN, 3: RED, 5: BLUE, 6: ORANGE, 7: BLUE, 8: RED},
    ("node", "clock_quality"): {0: RED, 1: ORANGE, 2: YELLOW, 3: GREEN, 4: GREEN},
    ("node", "safe_mode"): {0: GREEN, 1: RED},
    ("alarm", "level"): dict(LEVEL_COLORS),
}


def states(stream: str, field: str) -> States:
    """Return the names and colours of a state's values. Raises `KeyError` for a signal whose values have no names."""
    names = catalogue_text.VALUES[stream, field]
    colors = _COLORS.get((stream, field), {})
    chinese = _VALUES[stream, field]
    return {value: (Text(name, chinese[value]), colors.get(value, GREY)) for value, name in names.items()}


def bits(stream: str, field: str) -> dict[int, Text]:
    """Return the names of a flag word's bits. Raises `KeyError` for a signal that is none."""
    chinese = _BITS[stream, field]
    return {bit: Text(name, chinese[bit]) for bit, name in catalogue_text.BITS[stream, field].items()}


def single_bits(stream: str, field: str) -> States:
    """Return names of a flag word's values that have no bit or one."""
    none: States = {0: (Text("none", "无"), GREEN)}
    return none | {1 << bit: (text, RED) for bit, text in bits(stream, field).items()}
