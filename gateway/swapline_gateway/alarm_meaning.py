"""What an alarm's numbers say: its name, its signal, and value and threshold in the signal's unit."""

from collections.abc import Mapping
from typing import Any

from swapline_wire import catalogue, catalogue_text


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
    """Return an alarm in one line: `level 2 cell over-voltage (cell 7): cell_voltage_max_v 3.662 V, limit 3.65 V`."""
    told = meaning(keys, values)
    words = f"level {level} {told['alarm']}" if (level := values.get("level")) else f"cleared: {told['alarm']}"
    if values.get("position") is not None:
        words += f" ({'sensor' if 'temperature' in (told['signal'] or '') else 'cell'} {values['position']})"
    if told["unit"] and told["value"] is not None:  # the words of bits say everything already
        words += f": {told['signal']} {told['value']} {told['unit']}, limit {told['threshold']} {told['unit']}"
    return words
