"""Start the node: choose the board, read `config.json` from the current directory, run, and start again when asked to."""

import asyncio
import sys

from swapline_node.app import RESET_CONFIGURATION, RESET_SOFT, App
from swapline_node.config import load

_BOARDS = {"esp32": "esp32", "rp2": "rp2"}


def make_board() -> "object":
    """Import the file of the board that this is, and only that."""
    name = _BOARDS.get(sys.platform, "linux")
    module = __import__("swapline_node.boards." + name, None, None, ("*",))
    return module.Board()


def main() -> None:
    """Run the node for ever; Ctrl-C (SIGINT) stops it in order."""
    board = make_board()
    while True:
        app = App(board, load())
        asyncio.run(app.run())
        board.restart(RESET_SOFT)


main()
