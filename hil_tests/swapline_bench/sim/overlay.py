"""Values that a user has fixed, laid over a simulated object: faces read the object through it."""

from typing import Any


class Overlay:
    """Show the attributes of `under`, except those in `fixed`."""

    def __init__(self, under: object) -> None:
        self.under = under
        self.fixed: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        fixed = self.__dict__["fixed"]
        return fixed[name] if name in fixed else getattr(self.__dict__["under"], name)
