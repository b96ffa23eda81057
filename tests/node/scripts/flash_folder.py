"""A journal's life in a folder (Linux), under MicroPython. Argument: the folder.

Prints a line of JSON for each thing that is true from then on, and at the end the frames: strace shows what the system
was asked for before and after each line.
"""

# ruff: noqa: SLF001, T201 (a script for MicroPython)

import binascii
import json
import sys

from flash_life import LIMIT_BYTES, ROUTINE, Life, acknowledge, live_offline, live_online, seal

from swapline_node.journal import Journal


class Clock:
    """In the place of a flash: nothing counts operations here."""

    operations = 0


class Told(Life):
    """A life that is told as it happens."""

    def note(self, what, *details):
        print(json.dumps([what, details]))


def main():
    life = Told(Clock())
    for boot in range(1, 4):
        journal = Journal(sys.argv[1], limit_bytes=LIMIT_BYTES)
        journal.open()
        life.note("boot", boot)
        live_online(journal, life)
        live_offline(journal, life)
        if boot == 2:
            journal.close()
        for file in journal._files:
            if file is not None:
                file.close()
    journal = Journal(sys.argv[1], limit_bytes=LIMIT_BYTES)
    journal.open()
    acknowledge(journal, life, 1, journal.next_seq - 1)
    seal(journal, life, [(ROUTINE, 5)])
    for seq, frame in life.frames.items():
        print(json.dumps(["frame", [seq, binascii.hexlify(frame).decode()]]))


main()
