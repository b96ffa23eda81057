"""Import what a node of every kind of device runs, and print how many names the interpreter then keeps."""

import micropython

NODE = ("app", "bus", "sntp", "boards.linux", "config", "segment_scan")
DRIVERS = ("gnss", "jbd", "jbd_up16s", "sdm630", "seplos_v3", "slot_charger", "vcu")

for module in NODE + tuple(["drivers." + driver for driver in DRIVERS]):
    __import__("swapline_node." + module)
micropython.qstr_info()
