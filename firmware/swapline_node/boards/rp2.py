"""RP2 boards with radio (Pico W, Pico 2 W)."""

from .microcontroller import Microcontroller


class Board(Microcontroller):
    """An RP2040 or RP2350. Its firmware mounts LittleFS with a cache that keeps the journal's short files inline."""

    name = "rp2"
    RESET_CAUSES = {"PWRON_RESET": 1, "WDT_RESET": 3}
