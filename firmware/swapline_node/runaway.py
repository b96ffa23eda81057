"""Runaway: suspect thermal runaway of a module by the criterion of GB 38031, from readings and looks.

The standard's test takes a cell for running away (GB 38031-2025, C.5.3.7) when c) its temperature rises by 1 degC/s or
more for more than 3 s, and a) its voltage has dropped by more than 25 % of the initial one, or b) its temperature has
reached the maker's highest operating temperature. So a and c count, b and c count, and nothing else does.

What a BMS says is coarser than the standard's own sensors: tenths or whole degrees, anew every second or every few.
So a rise is what happens between two values that differ and are 0.9 s to 5 s apart, and c takes three rises in a row,
3 s from the first value to the last: a sensor that jumps makes one. A value that falls or stands still for 5 s ends it,
as does a gap. The initial voltage is the lowest cell's of 30 to 60 s ago; where it has dropped, it is remembered for 5
to 10 minutes.
"""

from array import array

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    State = array[int]

# Words of 16 bits, behind a rule's own: what is 0xFFFF is not known. The caller forgets them all after a gap.
WORDS = const(8)
_WARMEST = const(0)  # temperature of the last rise, in tenths of a degree above -100 degC
_RISEN = const(1)  # when that was, in ticks of 10 ms
_FIRST = const(2)  # temperature with which the rises began
_BEGUN = const(3)  # when they began
_RISES = const(4)
_INITIAL = const(5)  # voltage in mV
_NEXT = const(6)  # the one that is the initial one later
_NEXT_SEEN = const(7)

_UNKNOWN = const(0xFFFF)
_ZERO = const(1000)
_TICK_MS = const(10)
_STEP_TICKS_MIN = const(900 // 10)
_STEP_TICKS_MAX = const(5000 // 10)
_LATE_TICKS = const(200 // 10)  # a change may be seen a look and an answer later than it was
_RISES_MIN = const(3)
_INITIAL_TICKS = const(30000 // 10)
_DROPPED_TICKS_MAX = const(300000 // 10)


def rise_ms(state: "State", at: int, temperature: int, rate: int, now: int) -> int:
    """Take note of a temperature; return for how long it has risen by `rate` a second, both in tenths of a degree."""
    warm = temperature + _ZERO
    step = warm - state[at + _WARMEST]
    ticks = (now - state[at + _RISEN]) & 0xFFFF
    if state[at + _WARMEST] == _UNKNOWN or step < 0 or ticks > _STEP_TICKS_MAX:
        _begin(state, at, warm, now)
    elif step and ticks >= _STEP_TICKS_MIN:
        if step * 1000 < rate * (ticks - _LATE_TICKS) * _TICK_MS:
            _begin(state, at, warm, now)
        else:
            state[at + _WARMEST] = warm
            state[at + _RISEN] = now
            state[at + _RISES] = min(state[at + _RISES] + 1, _RISES_MIN)
    lasted_ms = ((state[at + _RISEN] - state[at + _BEGUN]) & 0xFFFF) * _TICK_MS
    is_steep = (state[at + _WARMEST] - state[at + _FIRST]) * 1000 >= rate * lasted_ms
    return lasted_ms if is_steep and state[at + _RISES] >= _RISES_MIN else 0


def _begin(state: "State", at: int, warm: int, now: int) -> None:
    state[at + _WARMEST] = state[at + _FIRST] = warm
    state[at + _RISEN] = state[at + _BEGUN] = now
    state[at + _RISES] = 0


def voltage_limit(state: "State", at: int, voltage: "int | None", drop_pct: int, now: int) -> int:
    """Take note of the lowest cell's voltage; return the one below which it has dropped, 0 if it has not."""
    initial = state[at + _INITIAL]
    limit = 0 if initial == _UNKNOWN else initial * (100 - drop_pct) // 100
    ticks = (now - state[at + _NEXT_SEEN]) & 0xFFFF
    if voltage is None:
        if ticks > _DROPPED_TICKS_MAX:
            state[at + _INITIAL] = state[at + _NEXT] = _UNKNOWN
        return 0
    has_dropped = voltage < limit
    if state[at + _NEXT] == _UNKNOWN:
        state[at + _INITIAL] = voltage
    if state[at + _NEXT] == _UNKNOWN or ticks > (_DROPPED_TICKS_MAX if has_dropped else _INITIAL_TICKS):
        if state[at + _NEXT] != _UNKNOWN:
            state[at + _INITIAL] = state[at + _NEXT]
        state[at + _NEXT] = voltage
        state[at + _NEXT_SEEN] = now
    return limit if has_dropped else 0
