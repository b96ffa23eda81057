"""Alarm: judge readings by the catalogue's alarm table, and tell each change once: raised, escalated, cleared.

A `Watch` judges one source. It is asked at every reading, whether its row is kept or not, and at every look that a
driver takes between two polls. A limit counts as passed when the value has been beyond it for the limit's duration,
seen at readings that follow each other closely. An alarm keeps the highest level that it has reached until it is
cleared: the value must be back within level 1 by the hysteresis, for the duration of level 1 and 2 s at least.

What a look sees is nobody's until the module's code has been read behind it, so `judge` without an owner only counts
time and says whether there is something to tell. A value that is not available or abnormal decides nothing.
"""

from array import array

from micropython import const

from swapline_wire.alarm_table import BITS, COLUMNS, NONE
from swapline_wire.catalogue import CODES

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from .sampler import Source

# Places in a compiled row.
_CODE = const(0)
_SIGNAL = const(1)
_LESS = const(2)
_PER = const(3)
_POSITION = const(4)
_HOW = const(5)
_LIMIT = const(5)  # plus the level
_HYSTERESIS = const(9)
_DURATION = const(9)  # plus the level

# Places in a rule's state.
_FIELDS = const(7)
_LEVEL = const(0)  # told last; of bits: those that are told
_PLACE = const(1)  # the position that was told when it was raised: its changes are about the same cell
_SEEN = const(2)  # when the signal last had a value, by a clock of 30 bits: larger numbers take heap on boards
_HELD = const(3)  # plus the level: for so many ms its limit is passed; plus 0: for so many it could be cleared

_CLOCK = const(0x3FFFFFFF)
_GAP_MS_MAX = const(5000)  # readings farther apart say nothing about the time in between
_HELD_MS_MAX = const(60000)
_CLEAR_MS_MIN = const(2000)  # a value that swings around its limit makes one alarm, not many
NO_POSITION = 0xFF
NO_VALUE = -0x80000000
CLEARED = 0


class Watch:
    """The alarms of one source."""

    def __init__(self, source: "Source", rules: "array[int]") -> None:
        self._source = source
        self._rules = rules
        self._state = array("i", [0] * (_FIELDS * (len(rules) // COLUMNS)))
        self._owner = ""
        self._restart()

    def judge(self, now_ms: int, owner: "str | None") -> int:
        """Judge the source's values; return how many changes there are to tell. With an owner they are told."""
        if owner is not None and owner != self._owner:
            self.leave()
            self._owner = owner
        now_ms &= _CLOCK
        changes = 0
        at = 0
        for rule in range(0, len(self._rules), COLUMNS):
            if self._rules[rule + _HOW] == BITS:
                changes += self._judge_bits(rule, at, owner is not None)
            else:
                changes += self._judge_limit(rule, at, now_ms, owner is not None)
            at += _FIELDS
        return changes

    def leave(self) -> None:
        """Clear what stands, without a value: the module left, and nobody here can say more of it."""
        state = self._state
        at = 0
        for rule in range(0, len(self._rules), COLUMNS):
            if self._rules[rule + _HOW] == BITS:
                self._tell_bits(rule, at, state[at + _LEVEL], NO_VALUE)
            elif state[at + _LEVEL]:
                self._tell_level(rule, at, CLEARED, NO_VALUE, 0)
            at += _FIELDS
        self._restart()

    def _restart(self) -> None:
        for i in range(len(self._state)):
            self._state[i] = -1 if i % _FIELDS >= _HELD else 0

    def _number(self, place: int) -> "int | None":
        """Return the value at this place of the row, None if it is not a number."""
        source = self._source
        value = source.values[place]
        return None if value in CODES[source.columns.codes[place]] else value

    def _judge_limit(self, rule: int, at: int, now_ms: int, is_owned: bool) -> int:
        rules, state = self._rules, self._state
        value = self._number(rules[rule + _SIGNAL])
        scale: "int | None" = 100
        if value is not None and rules[rule + _LESS] != NONE:
            other = self._number(rules[rule + _LESS])
            value = None if other is None else value - other
        if rules[rule + _PER] != NONE:
            scale = self._number(rules[rule + _PER])
        if value is None or scale is None:
            return 0
        how = rules[rule + _HOW]
        elapsed_ms = (now_ms - state[at + _SEEN]) & _CLOCK
        state[at + _SEEN] = now_ms
        reached = 0
        for level in (1, 2, 3):
            is_beyond = value * how >= rules[rule + _LIMIT + level] * scale // 100 * how
            if self._hold(at + _HELD + level, is_beyond, elapsed_ms) >= rules[rule + _DURATION + level]:
                reached = level
        level = state[at + _LEVEL]
        back = rules[rule + _LIMIT + 1] * how - rules[rule + _HYSTERESIS]
        held_ms = self._hold(at + _HELD, value * how * 100 <= back * scale, elapsed_ms)
        if reached > level:
            level = reached
        elif level and held_ms >= max(rules[rule + _DURATION + 1], _CLEAR_MS_MIN):
            level = CLEARED
        else:
            return 0
        if is_owned:
            limit = back * how if level == CLEARED else rules[rule + _LIMIT + level]
            self._tell_level(rule, at, level, value, limit * scale // 100)
        return 1

    def _hold(self, at: int, is_so: bool, elapsed_ms: int) -> int:
        """Count for how long something is so; return it, -1 (less than any duration) while it is not."""
        held_ms = self._state[at]
        if not is_so:
            held_ms = -1
        elif held_ms < 0 or elapsed_ms > _GAP_MS_MAX:
            held_ms = 0
        else:
            held_ms = min(held_ms + elapsed_ms, _HELD_MS_MAX)
        self._state[at] = held_ms
        return held_ms

    def _tell_level(self, rule: int, at: int, level: int, value: int, limit: int) -> None:
        rules, state = self._rules, self._state
        if not state[at + _LEVEL]:
            position = rules[rule + _POSITION]
            state[at + _PLACE] = NO_POSITION if position == NONE else self._source.values[position]
        place = rules[rule + _SIGNAL]
        row = (rules[rule + _CODE], level, self._source.stream.id, place, state[at + _PLACE], value, limit)
        if self._source.tell(row, self._owner):  # else the next reading tells it
            state[at + _LEVEL] = level

    def _judge_bits(self, rule: int, at: int, is_owned: bool) -> int:
        rules = self._rules
        value = self._number(rules[rule + _SIGNAL])
        if value is None:
            return 0
        known = rules[rule + _LIMIT + 1] | rules[rule + _LIMIT + 2] | rules[rule + _LIMIT + 3]
        changed = (value & known) ^ self._state[at + _LEVEL]
        if changed and is_owned:
            self._tell_bits(rule, at, changed, value)
        return 1 if changed else 0

    def _tell_bits(self, rule: int, at: int, changed: int, value: int) -> None:
        """Tell of every bit that has changed whether it is set now."""
        rules, state = self._rules, self._state
        bit = 0
        while changed >> bit:
            mask = 1 << bit
            if changed & mask:
                level = CLEARED
                if not state[at + _LEVEL] & mask:
                    level = 3 if rules[rule + _LIMIT + 3] & mask else 2 if rules[rule + _LIMIT + 2] & mask else 1
                code, place = rules[rule + _CODE] + bit, rules[rule + _SIGNAL]
                row = (code, level, self._source.stream.id, place, NO_POSITION, value, mask)
                if self._source.tell(row, self._owner):
                    state[at + _LEVEL] ^= mask
            bit += 1
