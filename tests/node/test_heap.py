import re
import subprocess
from pathlib import Path

import pytest

from tests.node.node_rig import MICROPYTHON, SCRIPTS

POOLS_OF_NAMES = 20 + 40 + 80 + 160 + 320 + 640  # the next name takes a pool of 1280: 14 KB, 8 KB on a 32-bit board


# What real nodes load: a driver for each kind of device that a holder has, and one for its modules.
VAN = ("gnss", "vcu")
STATION = ("slot_charger", "sdm630")
BMS = ("jbd", "jbd_up16s", "jk", "seplos_v3")


@pytest.mark.parametrize("drivers", [(*holder, bms) for holder in (VAN, STATION) for bms in BMS], ids="-".join)
def test_names_of_the_firmware_fit_the_pools_that_leave_room_for_the_rest(
    compiled: Path, drivers: tuple[str, ...]
) -> None:
    result = subprocess.run(
        [str(MICROPYTHON), "-X", "heapsize=512K", str(SCRIPTS / "names.py"), *drivers],
        env={"MICROPYPATH": f"{compiled}:.frozen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    count = re.search(r"n_qstr=(\d+)", result.stdout)
    assert count is not None
    assert int(count[1]) <= POOLS_OF_NAMES - 20  # what is not imported here, and a configuration's own names
