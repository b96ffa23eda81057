"""Measure the wire format: bytes a row, rows sealed a second in MicroPython, rows decoded a second in CPython.

This file runs twice: under CPython, which starts it once more under MicroPython with the heap of a node.
"""

import gc
import os
import sys
import time

from swapline_wire import catalogue, frame

OWNER = "08PBAA00000000A0000001"
VALUES = [5324, -1299, 667, 995, 34551, 51800, 3325, 3331, 3328, 7, 12, 231, 249, 2, 3, 262, 240, 65000, 182]
VALUES += [9912345, 9870001, 506123, 489034, 16, 3, 0, 0]
ROWS = 5  # a sealing interval of readings at full pace
DURATION_S = 2


def seal(builder: frame.FrameBuilder) -> memoryview:
    for i in range(ROWS):
        builder.add(1000 * i, VALUES)
    view: memoryview = builder.seal(journal=1, seq=1, boot=1, time_quality=4, anchor_utc_ms=1790000000000)
    return view


def rate(call: object, *arguments: object) -> int:
    """Call again and again for a while and return rows a second."""
    assert callable(call)
    count = 0
    start = time.time()
    while time.time() - start < DURATION_S:
        call(*arguments)
        count += ROWS
    return int(count / (time.time() - start))


def measure_micropython() -> None:
    builder = frame.FrameBuilder(catalogue.MODULE, bay=2, owner=OWNER)
    print("sealing in MicroPython %21d rows/s" % rate(seal, builder))
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()  # type: ignore[attr-defined]  # MicroPython's
    for i in range(ROWS):
        builder.add(1000 * i, VALUES)
    print("heap that adding a row leaves behind %7d B" % ((gc.mem_alloc() - before) // ROWS))  # type: ignore[attr-defined]


def measure_cpython() -> None:
    import json
    import subprocess
    from pathlib import Path

    from swapline_wire.decode import decode

    sealed = bytes(seal(frame.FrameBuilder(catalogue.MODULE, bay=2, owner=OWNER)))
    row = {"time": 1790000000000, "module": OWNER, "bay": 2}
    for signal, raw in zip(catalogue.MODULE.signals, VALUES, strict=True):
        row[signal.name] = round(raw / 10**signal.decimals, signal.decimals)
    print("frame of %d module rows %23d B" % (ROWS, len(sealed)))
    print("the same as compact JSON %19d B" % (ROWS * len(json.dumps(row, separators=(",", ":")))))
    print("decoding in CPython %24d rows/s" % rate(decode, sealed), flush=True)
    firmware = Path(__file__).parent.parent / "firmware"
    subprocess.run(
        [Path(sys.executable).parent / "micropython", "-X", "heapsize=256K", __file__],
        env=os.environ | {"MICROPYPATH": str(firmware)},
        check=True,
    )


if __name__ == "__main__":
    if sys.implementation.name == "micropython":
        measure_micropython()
    else:
        measure_cpython()
