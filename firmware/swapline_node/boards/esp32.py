"""ESP32 boards."""

from .microcontroller import Microcontroller


class Board(Microcontroller):
    """An ESP32."""

    name = "esp32"
    RESET_CAUSES = {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5}
