"""Good input for every target, made by the code that writes it: what a fuzzer begins to change."""

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from swapline_bench.faces import gnss, jbd, jbd_up16s, modbus, sdm630, seplos_v3, slot_charger, vcu
from swapline_bench.frame_source import FrameSource
from swapline_bench.serial_line import RequestFace
from swapline_bench.world import World
from swapline_node.journal import Journal
from swapline_wire.catalogue import CELLS, EVENT_STREAM, NODE, not_available
from swapline_wire.frame import FrameBuilder
from swapline_wire.message import Anchor, pack_ack
from tests.fuzz import gateway_target, node_target

_POLLS = 2  # the first asks for everything, the second knows the module already
_TOML = """
[mqtt]
host = "127.0.0.1"
port = 1883
share_group = "gateways"
[spool]
limit_bytes = 4000000000
[sink]
type = "influxdb1"
url = "http://127.0.0.1:8086"
[quota]
frames_per_s = 2000.0
"""


def _frames() -> list[bytes]:
    source = FrameSource()
    event = [(5, not_available(EVENT_STREAM.signals))]
    cells = [(1, not_available(CELLS.signals)), (2, not_available(CELLS.signals))]
    return [
        source.frame(),
        source.frame(event, stream=EVENT_STREAM, bay=0, owner=""),
        source.frame(cells, stream=CELLS),
    ]


def _messages() -> list[bytes]:
    source = FrameSource()
    undated = source.frame(quality=0)
    return [source.message(*_frames()), source.message(undated, anchors=[Anchor(1, source.anchor_utc_ms, 2)])]


def _acks() -> list[bytes]:
    return [pack_ack(7, 1_800_000_000_000, [(1, 5), (9, 9)]), pack_ack(7, 0, [])]


def _commands() -> list[bytes]:
    texts: list[dict[str, object]] = [{"id": 1, "command": name} for name in ("ping", "log", "config", "restart")]
    return [json.dumps(text).encode() for text in [*texts, {"id": "a", "command": "config", "config": {"fleet": "x"}}]]


def _configs() -> list[bytes]:
    bus = {"name": "bay1", "port": "/dev/ttyS0", "devices": [{"driver": "jbd", "bay": 1}]}
    whole = {
        "fleet": "demo",
        "node": "van-001",
        "link": {"host": "broker", "tls": {"ca": "ca.der"}},
        "streams": {"module": {"report": "all"}},
        "buses": [bus, {"name": "g", "port": 1, "devices": [{"driver": "gnss"}]}],
    }
    return [json.dumps(whole).encode(), json.dumps({"fleet": "a", "node": "b", "link": {"host": "c"}}).encode()]


def _journals() -> list[bytes]:
    """Return the files of a journal that a node wrote, as `node_target.read_journal` takes them."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(folder, limit_bytes=65536)
        journal.open()
        for seq in range(1, 5):
            builder = FrameBuilder(NODE, buffer_bytes=1024)
            builder.add(seq, not_available(NODE.signals))
            sealed = builder.seal(journal=journal.id, seq=seq, boot=journal.boot, time_quality=0, anchor_utc_ms=0)
            journal.append(sealed, seq, seq % 3)
            journal.commit()
        journal.decide_anchor(1_800_000_000_000, 2)
        journal.close()
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    packed = b""
    for name, data in sorted(files.items()):
        place = {"s": 0, "r": 1, "e": 3, "a": 4}[name[0]]
        packed += bytes((place, len(data) >> 8, len(data) & 0xFF)) + data
    return [packed, packed[: len(packed) // 2]]


def _states() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(folder, limit_bytes=65536)
        journal.open()
        journal.close()
        return [(Path(folder) / "state").read_bytes()]


def _pieces(bodies: list[bytes]) -> bytes:
    return b"".join(bytes((len(body) + 1,)) + b"\1" + body for body in bodies)


class Conversation(node_target.Line):
    """A line with a simulated device at its other end; `said` is what that answered."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        super().__init__([])
        self.said: list[bytes] = []
        self._answer = answer

    def write(self, data: bytes) -> None:
        answer = self._answer(bytes(data))
        assert answer is not None
        self.said.append(answer)
        self.hear(answer)


def _conversation(
    name: str,
    face: RequestFace,
    *,
    dress: Callable[[bytes], bytes],
    undress: Callable[[bytes], bytes],
) -> list[bytes]:
    """Return what a device answers to a driver's own questions, as the target of that driver takes it."""
    line = Conversation(face.answer)
    assert node_target.poll(name, line, _POLLS) == _POLLS
    bodies = [undress(answer) for answer in line.said]
    assert [dress(body) for body in bodies] == line.said
    return [_pieces(bodies)]


def _modbus_lines(name: str, unit: modbus.Unit) -> list[bytes]:
    return _conversation(
        name,
        modbus.ModbusFace({1: unit}),
        dress=node_target.as_modbus,
        undress=lambda answer: b"\1" + answer[:2] + answer[3:-2],
    )


def _jbd_lines() -> list[bytes]:
    module = World(van_count=1).vans[0].bays[0]
    face = jbd.JbdFace(lambda: module)
    return _conversation("jbd", face, dress=node_target.as_jbd, undress=lambda answer: answer[1:3] + answer[4:-3])


def _up16s_lines() -> list[bytes]:
    module = World(van_count=1).vans[0].bays[0]
    face = jbd_up16s.Up16sFace({1: jbd_up16s.Up16s(lambda: module)})
    return _conversation(
        "jbd_up16s",
        face,
        dress=node_target.as_up16s,
        undress=lambda answer: (b"\0" if answer[2] == jbd_up16s.STATUS[0] >> 8 else b"\1") + answer[8:-2],
    )


def _seplos_lines() -> list[bytes]:
    module = World(van_count=1).vans[0].bays[0]
    return _modbus_lines("seplos_v3", seplos_v3.SeplosV3(lambda: module))


def _meter_lines() -> list[bytes]:
    return _modbus_lines("sdm630", sdm630.Sdm630(World(van_count=0).stations[0].meter))


def _vcu_lines() -> list[bytes]:
    return _modbus_lines("vcu", vcu.Vcu(World(van_count=1).vans[0]))


def _slot_charger_lines() -> list[bytes]:
    return _modbus_lines("slot_charger", slot_charger.SlotCharger(World(van_count=0).stations[0].slots[0]))


def _nmea() -> list[bytes]:
    begin = datetime.fromtimestamp(node_target.NMEA_UTC_MS / 1000, UTC)
    epochs = [gnss.Fix(begin + timedelta(seconds=n), 31.8, 117.2, 30.0, 40.0, 90.0) for n in (0, 1, 2, 86402)]
    text = gnss.burst(epochs[0])
    bodies = [line[1:].split(b"*")[0] for epoch in epochs for line in gnss.burst(epoch).split()]
    others = [b"GNZDA,120003.00,01,11,2026,00,00", b"GNGLL,3148.0,N,11712.0,E,120003.00,A,A"]
    return [text, b"\n".join(b"@" + body for body in [*bodies, *others])]


def _packets() -> list[bytes]:
    topic = b"swapline/v1/f/n/ack"
    ack = _acks()[0]
    body = len(topic).to_bytes(2, "big") + topic + b"\0\1" + ack
    return [b"\x20\x02\0\0\x90\x04\0\1\1\1" + b"\x32" + bytes((len(body),)) + body + b"\xd0\0" + b"\x40\x02\0\1"]


def _births() -> list[bytes]:
    birth = {"online": True, "boot": 3, "journal": 7, "clock_quality": 0, "bays": [1, 2], "holder": "van"}
    return [b"\1" + json.dumps(birth).encode(), b"\1"]


def _messages_with_topics() -> list[bytes]:
    begin = bytes((gateway_target.OWN_TOPIC,))
    return [begin + name.encode() + b"\n" + _messages()[0] for name in gateway_target.TOPICS]


_MAKERS: dict[str, Callable[[], list[bytes]]] = {
    "ack": _acks,
    "command": _commands,
    "config": _configs,
    "frame": _frames,
    "jbd": _jbd_lines,
    "jbd_up16s": _up16s_lines,
    "journal": _journals,
    "message": lambda: [b"\0" + message for message in _messages()] + _births() + _messages_with_topics(),
    "mqtt": _packets,
    "nmea": _nmea,
    "sdm630": _meter_lines,
    "seplos_v3": _seplos_lines,
    "slot_charger": _slot_charger_lines,
    "spool": lambda: [b"\0\0\x10" + bytes(16), b"\0\1\1", b"\1\0\x40" + b"\xff" * 64, b"\0\xff\x40" + b"\xff" * 64],
    "state": _states,
    "toml": lambda: [_TOML.encode()],
    "topic": lambda: [name.encode() for name in gateway_target.TOPICS],
    "up": _messages,
    "vcu": _vcu_lines,
}
SEEDS = {name: cache(make) for name, make in _MAKERS.items()}  # once: journals and times differ at each call
