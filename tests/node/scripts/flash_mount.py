"""Mount the journal's flash as an ESP32 does, under MicroPython. Argument: "root", "partition" or "fat".

Prints one line of JSON: what is in the root, and whether the journal's short files lie inline before and after.
"""

# ruff: noqa: PTH123, PTH208, T201 (a script for MicroPython)

import json
import os
import sys

import vfs
from flash_device import ERASED, Flash

from swapline_node import recovery
from swapline_node.boards.flash import mount_journal


def is_inline():
    recovery.make_folder("journal")
    return recovery.is_inline("journal", 512)


def main():
    root = Flash([ERASED] * 64)
    if sys.argv[1] == "fat":
        vfs.VfsFat.mkfs(root)
        file_system = vfs.VfsFat(root)
    else:
        vfs.VfsLfs2.mkfs(root)
        file_system = vfs.VfsLfs2(root)
    vfs.umount("/")  # from here on the root is the board's
    vfs.mount(file_system, "/")
    with open("config.json", "w") as file:
        file.write("{}")
    before = sys.argv[1] != "fat" and is_inline()
    partition = Flash([ERASED] * 64) if sys.argv[1] == "partition" else None
    mount_journal(partition, root)
    after = sys.argv[1] != "fat" and is_inline()
    with open("config.json") as file:
        config = file.read()
    written = partition.operations if partition else 0
    print(
        json.dumps(
            {"before": before, "after": after, "root": sorted(os.listdir("/")), "config": config, "own": written}
        )
    )


main()
