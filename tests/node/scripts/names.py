"""Import what a node with the drivers named on the command line runs, and print how many names are then kept."""

import sys

import micropython

NODE = ("app", "bus", "sntp", "boards.linux", "config", "segment_scan")

for module in NODE + tuple(["drivers." + driver for driver in sys.argv[1:]]):
    __import__("swapline_node." + module)
micropython.qstr_info()
