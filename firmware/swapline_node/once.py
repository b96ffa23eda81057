"""Use a module once and forget it: what is needed only at start or for a rare command does not stay on the heap."""

import sys

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

_PACKAGE = "swapline_node"


def call_once(module_name: str, function_name: str, *arguments: "Any", package: str = _PACKAGE) -> "Any":
    """Import `<package>.<module_name>`, call its function and return the result; the module is not kept.

    The result must not refer back to the module's functions or classes, or they stay alive with it.
    """
    full_name = package + "." + module_name
    was_loaded = full_name in sys.modules
    module = __import__(full_name, None, None, ("*",))
    try:
        return getattr(module, function_name)(*arguments)
    finally:
        if not was_loaded:
            sys.modules.pop(full_name)
            delattr(sys.modules[package], module_name)
