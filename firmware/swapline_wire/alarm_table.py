"""The alarm table: what is judged of every reading, and from where on. Data, like the catalogue; only appended to.

A row has thirteen words: code, signal, `less` (a signal that is subtracted: a spread), `per` (a signal that the
limits are multiplied by: they are hundredths of a cell or of a C-rate then), `position` (the signal that says which
cell or sensor), how, the limits of levels 1 to 3, hysteresis, and the milliseconds for which the limits of levels 1 to
3 must be passed. Numbers are raw, as in the catalogue. `-` stands for none.

How is `above`, `below`, `bits` or `runaway`. Of `bits` the limits are masks of the bits that are of level 1, 2 and 3,
and bit n has the row's code plus n. `runaway` suspects thermal runaway, always with level 3: its numbers are the rise
of `signal` a second, its highest value, the drop of `less` in percent, the hysteresis, for how long no sign of it may
be seen before it is cleared (twice), and how long the rise lasts; `per` is the cell that `less` is about.

Levels are those of GB/T 32960.3: 1 is to be watched, 2 is to be acted on soon, 3 is to be stopped at once. A limit of
level 3 has no minimum duration where the figure itself is dangerous, for then every reading counts; the lower ones
have, for a load makes voltages dip.

Limits are those of 16 LFP cells in series (`docs/alarms.md` says where each comes from). The voltages of codes 1 to 4
are not judged where the configuration or the BMS says that the cells are others. A code is never reused.
"""

from array import array

from .catalogue import Stream, find_signal

# By stream: a node compiles those that it has, row by row.
_TABLE = {
    "module": (
        "1 cell_voltage_max_v - - cell_voltage_max_cell above 3600 3650 3750 50 5000 2000 0",
        "2 cell_voltage_min_v - - cell_voltage_min_cell below 2800 2500 2000 100 5000 2000 0",
        "3 voltage_v - cell_count - above 36000 36500 37500 500 5000 2000 0",
        "4 voltage_v - cell_count - below 28000 25000 20000 1000 5000 2000 0",
        "5 cell_voltage_max_v cell_voltage_min_v - cell_voltage_min_cell above 300 500 1000 50 10000 10000 5000",
        "6 temperature_max_c - - temperature_max_sensor above 550 600 650 30 5000 2000 0",
        "7 temperature_min_c - - temperature_min_sensor below -200 -250 -350 30 10000 10000 10000",
        "8 temperature_max_c temperature_min_c - temperature_max_sensor above 100 150 200 20 10000 10000 5000",
        "9 current_a - capacity_full_ah - above 105 130 210 10 35000 35000 1000",
        "10 current_a - capacity_full_ah - below -105 -130 -210 10 35000 35000 1000",
        "11 insulation_kohm - - - below 60 30 6 10 5000 2000 0",
        "32 protections - - - bits 0x210A0 0x1635F 0x8C00 0 0 0 0",
        "15 temperature_max_c cell_voltage_min_v cell_voltage_min_cell temperature_max_sensor runaway "
        "10 600 25 50 60000 60000 3000",
    ),
    "vehicle": (
        "12 insulation_kohm - - - below 60 30 6 10 5000 2000 0",
        "13 acceleration_mps2 - - - below -1200 -2000 -4000 200 0 0 0",
        "96 faults - - - bits 0x2810 0x1D723 0xCC 0 0 0 0",
    ),
    "slot": ("64 faults - - - bits 0x250 0x2D 0xD82 0 0 0 0",),
}
# A compiled row: code; places of signal, less, per and position, -1 for none; how; and the seven numbers.
COLUMNS = 13
# 1 and -1: what the value is multiplied by, so that both compare alike.
_HOWS = {"above": 1, "below": -1, "bits": 0, "runaway": 2}


def rules_of(name: str) -> "list[list[str]]":
    """Return the rows of the stream of this name as words."""
    return [row.split() for row in _TABLE.get(name, ())]


def compile_rules(stream: Stream) -> "array[int]":
    """Return a stream's rows one behind the other, `COLUMNS` numbers each: what a node keeps of the table."""
    compiled = array("i")
    for row in _TABLE.get(stream.name, ()):
        words = row.split()
        compiled.append(int(words[0]))
        for name in words[1:5]:
            compiled.append(-1 if name == "-" else find_signal(stream, name))
        compiled.append(_HOWS[words[5]])
        for word in words[6:]:
            compiled.append(int(word, 0))
    return compiled
