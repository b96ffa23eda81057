"""What one look of `swapline check` found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` says what to do when it is not all right."""

    part: str
    is_ok: bool
    text: str
    advice: str = ""
