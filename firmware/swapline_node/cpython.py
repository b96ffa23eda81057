"""Stand for MicroPython's own module where tests and tools import the firmware under CPython. Boards do not load it."""

import sys
from types import ModuleType


def const(value: object) -> object:
    """Return the value: what the compiler folds on a board is an ordinary name here."""
    return value


_module = ModuleType("micropython")
_module.const = const  # type: ignore[attr-defined]
sys.modules.setdefault("micropython", _module)
