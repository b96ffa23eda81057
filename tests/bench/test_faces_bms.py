"""BMS faces, byte for byte against frames that real packs sent."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swapline_bench.faces import modbus
from swapline_bench.faces.jbd import JbdFace, frame
from swapline_bench.faces.jbd_up16s import Up16s, Up16sFace
from swapline_bench.faces.modbus import ModbusFace, crc16
from swapline_bench.faces.seplos_v3 import SeplosV3
from swapline_bench.module import Module


def transactions(path: Path) -> list[tuple[bytes, bytes]]:
    document = json.loads(path.read_text())
    pairs = [
        (bytes.fromhex(t["request"]), bytes.fromhex(t["response"] or ""))
        for t in document["transactions"]
        if t["response"]
    ]
    assert len(pairs) >= 20
    return pairs


# Everything that a BMS face reads, at rest.
AT_REST: dict[str, Any] = {
    "code": "0" * 24,
    "voltage_v": 52.8,
    "current_a": 0.0,
    "soc_pct": 50.0,
    "soh_pct": 100.0,
    "capacity_full_ah": 518.0,
    "capacity_remaining_ah": 259.0,
    "cell_voltages_v": [3.3] * 16,
    "cell_temperatures_c": [25.0] * 4,
    "temperature_mosfet_c": 25.0,
    "temperature_ambient_c": 25.0,
    "cycles": 0,
    "charge_in_ah": 0.0,
    "charge_out_ah": 0.0,
    "charge_switch": True,
    "discharge_switch": True,
    "precharge_switch": False,
    "heater_switch": False,
    "balancing_mask": 0,
    "protections": 0,
}


def module_of(**values: Any) -> Module:
    """Return what a face reads of a module: the recorded packs are no 518 Ah modules."""
    assert set(values) <= set(AT_REST)
    return cast(Module, SimpleNamespace(**{**AT_REST, **values}))


def sg16s200a() -> Module:
    """What the recorded Seplos pack measured, read off the recording by hand."""
    low = {1, 2, 6, 8, 14, 15}
    return module_of(
        code="SP57B-A2506120022",
        voltage_v=53.25,
        current_a=-1.37,
        capacity_remaining_ah=274.56,
        capacity_full_ah=330.0,
        charge_out_ah=2900.0,
        soc_pct=83.2,
        soh_pct=99.9,
        cycles=10,
        cell_voltages_v=[3.327 if cell in low else 3.328 for cell in range(1, 17)],
        cell_temperatures_c=[21.5, 21.2, 21.4, 21.1],
        temperature_ambient_c=22.5,
        temperature_mosfet_c=21.2,
    )


def seplos(module: Module | None, *, is_master: bool = False) -> SeplosV3:
    unit = SeplosV3(lambda: module, is_master=is_master)
    unit.device_name = "SG16S200A-SP57B-A"
    unit.charge_limit_a = unit.discharge_limit_a = 180
    unit.has_pack_code = False
    return unit


def test_seplos_gives_the_recorded_answers(recordings: Path) -> None:
    module = sg16s200a()
    face = ModbusFace({0: seplos(module, is_master=True), 1: seplos(module)})
    pairs = dict(reversed(transactions(recordings / "bms/vectors/transcript_seplos_v3_sg16s200a.json")))
    equal = [request.hex()[:12] for request, answer in pairs.items() if face.answer(request) == answer]
    # cells, and every exception of the recording: none of them lies in a block that the pack has
    assert {"010411000011"[:8] + "001a", "00042100001a", "000114000500", "010112000900"} <= set(equal)


def test_seplos_cells_temperatures_and_version_are_the_recorded_bytes(recordings: Path) -> None:
    module = sg16s200a()
    face = ModbusFace({0: seplos(module, is_master=True), 1: seplos(module)})
    pairs = transactions(recordings / "bms/vectors/transcript_seplos_v3_sg16s200a.json")
    recorded = {request[:6]: answer for request, answer in reversed(pairs)}

    def ask(pdu: str) -> bytes:
        request = bytes.fromhex(pdu)
        answer = face.answer(request + crc16(request))
        assert answer is not None
        return answer

    system = bytes.fromhex("00042000001a")
    assert ask(system.hex()) == recorded[system]
    assert ask("01041100001a") == recorded[bytes.fromhex("01041100001a")]
    # The pack's sensors moved by 0.1 K between its two answers; the face shows one moment: 2 of 17 words differ.
    pack = bytes.fromhex("010410000011")
    differing = [i for i, (a, b) in enumerate(zip(ask(pack.hex()), recorded[pack], strict=True)) if a != b]
    assert set(differing) <= {22, 28, 37, 38}, differing
    version = bytes.fromhex("000417000033")
    assert ask(version.hex()) == recorded[version]


def test_seplos_coils_show_switches_states_and_protections() -> None:
    module = module_of(
        current_a=-40.0, balancing_mask=0x8001, charge_switch=False, protections=1 << 1 | 1 << 9 | 1 << 16
    )
    request = bytes.fromhex("010112000090")
    answer = ModbusFace({1: seplos(module)}).answer(request + crc16(request))
    assert answer is not None
    codes = answer[3:21]
    assert codes[6:9] == bytes((0x01, 0x80, 0x01))  # balancing cells 1 and 16; discharging
    assert (codes[9], codes[12], codes[15], codes[17]) == (0x08, 0x10, 0x01, 0x01)


def test_seplos_standby_coils_are_the_bytes_of_a_recorded_pack(recordings: Path) -> None:
    text = (recordings / "bms/captures/SP05B2312190075-all-frames.txt").read_text()
    recorded = bytes.fromhex("010112 0000000000000000 10 000000000000 03 0000 7af5")
    assert " ".join(f"0x{byte:02x}" for byte in recorded) in text
    request = bytes.fromhex("010112000090")
    assert ModbusFace({1: seplos(module_of())}).answer(request + crc16(request)) == recorded


def test_an_empty_bay_does_not_answer_and_a_module_takes_its_code_along() -> None:
    bays: list[Module | None] = [module_of(code="A" * 24), None]
    faces = [ModbusFace({1: SeplosV3(lambda bay=bay: bays[bay])}) for bay in range(2)]  # type: ignore[misc]
    request = bytes.fromhex("01041724000f")
    request += crc16(request)
    first = faces[0].answer(request)
    assert first is not None
    assert first[3:27] == b"A" * 24
    assert faces[1].answer(request) is None
    bays.reverse()
    assert faces[0].answer(request) is None
    assert faces[1].answer(request) == first


def jbd_capture_module(**differences: Any) -> Module:
    recorded = {
        "voltage_v": 15.60,
        "capacity_remaining_ah": 4.98,
        "capacity_full_ah": 5.0,
        "soc_pct": 100.0,
        "code": "JBD-SP04S034-L4S-200A-B-U",
        "cell_voltages_v": [3.909, 3.901, 3.895, 3.901],
        "cell_temperatures_c": [22.4, 22.3, 21.7],
    }
    return module_of(**{**recorded, **differences})


def test_jbd_gives_the_recorded_answers(recordings: Path) -> None:
    lines = (recordings / "bms/captures/JBD-SP04S034-L4S-200A-B-U.txt").read_text().splitlines()
    pairs = [line.replace(">>> ", "").replace(":", "").split(" <<< ") for line in lines]
    recorded = {bytes.fromhex(request): bytes.fromhex(answer) for request, answer in reversed(pairs)}
    module = jbd_capture_module()
    face = JbdFace(lambda: module)
    face.error_counts = recorded[bytes.fromhex("dda5aa00ff5677")][4:28]
    for request, answer in recorded.items():
        assert face.answer(request) == answer, request.hex()


def test_jbd_second_pack_is_the_published_frame(recordings: Path) -> None:
    published = json.loads((recordings / "bms/vectors/batmon-ha__jbd_fixtures.json").read_text())["data"]["SYSSI_3CELL"]
    module = jbd_capture_module(voltage_v=15.59, capacity_remaining_ah=4.99, cell_temperatures_c=[22.6, 22.5, 22.1])
    answer = JbdFace(lambda: module).answer(bytes.fromhex("dda50300fffd77"))
    assert answer is not None
    assert answer.hex() == published["raw"].removeprefix("hex:")


def test_jbd_refuses_writes_and_unknown_registers_and_ignores_damaged_requests() -> None:
    face = JbdFace(module_of)
    assert face.answer(bytes.fromhex("dd5ae1020001ff1c77")) == frame(0xE1, 0x80, b"")
    unknown = bytes((0x77, 0))
    assert face.answer(b"\xdd\xa5" + unknown + (-sum(unknown) & 0xFFFF).to_bytes(2) + b"\x77") == frame(0x77, 0x80, b"")
    assert face.answer(bytes.fromhex("dda50300fffc77")) is None
    assert JbdFace(lambda: None).answer(bytes.fromhex("dda50300fffd77")) is None


def test_jbd_takes_requests_from_a_noisy_stream() -> None:
    face = JbdFace(module_of)
    received = bytearray(b"\x00\xff" + bytes.fromhex("dda50300fffd77dda504"))
    assert face.take_request(received) == bytes.fromhex("dda50300fffd77")
    assert face.take_request(received) is None
    received += bytes.fromhex("00fffc77")
    assert face.take_request(received) == bytes.fromhex("dda50400fffc77")


def up16s_pack(words: list[int]) -> tuple[Module, dict[str, Any]]:
    """Turn the recorded status words into a module and into what only that pack has."""
    cells, sensors = words[34:50], words[51:55]
    module = module_of(
        voltage_v=words[0] / 100,
        current_a=((words[2] << 16 | words[3]) - 300000) / 100,
        soc_pct=words[4] / 100,
        capacity_remaining_ah=words[5] / 100,
        capacity_full_ah=words[6] / 100,
        temperature_mosfet_c=(words[8] - 500) / 10,
        temperature_ambient_c=(words[9] - 500) / 10,
        soh_pct=words[11],
        cycles=words[18],
        cell_voltages_v=[v / 1000 for v in cells],
        cell_temperatures_c=[(t - 500) / 10 for t in sensors],
    )
    own = {
        "terminal_voltage_v": words[1] / 100,
        "rated_capacity_ah": words[7] / 100,
        "flags": words[17],
        "charge_current_limit_a": words[30] / 10,
        "discharge_current_limit_a": words[32] / 10,
        "signature": words[57],
        "tail": tuple(words[73:]),
    }
    return module, own


def test_up16s_gives_the_recorded_answers_of_both_packs(recordings: Path) -> None:
    pairs = transactions(recordings / "bms/vectors/transcript_jbd_up16s_two_packs.json")
    equal = {1: 0, 2: 0}
    torn = 0
    for request, answer in pairs:
        if request[1:4].hex() != "781000":
            continue
        words = [int.from_bytes(answer[i : i + 2]) for i in range(8, len(answer) - 2, 2)]
        module, own = up16s_pack(words)
        pack = Up16s(lambda module=module: module)  # type: ignore[misc]
        for name, value in own.items():
            setattr(pack, name, value)
        given = Up16sFace({request[0]: pack}).answer(request)
        if words[27] != min(words[51:55]):
            torn += 1  # the pack took its coldest sensor and the list of its sensors at different moments
            continue
        assert given == answer
        equal[request[0]] += 1
    assert min(equal.values()) >= 7, equal
    assert torn <= 1


def test_up16s_identity_is_the_recorded_block(recordings: Path) -> None:
    pairs = transactions(recordings / "bms/vectors/transcript_jbd_up16s_two_packs.json")
    request, answer = next(pair for pair in pairs if pair[0][:4].hex() == "01781c00")
    pack = Up16s(lambda: module_of(code="UP16S019000123525032200332"))
    pack.product = "ECO-LFP48100-3U-024EDD"
    assert Up16sFace({1: pack}).answer(request) == answer


def test_up16s_keeps_silent_for_other_packs_and_damaged_requests() -> None:
    face = Up16sFace({1: Up16s(module_of)})
    request = bytes.fromhex("0278100010a00000")
    assert face.answer(request + crc16(request)) is None
    received = bytearray(bytes.fromhex("0178100010a000000000"))
    assert face.take_request(received) is None
    assert not received


@pytest.mark.parametrize("address", [0x0FFF, 0x1012, 0x1400])
def test_seplos_refuses_ranges_that_leave_its_blocks(address: int) -> None:
    with pytest.raises(modbus.ModbusError) as refusal:
        SeplosV3(module_of).answer(bytes((4,)) + address.to_bytes(2) + b"\0\1")
    assert refusal.value.code == modbus.ILLEGAL_ADDRESS
