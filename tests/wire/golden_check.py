"""Check swapline_wire against the golden vectors. The same file runs under CPython and under MicroPython:

    python tests/wire/golden_check.py tests/wire/golden.json
    MICROPYPATH=firmware micropython tests/wire/golden_check.py tests/wire/golden.json

It prints how many vectors held and fails at the first that does not.
"""

import binascii
import json
import struct
import sys

from swapline_wire import catalogue, frame, message
from swapline_wire.error import WireError

try:
    from collections.abc import Callable
    from typing import Any
except ImportError:
    pass  # MicroPython does not look at annotations

HEADER_FIELDS = (
    "priority",
    "journal",
    "seq",
    "boot",
    "time_quality",
    "anchor_utc_ms",
    "first_row_ms",
    "bay",
    "owner",
)


def reason_of(read: "Callable[[bytes], object]", data: bytes) -> str:
    """Return the reason with which `read` refuses `data`."""
    try:
        read(data)
    except WireError as error:
        reason: str = error.reason
        return reason
    raise AssertionError("not refused: %r" % binascii.hexlify(data))


def check_header(vector: "dict[str, Any]", data: bytes) -> "tuple[frame.Header, catalogue.Stream]":
    header = frame.read_header(data)
    for name in HEADER_FIELDS:
        assert getattr(header, name) == vector["header"][name], (vector["name"], name, header)
    stream = catalogue.stream_by_id(header.stream_id)
    assert stream is not None
    assert stream.name == vector["stream"], vector["name"]
    assert header.row_count == len(vector["rows"]), vector["name"]
    return header, stream


def check_rows(vector: "dict[str, Any]", data: bytes) -> None:
    """Read each row's known signals as any reader would: with the row size of the header, not with the catalogue's."""
    header, stream = check_header(vector, data)
    signals = stream.signals[: len(vector["rows"][0]) - 1]
    for i, expected in enumerate(vector["rows"]):
        offset = header.rows_offset + i * header.row_size
        fields = struct.unpack_from("<" + catalogue.struct_format(signals), data, offset)
        row = [header.first_row_ms + fields[0]] + list(fields[1:])
        assert row == expected, (vector["name"], row, expected)


def check_seal(vector: "dict[str, Any]", data: bytes) -> None:
    """Seal the vector's rows twice with one builder; both must give the very bytes."""
    header = vector["header"]
    stream = catalogue.stream_by_name(vector["stream"])
    assert stream is not None
    builder = frame.FrameBuilder(stream, bay=header["bay"], owner=header["owner"])
    for _ in range(2):
        for row in vector["rows"]:
            builder.add(row[0], row[1:])
        sealed = builder.seal(
            journal=header["journal"],
            seq=header["seq"],
            boot=header["boot"],
            time_quality=header["time_quality"],
            anchor_utc_ms=header["anchor_utc_ms"],
        )
        assert bytes(sealed) == data, (vector["name"], binascii.hexlify(sealed))


def check_up_head(vector: "dict[str, Any]", data: bytes) -> None:
    anchors = [message.Anchor(boot, utc_ms, quality) for boot, utc_ms, quality in vector["anchors"]]
    assert message.pack_up_head(vector["journal"], anchors) == data, vector["name"]
    assert message.read_up_head(data) == (vector["journal"], anchors, len(data)), vector["name"]


def check_ack(vector: "dict[str, Any]", data: bytes) -> None:
    ranges = [(first, last) for first, last in vector["ranges"]]
    assert message.pack_ack(vector["journal"], vector["utc_ms"], ranges) == data, vector["name"]
    assert message.read_ack(data) == (vector["journal"], vector["utc_ms"], ranges), vector["name"]


def check_bad_frame(vector: "dict[str, Any]", data: bytes) -> None:
    reason = reason_of(frame.read_header, data)
    assert reason == vector["reason"], (vector["name"], reason)


CHECKS = {
    "frames": (check_rows, check_seal),
    "other_catalogues": (check_rows,),
    "bad_frames": (check_bad_frame,),
    "up_heads": (check_up_head,),
    "acks": (check_ack,),
}


def check_all(path: str) -> int:
    """Check every vector of the file and return how many there were."""
    with open(path) as file:
        vectors = json.load(file)
    count = 0
    for group, checks in CHECKS.items():
        for vector in vectors[group]:
            for check in checks:
                check(vector, binascii.unhexlify(vector["hex"]))
            count += 1
    return count


if __name__ == "__main__":
    print(check_all(sys.argv[1]))
