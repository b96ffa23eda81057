"""What an alarm's numbers say: its name, its signal, and value and threshold in the signal's unit."""

from collections.abc import Mapping
from typing import Any

from swapline_wire import catalogue, catalogue_text

SPREADS = (5, 8)  # of cells, of temperatures: their value is how far two are apart, which is no signal of a stream


def meaning(keys: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the alarm's meaning from the keys and values of its row.

    A node with a newer catalogue may name what this one does not know: that is None, as is what is not available.
    """
    code = keys.get("code")
    stream = catalogue.stream_by_id(int(values.get("stream") or 0))
    place = values.get("signal")
    signal = stream.signals[int(place)] if stream and place is not None and place < len(stream.signals) else None
    scale = 10**signal.decimals if signal else 1
    return {
        "alarm": catalogue_text.VALUES["alarm", "code"].get(code, f"alarm {code}"),
        "stream": stream.name if stream else None,
        "signal": signal.name if signal else None,
        "unit": signal.unit if signal else None,
        **{name: None if values.get(name) is None else values[name] / scale for name in ("value", "threshold")},
    }


def sentence(keys: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return an alarm in one line: `level 2 cell over-voltage (cell 7): cell_voltage_max_v 3.662 V, limit 3.65 V`.

    Of a spread: `level 1 cell spread (cell 7): 0.354 V apart, limit 0.3 V`.
    """
    told = meaning(keys, values)
    words = f"level {level} {told['alarm']}" if (level := values.get("level")) else f"cleared: {told['alarm']}"
    if values.get("position") is not None:
        words += f" ({'sensor' if 'temperature' in (told['signal'] or '') else 'cell'} {values['position']})"
    if told["unit"] and told["value"] is not None:  # the words of bits say everything already
        value = f"{told['value']} {told['unit']}"
        value = f"{value} apart" if keys.get("code") in SPREADS else f"{told['signal']} {value}"
        words += f": {value}, limit {told['threshold']} {told['unit']}"
    return words
