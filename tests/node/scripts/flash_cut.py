"""Cut the power at every single flash operation of a journal's life, on LittleFS, under MicroPython.

Arguments: how many slices there are, which one to do, every how many first cuts to cut again during recovery.
Prints one line of JSON: operations, boots, what recovery cost at most, and what was wrong.

The life (sealing, acknowledging, new segments, a full journal, boots) is lived once. Its flash operations are recorded
with what was true when each began; the flash as it was before operation n is then built up step by step, operation n
left half done, or done without anybody learning it, and the journal opened as the next boot does.
"""

# ruff: noqa: SIM105, SLF001, T201, UP031 (a script for MicroPython)

import json
import sys

import vfs
from flash_device import ERASED, Flash
from flash_life import (
    ALARM,
    FRAME_BYTES_MAX,
    JOURNAL,
    LIMIT_BYTES,
    ROUTINE,
    Life,
    acknowledge,
    live_offline,
    live_online,
    make_frame,
    seal,
)

from swapline_node.cursor import Cursor
from swapline_node.journal import Journal

BLOCKS = 40
SMALL_MAX = 3
MOUNT = {"readsize": 128, "progsize": 32}  # 512 bytes lie inline, as on a board
FOLDER = "/flash/journal"


class Truth:
    """What holds at one moment of a life; `advance` to later ones."""

    def __init__(self, life):
        self.life = life
        self.place = 0
        self.durable = set()
        self.acknowledged = set()
        self.declared = set()
        self.anchors = {}
        self.occupants = {""}  # one of them sits in bay 1
        self.boot = 0

    def advance(self, operations):
        history = self.life.history
        while self.place < len(history) and history[self.place][0] <= operations:
            what, details = history[self.place][1:]
            if what == "durable":
                self.durable.update(details[0])
            elif what == "acknowledged":
                self.acknowledged.update(range(details[0], details[1] + 1))
            elif what == "declared":
                self.declared.update(range(details[0], details[1] + 1))
            elif what == "anchor":
                self.anchors[details[0]] = details[1]
            elif what == "occupying":
                self.occupants.add(details[0])
            elif what == "occupied":
                self.occupants = {details[0]}
            else:
                self.boot = details[0]
            self.place += 1


class Power:
    """A journal on a flash, from power on to the power cut. Raises OSError where it cannot be opened."""

    def __init__(self, flash):
        self.flash = flash
        self.journal = Journal(FOLDER, limit_bytes=LIMIT_BYTES, small_max=SMALL_MAX)

    def __enter__(self):
        vfs.mount(vfs.VfsLfs2(self.flash, **MOUNT), "/flash")
        try:
            self.journal.open()
        except OSError:
            self.__exit__()
            raise
        return self.journal

    def __exit__(self, *_):
        """Close the files, which writes nothing: the collector must not find them when it is too late."""
        for file in self.journal._files:
            if file is not None:
                try:
                    file.close()
                except OSError:
                    pass  # the power was cut
        vfs.umount("/flash")


def live(flash, life):
    """Three boots: online, offline until the journal drops, and back; alarms and events in between."""
    vfs.VfsLfs2.mkfs(flash, **MOUNT)
    for boot in range(1, 4):
        with Power(flash) as journal:
            life.note("boot", boot)
            live_online(journal, life)
            live_offline(journal, life)
            if boot == 2:
                journal.close()
    with Power(flash) as journal:
        acknowledge(journal, life, 1, journal.next_seq - 1)
        seal(journal, life, [(ROUTINE, 5), (ALARM, 1)])


def read_all(journal, wrong, life):
    """Return the numbers of all waiting frames; note where order or bytes are not as sealed."""
    found = set()
    buffer = memoryview(bytearray(FRAME_BYTES_MAX))
    for priority in range(3):
        cursor = Cursor(journal, priority, FRAME_BYTES_MAX)
        last = 0
        while True:
            frame = cursor.read(buffer, lambda _: True)
            if frame is None:
                break
            seq = int.from_bytes(bytes(frame[10:14]), "little")
            if seq <= last:
                wrong.append("frame %d comes after %d" % (seq, last))
            if seq in life.frames and bytes(frame) != life.frames[seq]:
                wrong.append("frame %d has other bytes" % seq)
            last = seq
            found.add(seq)
        cursor.release()
    return found


def check(journal, truth):
    """Return what is wrong with a journal that was opened after a power cut."""
    wrong = []
    life = truth.life
    if journal.id != JOURNAL:
        wrong.append("the journal's id changed")
    if journal.boot <= truth.boot:
        wrong.append("boot %d comes again" % journal.boot)
    if truth.durable and journal.next_seq <= max(truth.durable):
        wrong.append("number %d comes again" % journal.next_seq)
    occupant, moment = journal.occupants.get(1, ("", None))
    if occupant not in truth.occupants or bool(occupant) != bool(moment):
        wrong.append("%s sits in the bay, not one of %s" % (occupant, sorted(truth.occupants)))
    declared = set(truth.declared)
    for drop in journal.undeclared_drops():
        declared.update(range(drop.first_seq, drop.last_seq + 1))
    for boot, anchor in truth.anchors.items():
        if journal.anchors.get(boot, anchor) != anchor:
            wrong.append("the anchor of boot %d moved" % boot)
    dated = set(journal.anchors)
    for boot in range(1, journal.boot + 1):
        journal.anchors.setdefault(boot, (1, 2))  # so that the cursor shows every frame
    found = read_all(journal, wrong, life)
    lost = truth.durable - truth.acknowledged - found
    if lost - declared:
        wrong.append("lost and not declared: %s" % sorted(lost - declared)[:5])
    if declared & found:
        wrong.append("declared as lost, but here: %s" % sorted(declared & found)[:5])
    for seq in found:
        boot = int.from_bytes(life.frames[seq][14:18], "little")
        if boot in truth.anchors and boot not in dated:
            wrong.append("frame %d has lost its anchor" % seq)
            break
    wrong.extend(check_goes_on(journal))
    return wrong


def check_goes_on(journal):
    """Append a frame to each family: they must be there, and the journal within its limit."""
    sealed = {}
    for priority in range(3):
        seq = journal.next_seq
        frame = make_frame(journal, priority, 1)
        if journal.append(frame, seq, priority) == 0:
            sealed[seq] = bytes(frame)
    journal.commit()
    wrong = []
    gone = set()
    for drop in journal.undeclared_drops():
        gone.update(range(drop.first_seq, drop.last_seq + 1))
    found = read_all(journal, wrong, LifeOf(sealed))
    if set(sealed) - found - gone:
        wrong.append("the next frames %s are not there" % sorted(sealed))
    if journal.used_bytes() > LIMIT_BYTES:
        wrong.append("%d bytes are used" % journal.used_bytes())
    return wrong


class LifeOf:
    def __init__(self, frames):
        self.frames = frames


class Result:
    def __init__(self):
        self.boots = 0
        self.wrong = []
        self.reads_max = 0
        self.operations_max = 0

    def boot(self, flash, truth, name):
        """Boot from `flash` and check; return how many operations recovery took."""
        self.boots += 1
        operations = 0
        try:
            with Power(flash) as journal:
                operations = flash.operations
                self.reads_max = max(self.reads_max, flash.reads)
                self.operations_max = max(self.operations_max, operations)
                self.wrong.extend(["%s: %s" % (name, w) for w in check(journal, truth)])
        except OSError as error:
            if truth.boot:  # else it was cut while formatting: nothing was promised yet
                self.wrong.append("%s: %r" % (name, error))
        return operations

    def boot_cut(self, blocks, truth, name, cut_at):
        """Cut the power once more, at the n-th operation of recovery, and boot again."""
        flash = Flash(blocks, cut_at)
        try:
            with Power(flash):
                pass
        except OSError:
            pass
        self.boot(Flash(flash.blocks), truth, "%s, again %d" % (name, cut_at))


def main():
    slices, this, nested_step = [int(a) for a in sys.argv[1:4]]
    flash = Flash([ERASED] * BLOCKS)
    flash.log = []
    life = Life(flash)
    live(flash, life)
    log = flash.log
    result = Result()
    truth = Truth(life)
    image = Flash([ERASED] * BLOCKS)
    for n in range(len(log)):
        block, offset, data = log[n]
        truth.advance(n)
        if n * slices // len(log) == this:
            name = "operation %d of %d" % (n + 1, len(log))
            half = Flash(image.blocks)
            half.change(block, offset, data[: len(data) // 2])
            operations = result.boot(Flash(half.blocks), truth, name + " half done")
            if n % nested_step == 0:
                for cut_at in range(1, operations + 1):
                    result.boot_cut(half.blocks, truth, name, cut_at)
            whole = Flash(image.blocks)
            whole.change(block, offset, data)
            result.boot(whole, truth, name + " done")
        image.blocks[block] = bytearray(image.blocks[block])
        image.blocks[block][offset : offset + len(data)] = data
    print(
        json.dumps(
            {
                "operations": len(log),
                "boots": result.boots,
                "drops": life.drops,
                "frames": len(life.frames),
                "reads_max": result.reads_max,
                "operations_max": result.operations_max,
                "wrong": result.wrong[:10],
                "wrong_count": len(result.wrong),
            }
        )
    )


main()
