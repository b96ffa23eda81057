"""Characters as levels on a wire, and levels as a UART reads them.

A damaged bit does not only change a byte: in a start bit it shifts the whole character, in a stop bit it swallows the
next one, and a sender with another clock is all of that at once. So damage is done to levels, and a receiver that works
like a real one (it waits for a falling edge and looks at the middle of each bit) says what bytes come of it.

A framing or parity error does not hold a byte back: Linux (without INPCK) and the boards' UARTs hand it over as it is.
"""

from collections.abc import Sequence

HIGH, LOW = 1, 0
DATA_BITS = 8
PARITY_BITS = {"none": 0, "even": 1, "odd": 1}


def levels(data: bytes, parity: str = "none", *, samples: int = 1) -> list[int]:
    """Return the levels of `data`, `samples` to a bit: start bit low, data from the lowest bit on, parity, stop bit."""
    bits: list[int] = []
    for byte in data:
        character = [LOW, *(byte >> i & 1 for i in range(DATA_BITS))]
        if PARITY_BITS[parity]:
            character.append(byte.bit_count() & 1 ^ (parity == "odd"))
        bits += [*character, HIGH]
    return bits if samples == 1 else [bit for bit in bits for _ in range(samples)]


def receive(wire: Sequence[int], parity: str = "none", *, bit: float = 1.0) -> bytes:
    """Return what a UART reads of `wire`, on which one of its own bits lasts `bit` levels; the wire then rests high.

    A start bit that is over before its middle is no character. After a stop bit that is low the receiver waits until
    the wire is high again.
    """
    received = bytearray()
    at = 0
    while (start := _falling_edge(wire, at)) >= 0:
        if _level(wire, start + 0.5 * bit) == HIGH:
            at = start + 1
            continue
        byte = sum(_level(wire, start + (1.5 + i) * bit) << i for i in range(DATA_BITS))
        received.append(byte)
        at = int(start + (DATA_BITS + PARITY_BITS[parity] + 1.5) * bit)
    return bytes(received)


def overlap(first: Sequence[int], second: Sequence[int], offset: int) -> list[int]:
    """Return the wire on which `second` begins `offset` levels after `first`. Where both talk, low wins."""
    wire = [HIGH] * max(len(first), offset + len(second))
    wire[: len(first)] = first
    for i, level in enumerate(second, offset):
        wire[i] &= level
    return wire


def _falling_edge(wire: Sequence[int], at: int) -> int:
    """Return where the wire falls next, at `at` or later; -1 if it does not. Before its begin it was high."""
    before = HIGH if at == 0 else _level(wire, at)
    for i in range(at, len(wire)):
        if before == HIGH and wire[i] == LOW:
            return i
        before = wire[i]
    return -1


def _level(wire: Sequence[int], at: float) -> int:
    return wire[int(at)] if at < len(wire) else HIGH
