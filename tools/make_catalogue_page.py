"""Write docs/catalogue.md from the catalogue.

python tools/make_catalogue_page.py            write the page
python tools/make_catalogue_page.py --check    only say whether the page is up to date
"""

import argparse
import sys
from pathlib import Path

from swapline_wire import alarm_table, catalogue, catalogue_text
from swapline_wire.catalogue import FORMATS, STREAMS, Signal, Stream, find_signal

PATH = Path(__file__).parent.parent / "docs" / "catalogue.md"
OWNERS = {
    catalogue.OF_NODE: "the node (van or station)",
    catalogue.OF_BAY: "a bay of the node",
    catalogue.OF_MODULE: "the module of the frame's owner code, in the frame's bay (no code: the node itself)",
}
PRIORITIES = {catalogue.ROUTINE: "0 routine", catalogue.EVENT: "1 event", catalogue.ALARM: "2 alarm"}
INTRODUCTION = """\
# Catalogue of streams and signals

Generated from `firmware/swapline_wire/catalogue*.py` by `python tools/make_catalogue_page.py`;
a test holds that it is up to date. How rows travel is in [wire.md](wire.md).

A value travels as the integer `raw`; the quantity is `raw / 10**decimals`. *Offset* is the place in a row, behind the
four bytes of the row's time. *From*, *to* and *deadband* are quantities in the signal's unit: what lies outside becomes
`abnormal`, and with report by exception a row is kept when one of its signals moved by its deadband. *Kind*: a
`measurement` may be averaged; a `total` only grows until its device restarts, so take differences; a `state` has a last
value and durations; a `key` is a part of the row's identity (a database tag).

## Formats

| format | bytes | smallest | largest | not available | abnormal |
|---|---|---|---|---|---|
"""


def quantity(signal: Signal, raw: int) -> str:
    return f"{raw / 10**signal.decimals:.{signal.decimals}f}" if signal.decimals else str(raw)


def format_rows() -> list[str]:
    lines = []
    for name, (_, width, not_available, abnormal) in FORMATS.items():
        bits = 8 * width
        low, high = (0, (1 << bits) - 3) if name[0] == "u" else (-(1 << bits - 1) + 2, (1 << bits - 1) - 1)
        codes = [f"0x{code & (1 << bits) - 1:0{2 * width}X}" for code in (not_available, abnormal)]
        lines.append(f"| {name} | {width} | {low} | {high} | {codes[0]} | {codes[1]} |")
    return lines


def signal_rows(stream: Stream) -> list[str]:
    lines = [
        "| offset | signal | unit | format | decimals | from | to | deadband | kind | source | meaning |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    offset = 4
    for signal in stream.signals:
        text = catalogue_text.signal_text(stream, signal)
        limits = [quantity(signal, raw) for raw in (signal.minimum, signal.maximum, signal.deadband)]
        cells = [str(offset), f"`{signal.name}`", signal.unit or "-", signal.format, str(signal.decimals), *limits]
        cells += [signal.kind, signal.source, f"**{text.title}.** {text.description}"]
        lines.append("| " + " | ".join(cells) + " |")
        offset += FORMATS[signal.format][1]
    return lines


def name_lists(stream: Stream) -> list[str]:
    lines = []
    for signal in stream.signals:
        place = (stream.name, signal.name)
        for kind, table in (("Values", catalogue_text.VALUES), ("Bits", catalogue_text.BITS)):
            if place in table:
                names = ", ".join(f"{number} {name}" for number, name in table[place].items())
                lines += ["", f"{kind} of `{signal.name}`: {names}."]
    return lines


def pace(stream: Stream) -> str:
    if not stream.period_ms:
        return "sealed at once when it happens"
    return f"read every {stream.period_ms / 1000:g} s, kept at least every {stream.silence_ms_max / 1000:g} s"


def stream_section(stream: Stream) -> list[str]:
    return [
        "",
        f"## {stream.id} `{stream.name}`",
        "",
        catalogue_text.STREAMS[stream.name].description,
        "",
        f"Stream id {stream.id}; belongs to {OWNERS[stream.owner]}; priority {PRIORITIES[stream.priority]}; "
        f"{pace(stream)}; row of {catalogue.row_size(stream.signals)} bytes.",
        "",
        *signal_rows(stream),
        *name_lists(stream),
    ]


def alarm_section() -> list[str]:
    lines = [
        "",
        "## Alarm table",
        "",
        "What a node judges of every reading; [alarms.md](alarms.md) says how, and where the limits come from.",
        "Limits and hysteresis are quantities in the signal's unit. *For* is how long the limits of level 1, 2 and 3",
        "must be passed. A row of bits has a code for each bit: the first one's is given, and the bits of each level.",
        "",
        "| code | alarm | stream | judged | level 1 | level 2 | level 3 | hysteresis | for |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for stream in STREAMS:
        lines += [alarm_row(stream, words) for words in alarm_table.rules_of(stream.name)]
    text = catalogue_text.VALUES["alarm", "code"][catalogue.MODULE_LOST]
    lost = "silent where it cannot have left | - | yes | - | - | 3 unanswered polls |"
    return [*lines, f"| {catalogue.MODULE_LOST} | {text} | module | {lost}"]


def alarm_row(stream: Stream, words: list[str]) -> str:
    code, name, less, per, _, how, *numbers = words
    signal = stream.signals[find_signal(stream, name)]
    texts = catalogue_text.VALUES["alarm", "code"]
    if how == "bits":
        masks = [int(number, 0) for number in numbers[:3]]
        levels = [", ".join(str(bit) for bit in range(32) if mask >> bit & 1) for mask in masks]
        return f"| {code} + bit | {texts[int(code)].partition(':')[0]} | {stream.name} | `{name}` | " + " | ".join(
            [*levels, "-", "at once |"]
        )
    if how == "runaway":
        rise, highest, drop_pct, hysteresis, clear_ms, _, rise_ms = map(int, numbers)
        scale = 10**signal.decimals
        judged = f"`{name}` rises by {rise / scale:g} {signal.unit}/s, and is at {highest / scale:g} {signal.unit}"
        judged += f" or `{less}` has dropped by {drop_pct} %"
        durations = f"{rise_ms / 1000:g} s, cleared after {clear_ms / 1000:g} s"
        back = f"{hysteresis / scale:g} {signal.unit}"
        return f"| {code} | {texts[int(code)]} | {stream.name} | {judged} | - | - | yes | {back} | {durations} |"
    of = {"-": "", "cell_count": " a cell", "capacity_full_ah": " by `capacity_full_ah`"}[per]
    judged = f"`{name}`{f' less `{less}`' if less != '-' else ''}{of} {how}"
    unit = "C" if per == "capacity_full_ah" else signal.unit
    scale = 100 if per == "capacity_full_ah" else 10**signal.decimals * (100 if per != "-" else 1)
    limits = [f"{int(number) / scale:g} {unit}" for number in numbers[:4]]
    durations = ", ".join(f"{int(number) / 1000:g}" for number in numbers[4:])
    return f"| {code} | {texts[int(code)]} | {stream.name} | {judged} | " + " | ".join([*limits, f"{durations} s |"])


def loss_section() -> list[str]:
    reasons = [f"| {code} | {name} |" for code, name in catalogue_text.LOSSES.items()]
    return ["", "## Reasons for a loss", "", "| `event.reason` | lost by |", "|---|---|", *reasons]


def render() -> str:
    sections = [line for stream in STREAMS for line in stream_section(stream)]
    return INTRODUCTION + "\n".join([*format_rows(), *sections, *alarm_section(), *loss_section()]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/catalogue.md")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    if parser.parse_args().check:
        return int(not PATH.exists() or PATH.read_text() != render())
    PATH.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
