"""Levels on a wire and what a UART makes of them."""

import pytest

from swapline_bench.fault import uart

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize("parity", ["none", "even", "odd"])
@pytest.mark.parametrize("samples", [1, 4])
def test_what_was_sent_is_received(parity: str, samples: int) -> None:
    wire = uart.levels(EVERY_BYTE, parity, samples=samples)
    assert len(wire) == 256 * samples * (10 if parity == "none" else 11)
    assert uart.receive(wire, parity, bit=samples) == EVERY_BYTE


def test_parity_makes_the_ones_even_or_odd() -> None:
    assert uart.levels(b"\x07", "even") == [0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert uart.levels(b"\x07", "odd") == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("error", [0.97, 0.98, 1.02, 1.03])
def test_a_clock_that_is_a_little_off_does_no_harm(error: float) -> None:
    assert uart.receive(uart.levels(EVERY_BYTE), bit=error) == EVERY_BYTE


@pytest.mark.parametrize("error", [0.5, 0.9, 1.1, 2.0])
def test_a_clock_that_is_far_off_reads_something_else(error: float) -> None:
    assert uart.receive(uart.levels(EVERY_BYTE), bit=error) != EVERY_BYTE


def test_a_flipped_data_bit_changes_one_byte() -> None:
    wire = uart.levels(b"abc")
    wire[10 + 1] ^= 1
    assert uart.receive(wire) == b"acc"


def test_a_lost_start_bit_shifts_the_character() -> None:
    wire = uart.levels(b"\x02")  # its lowest bit becomes the start, its stop bit the highest of the data
    wire[0] = uart.HIGH
    assert uart.receive(wire) == b"\x81"
    wire = uart.levels(b"\xff")
    wire[0] = uart.HIGH
    assert uart.receive(wire) == b""


def test_a_lost_stop_bit_costs_the_next_character_its_beginning() -> None:
    wire = uart.levels(b"\x00\xf0\x55")
    wire[9] = uart.LOW
    received = uart.receive(wire)
    assert received[0] == 0  # a framing error hands the byte over as it is
    assert received[1:] != b"\xf0\x55"


def test_a_glitch_that_is_over_before_the_middle_of_a_bit_is_no_character() -> None:
    assert uart.receive([1, 1, 0, 1, 1, 1, 1, 1], bit=4) == b""


def test_low_wins_where_two_talk() -> None:
    wire = uart.levels(b"\x0f")
    assert uart.overlap(wire, wire, 0) == wire
    assert uart.receive(uart.overlap(wire, uart.levels(b"\xf3"), 0)) == b"\x03"
    assert uart.receive(uart.overlap(wire, uart.levels(b"\xf3"), 10)) == b"\x0f\xf3"
