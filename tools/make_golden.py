"""Write tests/wire/golden.json: frames, messages and acknowledgements built byte by byte from docs/wire.md.

This shares nothing with `swapline_wire`: integers are laid out by `int.to_bytes`, the CRC-32 is computed bit by bit,
and the widths of every stream's signals stand here a second time. So the vectors say what the contract is, not what
the code does; whoever changes them changes the contract.

    python tools/make_golden.py            write the file
    python tools/make_golden.py --check    only say whether the file is what this program would write
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "tests" / "wire" / "golden.json"

# Bytes of each signal, negative for a signed one, in catalogue order.
WIDTHS = {
    "vehicle": [2, 4, 1, 1, 1, 1, 2, 2, -4, 2, 2, 2, 2, -4, -4, -2, -2, -2, -2, -2, -2, 2, 2, 2, 2, 4, 4],
    "position": [-4, -4, -4, 2, 2, 1, 1, 1, 1, 2, 2, 2, 1],
    "module": [4, -4, 2, 2, 4, 4, 2, 2, 2, 1, 1, -2, -2, 1, 1, -2, -2, 2, 4, 4, 4, 4, 4, 1, 1, 4, 4],
    "cells": [1] + [2] * 16 + [-2] * 8,
    "slot": [1, 1, 1, 2, 2, 2, 2, 4, -2, 2, 4, 4],
    "meter": [2, 2, 2, -4, -4, -4, -4, -4, -4, -4, -4, -2, 2, 4, 4],
    "node": [4, 1] + [4] * 6 + [4] * 4 + [4] * 9 + [2, -1, 1, -4, 2, 4, 1],
    "event": [2, 1, 4, 2, 2, 4, 4, 4, 4, 4, -4, -4],
    "alarm": [2, 1, 1, 1, 1, -4, -4],
}
STREAM_IDS = {name: number for number, name in enumerate(WIDTHS, 1)}
PRIORITIES = {"event": 1, "alarm": 2}
UTC_MS = 1790000000000  # 2026-09-21 14:13:20 UTC
OWNER = "08PBAA00000000A0000001"


def le(value: int, width: int) -> bytes:
    """Lay out an integer, least significant byte first; a negative `width` is a signed one."""
    return value.to_bytes(abs(width), "little", signed=width < 0)


def crc32(data: bytes) -> bytes:
    """Return the CRC-32 of IEEE 802.3, bit by bit: polynomial EDB88320, all ones before, inverted after."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    return le(register ^ 0xFFFFFFFF, 4)


def nothing(stream: str) -> list[int]:
    """Return "not available" for every signal of a stream: all ones, or the most negative number of a signed one."""
    return [-(1 << (8 * -width - 1)) if width < 0 else (1 << (8 * width)) - 1 for width in WIDTHS[stream]]


def row(stream: str, *known: int) -> list[int]:
    """Return a row of the `known` first values; the others are not available."""
    return [*known, *nothing(stream)[len(known) :]]


def header(stream: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "priority": PRIORITIES.get(stream, 0),
        "journal": 0x1A2B3C4D,
        "seq": 7,
        "boot": 3,
        "time_quality": 4,
        "anchor_utc_ms": UTC_MS,
        "first_row_ms": 1000,
        "bay": 0,
        "owner": "",
    }
    return fields | changes


def build(stream: str, fields: dict[str, Any], rows: list[tuple[int, list[int]]], **odd: Any) -> bytes:
    """Build a frame of rows (time since boot, raw values). `odd` makes it what no right sender would send."""
    widths = odd.get("widths", WIDTHS[stream])
    owner: bytes = odd.get("owner", fields["owner"].encode())
    body = b""
    for time_ms, values in rows:
        body += le(time_ms - fields["first_row_ms"], -4)
        body += b"".join([le(value, width) for value, width in zip(values, widths, strict=True)])
    data = (
        b"SL"
        + le(fields.get("version", 1), 1)
        + le(fields["priority"], 1)
        + le(42 + len(owner) + len(body) + 4, 2)
        + le(fields["journal"], 4)
        + le(fields["seq"], 4)
        + le(fields["boot"], 4)
        + le(fields["time_quality"], 1)
        + le(odd.get("stream_id", STREAM_IDS[stream]), 1)
        + le(fields["anchor_utc_ms"], -8)
        + le(fields["first_row_ms"], -8)
        + le(fields["bay"], 1)
        + le(len(owner), 1)
        + le(odd.get("row_size", 4 + sum(map(abs, widths))), 2)
        + le(odd.get("count", len(rows)), 2)
        + owner
        + body
    )
    return data + crc32(data)


def frame(name: str, stream: str, rows: list[tuple[int, list[int]]], **changes: Any) -> dict[str, Any]:
    fields = header(stream, **{"first_row_ms": rows[0][0]} | changes)
    return {
        "name": name,
        "stream": stream,
        "header": fields,
        "rows": [[time_ms, *values] for time_ms, values in rows],
        "hex": build(stream, fields, rows).hex(),
    }


def good_frames() -> list[dict[str, Any]]:
    module = [5324, -1299, 667, 995, 34551, 51800, 3325, 3331, 3328, 7, 12, 231, 249, 2, 3, 262, 240, 65000, 182]
    module += [9912345, 9870001, 506123, 489034, 16, 3, 0, 0]
    slot = (1, 1, 2, 5472, 20000, 10944, 25000, 987654321, 413, 0, 754, 99)
    node = [754, 1, 61440, 184320, 98304, 8192, 1500000, 3, 41, 38, 0, 0, 512, 90, 0, 700, 2, 1, 0, 1, 0, 23, -67, 4]
    node += [-12, 41, 0, 0]
    return [
        frame("module, two rows", "module", [(1000, module), (2000, row("module", 5325, 0))], bay=2, owner=OWNER),
        frame("clock unknown", "node", [(754000, node)], time_quality=0, anchor_utc_ms=0, seq=1, boot=1),
        frame(
            "south-west, not a number and abnormal",
            "position",
            [(1, [-338567844, -706499981, 57043, *row("position")[3:11], 0xFFFE, 0xFE])],
        ),
        frame("nothing available", "vehicle", [(5, nothing("vehicle"))]),
        frame(
            "row before the first one",
            "vehicle",
            [(60000, row("vehicle", 1425, 123456789, 3, 3, 0, 1)), (59000, row("vehicle", 1425))],
        ),
        frame(
            "one segment of cells", "cells", [(10000, [1, *range(3320, 3336), *range(-40, 0, 5)])], bay=1, owner=OWNER
        ),
        frame("slot without owner, highest bay", "slot", [(0, list(slot))], bay=255),
        frame("meter, feeding in", "meter", [(86400000, row("meter", 23001, 22987, 23044, 15250, -15250, 0, -4200))]),
        frame(
            "module taken out",
            "event",
            [(4242, [3, 0, 99, 214, 995, *nothing("event")[5:8], 5400, 45678123, -338567844, 1510000000])],
            bay=3,
            owner=OWNER,
        ),
        frame("alarm of the longest owner", "alarm", [(9, [1, 3, 3, 12, 5, 812, 600])], bay=1, owner=OWNER + "AB"),
        frame(
            "largest numbers",
            "alarm",
            [((1 << 41) - 1, [65533, 3, 253, 253, 253, 0x7FFFFFFF, -0x7FFFFFFE])],
            journal=0xFFFFFFFF,
            seq=0xFFFFFFFF,
            boot=0xFFFFFFFF,
            anchor_utc_ms=4102444799999,
            time_quality=1,
        ),
        frame(
            "smallest numbers",
            "event",
            [(1 - (1 << 41), row("event", 0, 0, 0))],
            journal=0,
            seq=0,
            boot=0,
            anchor_utc_ms=315964800000,
            time_quality=2,
        ),
    ]


def other_catalogues() -> list[dict[str, Any]]:
    """Frames of an older and of a newer firmware: they decode, but this catalogue's builder would not seal them."""
    short = header("vehicle")
    long = header("slot", bay=4)
    slot = [1, 0, 1, 0, 0, 0, 0, 5, 250, 0, 0, 0]
    before_requests = header("slot", bay=3)
    before_places = header("event", bay=2, owner=OWNER)
    left = [3, 0xFF, 0, 214, 995, *nothing("event")[5:8], 5400]
    return [
        {
            "name": "older firmware with three signals",
            "stream": "vehicle",
            "header": short,
            "rows": [[1000, 500, 77, 1], [1250, 520, 78, 1]],
            "hex": build("vehicle", short, [(1000, [500, 77, 1]), (1250, [520, 78, 1])], widths=[2, 4, 1]).hex(),
        },
        {
            "name": "slot of before swap requests",
            "stream": "slot",
            "header": before_requests,
            "rows": [[1000, *slot[:11]]],
            "hex": build("slot", before_requests, [(1000, slot[:11])], widths=WIDTHS["slot"][:11]).hex(),
        },
        {
            "name": "module taken out, of before places",
            "stream": "event",
            "header": before_places,
            "rows": [[1000, *left]],
            "hex": build("event", before_places, [(1000, left)], widths=WIDTHS["event"][:9]).hex(),
        },
        {
            "name": "newer firmware with five more bytes",
            "stream": "slot",
            "header": long,
            "rows": [[1000, *slot]],
            "hex": build("slot", long, [(1000, [*slot, 1, 0xABCD0123])], widths=[*WIDTHS["slot"], 1, 4]).hex(),
        },
    ]


def bad_frames() -> list[dict[str, str]]:
    rows = [(1000, row("slot", 1, 1, 2))]
    good = build("slot", header("slot", bay=1), rows)

    def bad(name: str, reason: str, data: bytes) -> dict[str, str]:
        return {"name": name, "reason": reason, "hex": data.hex()}

    def odd(reason: str, name: str, changes: dict[str, Any] | None = None, **kinds: Any) -> dict[str, str]:
        return bad(name, reason, build("slot", header("slot", **changes or {}), rows, **kinds))

    return [
        bad("empty", "truncated", b""),
        bad("cut after the prefix", "truncated", good[:17]),
        bad("last byte missing", "truncated", good[:-1]),
        bad("one byte too many", "bad_length", good + b"\0"),
        bad("not ours", "bad_magic", b"LS" + good[2:]),
        bad("checksum", "bad_checksum", good[:-1] + bytes([good[-1] ^ 1])),
        bad("length below a frame's least", "bad_length", good[:4] + le(17, 2) + good[6:]),
        bad("length above a frame's most", "bad_length", good[:4] + le(4097, 2) + good[6:]),
        bad(
            "version 1 without a whole header", "truncated", (short := b"SL\1\0" + le(18, 2) + bytes(8)) + crc32(short)
        ),
        odd("newer_version", "version 2", {"version": 2}),
        odd("bad_header", "priority 3", {"priority": 3}),
        odd("bad_header", "time quality 5", {"time_quality": 5}),
        odd("bad_header", "anchor without a clock", {"time_quality": 0}),
        odd("bad_header", "clock without an anchor", {"anchor_utc_ms": 0}),
        odd("bad_header", "anchor in 2100", {"anchor_utc_ms": 4102444800000}),
        odd("bad_header", "owner of 25 bytes", owner=b"A" * 25),
        odd("bad_header", "owner with a space", owner=b"A B"),
        odd("bad_header", "owner beyond ASCII", owner=b"\xc3\xa9"),
        odd("bad_header", "no rows", count=0),
        odd("bad_header", "more rows than bytes", count=2),
        odd("bad_header", "rows without a signal", row_size=4),
        odd("bad_header", "rows smaller than stated", row_size=32),
    ]


def undecodable() -> list[dict[str, str]]:
    """Frames whose header is right but whose rows this catalogue cannot read: kept aside, replayed after an upgrade."""
    rows = [(1000, row("slot", 1, 1, 2))]
    cut = build("slot", header("slot"), [(1000, [1, 1, 2, 3])], widths=[1, 1, 1, 1])
    return [
        {
            "name": "unknown stream",
            "reason": "unknown_stream",
            "hex": build("slot", header("slot"), rows, stream_id=200).hex(),
        },
        {"name": "row ends inside a signal", "reason": "bad_header", "hex": cut.hex()},
    ]


def up_heads() -> list[dict[str, Any]]:
    heads = []
    for name, anchors in (("no anchors", []), ("two boots", [[1, UTC_MS - 5, 2], [2, UTC_MS, 4]])):
        data = b"SM" + le(1, 1) + le(len(anchors), 1) + le(0x1A2B3C4D, 4)
        for boot, utc_ms, quality in anchors:
            data += le(boot, 4) + le(utc_ms, -8) + le(quality, 1)
        heads.append({"name": name, "journal": 0x1A2B3C4D, "anchors": anchors, "hex": (data + crc32(data)).hex()})
    return heads


def acks() -> list[dict[str, Any]]:
    found = []
    for name, utc_ms, ranges in (
        ("only the time", UTC_MS, []),
        ("two ranges", 0, [[1, 40], [42, 42]]),
        ("the highest number", UTC_MS, [[0xFFFFFFFF, 0xFFFFFFFF]]),
    ):
        data = b"SA" + le(1, 1) + le(len(ranges), 1) + le(0x1A2B3C4D, 4) + le(utc_ms, -8)
        data += b"".join([le(first, 4) + le(last, 4) for first, last in ranges])
        found.append(
            {"name": name, "journal": 0x1A2B3C4D, "utc_ms": utc_ms, "ranges": ranges, "hex": (data + crc32(data)).hex()}
        )
    return found


def render() -> str:
    vectors = {
        "frames": good_frames(),
        "other_catalogues": other_catalogues(),
        "bad_frames": bad_frames(),
        "undecodable": undecodable(),
        "up_heads": up_heads(),
        "acks": acks(),
    }
    groups = [
        f'"{name}": [\n' + ",\n".join([json.dumps(entry) for entry in entries]) + "\n]"
        for name, entries in vectors.items()
    ]
    return "{\n" + ",\n".join(groups) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write tests/wire/golden.json")
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    if parser.parse_args().check:
        return int(PATH.read_text() != render())
    PATH.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
