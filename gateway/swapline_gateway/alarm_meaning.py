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
