"""Cut the power at every single flash operation of a journal's workload, on LittleFS, under MicroPython.

Arguments: first operation, step, segment limit in bytes. Prints one line of JSON: cuts, operations, and what was wrong.
After each cut (the operation is left half done) the file system is mounted again, the journal opened as a new boot, and
every frame that was durable must be there, unless it was acknowledged or its loss is declared.
"""

# ruff: noqa: T201, N818, UP031, SIM105 (a script for MicroPython)

import json
import sys

import vfs

from swapline_node.cursor import Cursor
from swapline_node.journal import Journal
from swapline_wire.catalogue import EVENT_STREAM, NODE, not_available
from swapline_wire.frame import FrameBuilder

BLOCK_BYTES = 4096
BLOCKS = 64
FOLDER = "/flash/journal"


class PowerCut(Exception):
    pass


class Flash:
    """A block device in RAM that loses power at its n-th program or erase operation."""

    def __init__(self, data):
        self.data = data
        self.operations = 0
        self.cut_at = 0

    def _operate(self):
        self.operations += 1
        return self.operations == self.cut_at

    def readblocks(self, block, buffer, offset=0):
        start = block * BLOCK_BYTES + offset
        buffer[:] = self.data[start : start + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        start = block * BLOCK_BYTES + offset
        is_cut = self._operate()
        count = len(buffer) // 2 if is_cut else len(buffer)
        self.data[start : start + count] = memoryview(buffer)[:count]
        if is_cut or 0 < self.cut_at < self.operations:
            raise PowerCut
        return 0

    def ioctl(self, operation, block):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            is_cut = self._operate()
            start = block * BLOCK_BYTES
            count = BLOCK_BYTES // 2 if is_cut else BLOCK_BYTES
            self.data[start : start + count] = ERASED[:count]
            if is_cut or 0 < self.cut_at < self.operations:
                raise PowerCut
        return 0


ERASED = b"\xff" * BLOCK_BYTES


class Truth:
    """What the workload knows to be durable."""

    def __init__(self):
        self.journal = 0
        self.boot = 0
        self.durable = set()
        self.acknowledged = set()
        self.seq_max = 0
        self.drops = 0


def make_frame(journal, boot, seq, *, is_event):
    stream = EVENT_STREAM if is_event else NODE
    builder = FrameBuilder(stream, buffer_bytes=1024)
    for row in range(1 if is_event else 6):
        builder.add(seq * 1000 + row, not_available(stream.signals))
    return builder.seal(journal=journal, seq=seq, boot=boot, time_quality=0, anchor_utc_ms=0)


def work(journal, truth, rounds):
    """Seal, commit, acknowledge and fill up; note what is durable after each step."""
    if not truth.journal:
        truth.journal = journal.id
    truth.boot = max(truth.boot, journal.boot)
    for i in range(rounds):
        fresh = []
        for _ in range(3):
            seq = journal.next_seq
            is_event = seq % 5 == 0
            if journal.append(make_frame(journal.id, journal.boot, seq, is_event=is_event), seq, int(is_event)) == 0:
                fresh.append(seq)
        journal.commit()
        truth.durable.update(fresh)
        truth.seq_max = max(truth.seq_max, journal.next_seq - 1)
        note_drops(journal, truth)
        if i % 4 == 1:
            first = truth.seq_max - 4
            truth.acknowledged.update(range(first, first + 3))
            journal.acknowledge(first, first + 2)
        if i == rounds // 2:
            journal.decide_anchor(1800000000000 + journal.boot, 2)


def note_drops(journal, truth):
    for drop in journal.take_dropped():
        truth.drops += 1
        for seq in range(drop.first_seq, drop.last_seq + 1):
            truth.durable.discard(seq)
        journal.drop_declared(drop)


def check(journal, truth):
    """Return what is wrong after a power cut."""
    wrong = []
    if truth.journal and journal.id != truth.journal:
        wrong.append("journal id changed")
    if journal.boot <= truth.boot - 1:
        wrong.append("boot number went back")
    if journal.next_seq <= truth.seq_max:
        wrong.append("number %d would be used again" % journal.next_seq)
    note_drops(journal, truth)
    journal.anchors.setdefault(journal.boot, (1, 2))
    found = set()
    buffer = memoryview(bytearray(1100))
    for boot in range(journal.boot + 1):
        journal.anchors.setdefault(boot, (1, 2))
    for priority in range(3):
        cursor = Cursor(journal, priority, 1100)
        last = 0
        while True:
            frame = cursor.read(buffer, lambda _: True)
            if frame is None:
                break
            seq = int.from_bytes(bytes(frame[10:14]), "little")
            if seq <= last:
                wrong.append("frame %d after %d" % (seq, last))
            last = seq
            found.add(seq)
        cursor.release()
    note_drops(journal, truth)
    missing = truth.durable - truth.acknowledged - found
    if missing:
        wrong.append("lost %s" % sorted(missing)[:5])
    return wrong


def run(flash, truth, limit_bytes):
    """Format, then two boots of work."""
    vfs.VfsLfs2.mkfs(flash)
    for _ in range(2):
        vfs.mount(vfs.VfsLfs2(flash), "/flash")
        journal = Journal(FOLDER, limit_bytes=limit_bytes)
        journal.open()
        work(journal, truth, 16)
        journal.close()
        vfs.umount("/flash")


def unmount():
    try:
        vfs.umount("/flash")
    except OSError:
        pass


def main():
    first, step, limit_bytes = [int(a) for a in sys.argv[1:4]]
    data = bytearray(BLOCK_BYTES * BLOCKS)
    data[:] = b"\xff" * len(data)
    flash = Flash(data)
    whole = Truth()
    run(flash, whole, limit_bytes)
    operations = flash.operations
    wrong = []
    cuts = 0
    for cut_at in range(first, operations + 1, step):
        data[:] = b"\xff" * len(data)
        flash = Flash(data)
        flash.cut_at = cut_at
        truth = Truth()
        try:
            run(flash, truth, limit_bytes)
        except (PowerCut, OSError):
            pass
        unmount()
        cuts += 1
        flash = Flash(data)
        try:
            try:
                vfs.mount(vfs.VfsLfs2(flash), "/flash")
            except OSError:
                if truth.journal:
                    raise
                continue  # cut while formatting: nothing was promised yet
            journal = Journal(FOLDER, limit_bytes=limit_bytes)
            journal.open()
            wrong.extend(["cut %d: %s" % (cut_at, w) for w in check(journal, truth)])
        finally:
            unmount()
    print(json.dumps({"operations": operations, "cuts": cuts, "drops": whole.drops, "wrong": wrong[:10]}))


main()
