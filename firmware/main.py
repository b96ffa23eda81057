"""Start the node: choose the board, read `config.json` from the current directory, run, start again when asked to."""

import gc
import sys

FROZEN = ".frozen"
if FROZEN not in sys.path:
    sys.path.append(FROZEN)  # asyncio lives there; a MICROPYPATH that names only this folder would hide it

import asyncio  # noqa: E402

from swapline_node.app import STOP, App  # noqa: E402
from swapline_node.once import call_once  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOARDS = ("esp32", "rp2")  # what `sys.platform` says there; anything else is Linux


def make_board() -> "Any":
    """Import the file of the board that this is, and only that."""
    name = sys.platform if sys.platform in BOARDS else "linux"
    return __import__("swapline_node.boards." + name, None, None, ("*",)).Board()


def main() -> None:
    """Run the node for ever. A line "stop" on standard input (Linux) ends it in order; Ctrl-C does what it can."""
    board = make_board()
    app: "App | None" = None
    while True:
        app = None  # a heap has room for one node
        asyncio.new_event_loop()  # a task that would not end in time is not to run on in the node that follows
        gc.collect()
        app = App(board, call_once("config", "load"))
        try:
            cause = asyncio.run(app.run())
        except KeyboardInterrupt:
            asyncio.run(app.stop())  # MicroPython raises it through the event loop, past every `finally` of a task
            return
        if cause == STOP:
            return
        board.restart(cause)


if __name__ == "__main__":
    main()
