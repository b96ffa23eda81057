"""What a bench may have, in words that a bench file, a driver and a test share."""

FEATURES = {
    "power": "the bench can take the node's supply away at once and give it back",
    "brown_out": "the node's power-good input falls a chosen time before its supply does",
    "watchdog": "a node that hangs is reset, and learns at its next boot that a watchdog did it",
    "snippet": "the bench can run MicroPython of its own in the node's interpreter, before the firmware starts",
    "flash_faults": "the node's flash can be cut in the middle of an operation, be full, or fail",
    "heap_limit": "the node's heap has a size that the bench chose",
    "simulators": "simulated devices sit on the node's lines",
    "unplug": "the bench can pull the node's own end of a serial line and plug it in again",
    "network": "the link between node and broker goes through the bench, which can impair it",
    "fast_lines": "serial lines can be quicker than their baud rate, so that time can be accelerated",
    "clock": "the bench chooses where the node's tick counter stands at power-on",
}
COUNTED = {
    "lines": "serial lines",
    "bays": "lines for battery modules",
}
DEVICES = {
    "vcu": "a line for the vehicle controller",
    "gnss": "a line for the GNSS receiver",
    "slot_charger": "a line for slot chargers",
    "sdm630": "a line for the grid meter",
}
