"""The fault model by itself: what it does to bytes and answers, that it counts it, and that a seed repeats it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from swapline_bench.fault.answer import Answer
from swapline_bench.fault.model import FaultError, FaultModel, Faults
from swapline_bench.serial_line import RequestFace

DATA = bytes(range(200))
TIMEOUT_S = 10.0


class Wire:
    """A line that only takes note."""

    name = "wire"
    baudrate = 9600
    parity = "none"
    character_s = 10 / 9600

    def __init__(self) -> None:
        self.is_talking = False
        self.came = bytearray()
        self.changed = asyncio.Event()

    def disturb(self, data: bytes) -> None:
        self.came += data
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def carried(faults: Faults, seed: int = 1, **options: Any) -> tuple[bytes, FaultModel]:
    model = FaultModel(faults, seed=seed)
    return model.carry(DATA, Wire(), from_node=options.get("from_node", False)), model


def test_a_healthy_line_changes_nothing() -> None:
    data, model = carried(Faults())
    assert data == DATA
    assert model.total == 0


@pytest.mark.parametrize("name", ["bit_errors", "drop", "double", "extra"])
@pytest.mark.parametrize("from_node", [False, True])
def test_damage_is_counted_by_its_name_and_repeats_with_its_seed(name: str, from_node: bool) -> None:
    faults = Faults.parse([f"{name}=0.02"])
    data, model = carried(faults, from_node=from_node)
    assert data != DATA
    assert set(model.injected) == {name.replace("_", "-")}
    again, _ = carried(faults, from_node=from_node)
    assert again == data
    other, _ = carried(faults, seed=2, from_node=from_node)
    assert other != data


def test_bytes_vanish_come_twice_or_come_from_elsewhere_as_often_as_counted() -> None:
    data, model = carried(Faults(drop=0.05))
    assert len(data) == len(DATA) - model.injected["drop"]
    data, model = carried(Faults(double=0.05))
    assert len(data) == len(DATA) + model.injected["double"]
    assert sorted(set(data)) == list(DATA)
    data, model = carried(Faults(extra=0.05))
    assert len(data) == len(DATA) + model.injected["extra"]


def test_nothing_passes_a_pulled_cable_or_a_wire_that_is_held_low() -> None:
    for faults in (Faults(pulled=True), Faults(stuck=True)):
        data, model = carried(faults)
        assert data == b""
        assert model.total == 1


def test_another_baud_rate_is_read_as_something_else_in_both_directions() -> None:
    for from_node in (False, True):
        data, model = carried(Faults(device_baudrate=4800), from_node=from_node)
        assert data != DATA
        assert model.injected["device-baudrate"] == 1
    data, model = carried(Faults(device_baudrate=9750))  # 1.6 % is within what every UART takes
    assert data == DATA
    assert model.total == 0


class Device(RequestFace):
    """Answers everything with the same."""

    REPLY = b"0123456789"

    def answer(self, request: bytes) -> bytes | None:
        del request
        return self.REPLY

    def refusal(self, request: bytes) -> bytes | None:
        del request
        return b"no"

    def from_another(self, request: bytes, reply: bytes) -> bytes | None:
        del request, reply
        return b"other"


def answered(faults: Faults, face: RequestFace | None = None) -> tuple[Answer, FaultModel]:
    model = FaultModel(faults, seed=1)
    return Answer(face or Device(), model, b"?", Device.REPLY), model


@pytest.mark.parametrize(
    ("name", "data"), [("silent", b""), ("exception", b"no"), ("wrong_slave", b"other"), ("late", Device.REPLY)]
)
def test_an_answer_is_replaced_as_the_fault_says(name: str, data: bytes) -> None:
    answer, model = answered(Faults.parse([f"{name}=1"]))
    assert answer.data == data
    assert dict(model.injected) == {name.replace("_", "-"): 1}
    assert answer.late_s == (Faults().late_s if name == "late" else 0)


def test_a_late_answer_is_near_until_it_has_come_whatever_goes_wrong_next() -> None:
    _, model = answered(Faults(late=1.0, late_s=5.0))
    model.faults = Faults()
    assert model.is_near(time.monotonic() + 5.0)
    assert not model.is_near(time.monotonic() + 7.0)


def test_a_truncated_answer_is_a_part_of_it_and_not_nothing() -> None:
    for _ in range(20):
        answer, _ = answered(Faults(truncated=1.0))
        assert 0 < len(answer.data) < len(Device.REPLY)
        assert Device.REPLY.startswith(answer.data)


def test_a_protocol_without_refusals_or_addresses_answers_as_always() -> None:
    class Plain(RequestFace):
        pass

    answer, model = answered(Faults(exception=1.0, wrong_slave=1.0), Plain())
    assert answer.data == Device.REPLY
    assert model.total == 0


def test_two_devices_with_one_address_make_a_mess() -> None:
    face = Device()
    face.rival = Device()
    answer, model = answered(Faults(two_slaves=1.0), face)
    assert answer.data != Device.REPLY
    assert model.injected["two-slaves"] == 1


async def test_noise_comes_while_nobody_talks_and_stops_with_the_fault() -> None:
    wire = Wire()
    told: list[str] = []
    model = FaultModel(Faults(noise=200), seed=3, on_fault=told.append)
    task = asyncio.create_task(model.run(wire))
    await wire.until(lambda: model.injected["noise"] >= 3)
    assert len(wire.came) >= 3
    assert [text for text in told if text.startswith("noise")]
    model.faults = Faults(babble=True)
    await wire.until(lambda: model.injected["babble"] >= 2)
    model.faults = Faults(stuck=True)
    wire.came.clear()
    await wire.until(lambda: bytes(wire.came) == b"\0")  # one break, then nothing for ever
    assert told[-1] == "faults: stuck"
    task.cancel()


def test_faults_are_read_from_a_command_line_and_said_again() -> None:
    faults = Faults.parse(["bit-errors=0.001", "noise=2", "stuck", "device-baudrate=4800", "late-s=1.5"])
    assert faults == Faults(bit_errors=0.001, noise=2.0, stuck=True, device_baudrate=4800, late_s=1.5)
    assert Faults.parse(faults.spoken()) == faults
    assert Faults.parse(["stuck=off", "none"]) == Faults()
    assert Faults.parse(["noise=2, late=0.1", "drop=0.2 stuck"]) == Faults(noise=2, late=0.1, drop=0.2, stuck=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bit-error=0.1", "there is no fault 'bit-error': did you mean bit-errors?"),
        ("xyzzy", "known are bit-errors, drop"),
        ("drop=lots", "drop needs a number: drop=0.01, for example"),
        ("drop", "drop needs a number"),
        ("drop=1.5", "is no share: give a number from 0 to 1"),
        ("noise=-1", "is below 0"),
        ("noise=nan", "noise needs a number"),
        ("stuck=maybe", "say only stuck, or stuck=off"),
    ],
)
def test_a_fault_that_cannot_be_is_one_clear_sentence(text: str, message: str) -> None:
    with pytest.raises(FaultError, match=message.replace("?", "\\?")):
        Faults.parse([text])
