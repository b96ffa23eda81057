"""ESP32 boards."""

from esp32 import Partition
from flashbdev import bdev

from .flash import mount_journal
from .microcontroller import Microcontroller


class Board(Microcontroller):
    """An ESP32."""

    name = "esp32"
    RESET_CAUSES = {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5}

    def __init__(self) -> None:
        super().__init__()
        partitions = Partition.find(Partition.TYPE_DATA, label="journal")
        mount_journal(partitions[0] if partitions else None, bdev)
