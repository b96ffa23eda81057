"""Alarm: judge readings by the catalogue's alarm table, and tell each change once: raised, escalated, cleared.

`judge` looks at one source. It is asked at every reading, whether its row is kept or not, and at every look that a
driver takes between two polls. A limit counts as passed when the value has been beyond it for the limit's duration,
seen at readings that follow each other closely. An alarm keeps the highest level that it has reached until it is
cleared: the value must be back within level 1 by the hysteresis, for the duration of level 1 and 2 s at least.
The limits of voltages are those of LFP cells, so a module that is said to have others is not judged by them.
Thermal runaway (`runaway.py`) has a rule of its own kind, which judges a module of any cells.

What a look sees is nobody's until the module's code has been read behind it, so `judge` without an owner only counts
time and says whether there is something to tell. A value that is not available or abnormal decides nothing.
"""

from array import array

from micropython import const

from swapline_wire.catalogue import CODES, Stream

from . import runaway

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .sampler import Source

_JUDGED = ("vehicle", "module", "slot")

# Places in a compiled row, as `alarm_table.compile_rules` makes it.
_COLUMNS = const(13)
_BITS = const(0)
_RUNAWAY = const(2)
_NONE = const(-1)
_LFP_CODES = const(4)  # voltages of cells and packs: the first rows of the table
_CODE = const(0)
_SIGNAL = const(1)
_LESS = const(2)
_PER = const(3)
_POSITION = const(4)
_HOW = const(5)
_LIMIT = const(5)  # plus the level; thermal runaway has 1: rise a second, 2: highest temperature, 3: drop in percent
_HYSTERESIS = const(9)
_DURATION = const(9)  # plus the level

# Places in a rule's state: words of 16 bits.
_FIELDS = const(7)
_LEVEL = const(0)  # told last; of bits: the lower ones that are told
_PLACE = const(1)  # the position that was told when it was raised: its changes are about the same cell; or upper bits
_SEEN = const(2)  # when the signal last had a value, in ticks
# From here on it is forgotten after a gap.
_HELD = const(3)  # plus the level: for so many ticks its limit is passed; plus 0: for so many it could be cleared
_NOT_HELD = const(0xFFFF)

_TICK_MS = const(10)
_GAP_TICKS_MAX = const(5000 // 10)  # readings farther apart say nothing about the time in between
_HELD_TICKS_MAX = const(60000 // 10)
_RUNAWAY_LEVEL = const(3)
_BITS_MAX = const(0x7FFFFFFF)  # of a flag word in an alarm's signed value; the catalogue names no bit above
_CLEAR_MS_MIN = const(2000)  # a value that swings around its limit makes one alarm, not many
NO_POSITION = 0xFF
NO_VALUE = -0x80000000
CLEARED = 0


def is_judged(stream: Stream) -> bool:
    """Say whether the alarm table has rules for this stream, without loading it."""
    return stream.name in _JUDGED


def make_state(rules: "array[int]") -> "array[int]":
    """Return the state of a source's rules: nothing stands. A station judges a hundred rules, so it is one array."""
    words = 0
    for rule in range(0, len(rules), _COLUMNS):
        words += _words(rules[rule + _HOW])
    state = array("H", bytes(2 * words))
    _restart(rules, state, 0)
    return state


def _words(how: int) -> int:
    """Return how many words of state a rule has."""
    return _HELD + 1 + runaway.WORDS if how == _RUNAWAY else _FIELDS


def judge(source: "Source", now_ms: int, owner: "str | None") -> int:
    """Judge the source's values; return how many changes there are to tell. With an owner they are told."""
    rules = source.rules
    changes = at = 0
    if now_ms - source.judged_ms > _GAP_TICKS_MAX * _TICK_MS:
        _restart(rules, source.state, _HELD)
    source.judged_ms = now_ms
    for rule in range(0, len(rules), _COLUMNS):
        if rules[rule + _HOW] == _BITS:
            changes += _judge_bits(source, rule, at, owner)
        elif rules[rule + _HOW] == _RUNAWAY:
            changes += _judge_runaway(source, rule, at, now_ms // _TICK_MS & 0xFFFF, owner)
        elif source.is_lfp or rules[rule + _CODE] > _LFP_CODES:
            changes += _judge_limit(source, rule, at, now_ms // _TICK_MS & 0xFFFF, owner)
        at += _words(rules[rule + _HOW])
    return changes


def leave(source: "Source") -> None:
    """Clear what stands, without a value: the module left, and nobody here can say more of it."""
    rules, state = source.rules, source.state
    at = 0
    for rule in range(0, len(rules), _COLUMNS):
        if rules[rule + _HOW] == _BITS:
            _tell_bits(source, rule, at, (_told_bits(state, at), NO_VALUE), source.owner)
        elif state[at + _LEVEL]:
            _tell_level(source, rule, at, (CLEARED, NO_VALUE, 0), source.owner)
        at += _words(rules[rule + _HOW])
    _restart(rules, state, 0)


def _restart(rules: "array[int]", state: "array[int]", first: int) -> None:
    """Forget the fields from `first` on of every rule: from `_HELD` on, that anything has been so for any time."""
    at = 0
    for rule in range(0, len(rules), _COLUMNS):
        words = _words(rules[rule + _HOW])
        for i in range(first, words):
            state[at + i] = _NOT_HELD if i >= _HELD else 0
        at += words


def _number(source: "Source", place: int) -> "int | None":
    """Return the value at this place of the row, None if it is not a number."""
    value = source.values[place]
    return None if value in CODES[source.columns.codes[place]] else value


def _judge_limit(source: "Source", rule: int, at: int, now: int, owner: "str | None") -> int:
    rules, state = source.rules, source.state
    value = _number(source, rules[rule + _SIGNAL])
    scale: "int | None" = 100
    if value is not None and rules[rule + _LESS] != _NONE:
        other = _number(source, rules[rule + _LESS])
        value = None if other is None else value - other
    if rules[rule + _PER] != _NONE:
        scale = _number(source, rules[rule + _PER])
    elapsed = (now - state[at + _SEEN]) & 0xFFFF
    if value is None or not scale:  # a BMS that does not know its capacity yet may say 0
        for i in range(at + _HELD, at + _FIELDS):
            if elapsed > _GAP_TICKS_MAX:
                state[i] = _NOT_HELD
        return 0
    how = rules[rule + _HOW]
    state[at + _SEEN] = now
    reached = 0
    for level in (1, 2, 3):
        is_beyond = value * how >= rules[rule + _LIMIT + level] * scale // 100 * how
        if _hold(state, at + _HELD + level, is_beyond, elapsed) >= rules[rule + _DURATION + level]:
            reached = level
    level = state[at + _LEVEL]
    back = rules[rule + _LIMIT + 1] * how - rules[rule + _HYSTERESIS]
    held_ms = _hold(state, at + _HELD, value * how * 100 <= back * scale, elapsed)
    if reached > level:
        level, limit = reached, rules[rule + _LIMIT + reached]
    elif level and held_ms >= max(rules[rule + _DURATION + 1], _CLEAR_MS_MIN):
        level, limit = CLEARED, back * how
    else:
        return 0
    if owner is not None:
        _tell_level(source, rule, at, (level, value, limit * scale // 100), owner)
    return 1


def _judge_runaway(source: "Source", rule: int, at: int, now: int, owner: "str | None") -> int:
    """Suspect thermal runaway, and take it back when a minute has passed without any sign of it."""
    rules, state = source.rules, source.state
    temperature = _number(source, rules[rule + _SIGNAL])
    voltage = _number(source, rules[rule + _LESS])
    limit = runaway.voltage_limit(state, at + _HELD + 1, voltage, rules[rule + _LIMIT + 3], now)
    if temperature is None:
        return 0
    rise_ms = runaway.rise_ms(state, at + _HELD + 1, temperature, rules[rule + _LIMIT + 1], now)
    elapsed = (now - state[at + _SEEN]) & 0xFFFF
    state[at + _SEEN] = now
    highest = rules[rule + _LIMIT + 2]
    is_rising = rise_ms >= rules[rule + _DURATION + 3]
    is_back = not is_rising and not limit and temperature <= highest - rules[rule + _HYSTERESIS]
    held_ms = _hold(state, at + _HELD, is_back, elapsed)
    signal, place, value = rules[rule + _SIGNAL], rules[rule + _POSITION], temperature
    if state[at + _LEVEL]:
        level, limit = CLEARED, highest - rules[rule + _HYSTERESIS]
        if held_ms < rules[rule + _DURATION + 1]:
            return 0
    else:
        level = _RUNAWAY_LEVEL
        if not is_rising or (temperature < highest and not limit):
            return 0
        if temperature >= highest:
            limit = highest
        elif voltage is not None:
            signal, place, value = rules[rule + _LESS], rules[rule + _PER], voltage
        state[at + _PLACE] = source.values[place]
    if owner is not None:
        row = [rules[rule + _CODE], level, source.stream.id, signal, state[at + _PLACE], value, limit]
        if source.tell(row, owner):  # else the next reading tells it
            state[at + _LEVEL] = level
    return 1


def _hold(state: "array[int]", at: int, is_so: bool, elapsed: int) -> int:
    """Count for how long something is so; return it in ms, less than any duration while it is not."""
    held = state[at]
    if not is_so:
        state[at] = _NOT_HELD
        return -1
    is_new = held == _NOT_HELD or elapsed > _GAP_TICKS_MAX
    held = 0 if is_new else min(held + elapsed, _HELD_TICKS_MAX)
    state[at] = held
    return held * _TICK_MS


def _tell_level(source: "Source", rule: int, at: int, change: "tuple[int, int, int]", owner: str) -> None:
    """Tell of a change: the level, the value and the limit that it is about."""
    rules, state = source.rules, source.state
    level, value, limit = change
    if not state[at + _LEVEL]:
        position = rules[rule + _POSITION]
        state[at + _PLACE] = NO_POSITION if position == _NONE else source.values[position]
    row = [rules[rule + _CODE], level, source.stream.id, rules[rule + _SIGNAL], state[at + _PLACE], value, limit]
    if source.tell(row, owner):  # else the next reading tells it
        state[at + _LEVEL] = level


def _judge_bits(source: "Source", rule: int, at: int, owner: "str | None") -> int:
    rules = source.rules
    value = _number(source, rules[rule + _SIGNAL])
    if value is None:
        return 0
    known = rules[rule + _LIMIT + 1] | rules[rule + _LIMIT + 2] | rules[rule + _LIMIT + 3]
    changed = (value & known) ^ _told_bits(source.state, at)
    if changed and owner is not None:
        _tell_bits(source, rule, at, (changed, value & _BITS_MAX), owner)
    return 1 if changed else 0


def _told_bits(state: "array[int]", at: int) -> int:
    return state[at + _LEVEL] | state[at + _PLACE] << 16


def _tell_bits(source: "Source", rule: int, at: int, change: "tuple[int, int]", owner: str) -> None:
    """Tell of every bit that has changed whether it is set now."""
    rules, state = source.rules, source.state
    changed, value = change
    bit = 0
    while changed >> bit:
        mask = 1 << bit
        if changed & mask:
            level = CLEARED
            if not _told_bits(state, at) & mask:
                level = 3 if rules[rule + _LIMIT + 3] & mask else 2 if rules[rule + _LIMIT + 2] & mask else 1
            place = rules[rule + _SIGNAL]
            row = [rules[rule + _CODE] + bit, level, source.stream.id, place, NO_POSITION, value, mask & _BITS_MAX]
            if source.tell(row, owner):
                state[at + _LEVEL] ^= mask & 0xFFFF
                state[at + _PLACE] ^= mask >> 16
        bit += 1
