"""Count the erases of a journal on LittleFS, under MicroPython.

Argument: a JSON file with `read_bytes` and `program_bytes` (how LittleFS is mounted), `blocks`, `limit_bytes`,
`profiles` (name -> intervals of frame lengths) and `days`: lists of steps `[profile, intervals, is_online]`, a boot
before each step. Frames are acknowledged before the next interval while the link is there, a backlog at 1,000 frames an
interval. Prints one line of JSON: what every step cost, and how evenly the erases lie.
"""

# ruff: noqa: PTH123, T201 (a script for MicroPython)

import binascii
import json
import struct
import sys

import vfs

from swapline_node.journal import Journal

BLOCK_BYTES = 4096
BACKLOG_FRAMES = 1000  # 200 frames/s in an interval of 5 s
FOLDER = "/flash/journal"
ERASED = b"\xff" * BLOCK_BYTES


class Flash:
    """A block device in RAM that counts erases."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.data = [ERASED] * blocks
        self.erases = [0] * blocks
        self.programmed_bytes = 0

    def readblocks(self, block, buffer, offset=0):
        buffer[:] = memoryview(self.data[block])[offset : offset + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        if self.data[block] is ERASED:
            self.data[block] = bytearray(ERASED)
        self.data[block][offset : offset + len(buffer)] = buffer
        self.programmed_bytes += len(buffer)
        return 0

    def ioctl(self, operation, block):
        if operation == 4:
            return self.blocks
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            self.erases[block] += 1
            self.data[block] = ERASED
        return 0


def make_frame(journal, length):
    frame = bytearray(length)
    struct.pack_into("<2sBBHIIIB", frame, 0, b"SL", 1, 0, length, journal.id, journal.next_seq, journal.boot, 2)
    struct.pack_into("<I", frame, length - 4, binascii.crc32(memoryview(frame)[:-4]) & 0xFFFFFFFF)
    return memoryview(frame)


def work(journal, intervals, count, is_online):
    """Seal `count` intervals; return how many frames were lost for want of room."""
    lost = 0
    for i in range(count):
        before = journal.next_seq
        for length in intervals[i % len(intervals)]:
            journal.append(make_frame(journal, length), journal.next_seq, 0)
        journal.commit()
        if is_online:
            if journal.next_seq > before:
                journal.acknowledge(before, journal.next_seq - 1)
            if journal.pending_frames:
                oldest = min([s.first_seq for family in journal.families for s in family if s.pending_count])
                journal.acknowledge(oldest, oldest + BACKLOG_FRAMES - 1)
        for drop in journal.undeclared_drops():
            lost += drop.value
            journal.drop_declared(drop)
    return lost


def main():
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    flash = Flash(asked["blocks"])
    mount = {"readsize": asked["read_bytes"], "progsize": asked["program_bytes"]}
    vfs.VfsLfs2.mkfs(flash, **mount)
    steps = []
    for step in asked["days"]:
        profile, count, is_online = step
        before = sum(flash.erases)
        vfs.mount(vfs.VfsLfs2(flash, **mount), "/flash")
        journal = Journal(FOLDER, limit_bytes=asked["limit_bytes"])
        journal.open()
        booted = sum(flash.erases)
        lost = work(journal, asked["profiles"][profile], count, is_online)
        steps.append([profile, count, is_online, sum(flash.erases) - booted, booted - before, lost])
        vfs.umount("/flash")  # power is cut: nothing is stopped in order
    print(
        json.dumps(
            {
                "steps": steps,
                "erases": sum(flash.erases),
                "erases_block_max": max(flash.erases),
                "programmed_bytes": flash.programmed_bytes,
            }
        )
    )


main()
