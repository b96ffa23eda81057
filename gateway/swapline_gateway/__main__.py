"""`python -m swapline_gateway`: the same as `swapline`."""

from .cli import main

main(prog_name="swapline")
