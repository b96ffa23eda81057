"""Fill a journal of 1.5 MB on a 2 MiB flash, or boot from it again and again without a gateway, under MicroPython.

Arguments: the file that plays the flash, "fill" or "boot", how often. A boot seals two frames; its power is then cut.
Prints one line of JSON: what the journal holds, and how much heap it took for ever and while it was opened.
"""

# ruff: noqa: PTH123, SIM115, SLF001, T201 (a script for MicroPython)

import gc
import json
import os
import sys

import vfs

from swapline_node.journal import Journal
from swapline_wire.catalogue import EVENT, EVENT_STREAM, MODULE, ROUTINE, not_available
from swapline_wire.frame import FrameBuilder

BLOCK_BYTES = 4096
BLOCKS = 512
LIMIT_BYTES = 1500000
FOLDER = "/flash/journal"
MOUNT = {"readsize": 128, "progsize": 32}
MODULE_CODE = "08PBAA00000000A000000001"


class FileFlash:
    """A flash in a file: it takes no heap."""

    def __init__(self, file):
        self.file = file

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.readinto(buffer)
        return 0

    def writeblocks(self, block, buffer, offset=0):
        self.file.seek(block * BLOCK_BYTES + offset)
        self.file.write(buffer)
        return 0

    def ioctl(self, operation, _block):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK_BYTES
        return 0


def seal(journal, stream, priority, rows):
    owner = MODULE_CODE if stream is MODULE else ""
    builder = FrameBuilder(stream, owner=owner, buffer_bytes=700)
    for row in range(rows):
        builder.add(row, not_available(stream.signals))
    seq = journal.next_seq
    frame = builder.seal(journal=journal.id, seq=seq, boot=journal.boot, time_quality=0, anchor_utc_ms=0)
    journal.append(frame, seq, priority)


def settle_drops(journal):
    drops = 0
    for drop in journal.undeclared_drops():
        drops += drop.value
        journal.drop_declared(drop)
    return drops


def main():
    path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    flash = FileFlash(open(path, "r+b"))
    if mode == "fill":
        vfs.VfsLfs2.mkfs(flash, **MOUNT)
    vfs.mount(vfs.VfsLfs2(flash, **MOUNT), "/flash")
    heap_bytes = dropped = 0
    for _ in range(1 if mode == "fill" else count):
        journal = None
        gc.collect()
        before = gc.mem_alloc()
        journal = Journal(FOLDER, limit_bytes=LIMIT_BYTES)
        journal.open()
        gc.collect()
        heap_bytes = max(heap_bytes, gc.mem_alloc() - before)
        dropped += settle_drops(journal)
        for _ in range(count if mode == "fill" else 1):
            seal(journal, MODULE, ROUTINE, 5)
            seal(journal, EVENT_STREAM, EVENT, 1)
            journal.commit()
            dropped += settle_drops(journal)
        for file in journal._files:  # they hold nothing that is not durable
            if file is not None:
                file.close()
    free_blocks = os.statvfs("/flash")[3]
    print(
        json.dumps(
            {
                "boot": journal.boot,
                "next_seq": journal.next_seq,
                "waiting": journal.pending_frames,
                "dropped": dropped,
                "segments": sum([len(family) for family in journal.families]),
                "used_bytes": journal.used_bytes(),
                "free_blocks": free_blocks,
                "heap_bytes": heap_bytes,
            }
        )
    )


main()
