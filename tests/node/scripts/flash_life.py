"""A journal's life for the tests that cut the power: what is sealed, acknowledged, dropped, and what is then true."""

from swapline_node import recovery
from swapline_wire.catalogue import (
    ALARM,
    ALARM_STREAM,
    EVENT,
    EVENT_STREAM,
    FRAMES_DROPPED,
    NODE,
    ROUTINE,
    not_available,
)
from swapline_wire.frame import FrameBuilder

LIMIT_BYTES = 57344
JOURNAL = 7
FRAME_BYTES_MAX = 1100
UTC_MS = 1800000000000
STREAMS = {ROUTINE: NODE, EVENT: EVENT_STREAM, ALARM: ALARM_STREAM}
CODE, FIRST, LAST = [[s.name for s in EVENT_STREAM.signals].index(n) for n in ("code", "first_seq", "last_seq")]

recovery.draw_id = lambda: JOURNAL


class Life:
    """What happened, in order: (flash operations done by then, what, details)."""

    def __init__(self, flash):
        self.flash = flash
        self.frames = {}  # seq -> bytes
        self.history = []
        self.drops = 0

    def note(self, what, *details):
        self.history.append((self.flash.operations, what, details))


def make_frame(journal, priority, rows, first=0, last=0):
    stream = STREAMS[priority]
    builder = FrameBuilder(stream, buffer_bytes=FRAME_BYTES_MAX)
    values = not_available(stream.signals)
    if last:
        values[CODE], values[FIRST], values[LAST] = FRAMES_DROPPED, first, last
    for row in range(rows):
        builder.add(journal.next_seq * 1000 + row, values)
    return builder.seal(journal=journal.id, seq=journal.next_seq, boot=journal.boot, time_quality=0, anchor_utc_ms=0)


def seal(journal, life, frames):
    """Append what `frames` says (priority, rows), commit, and declare what was dropped for it, as the node does."""
    fresh = []
    for priority, rows in frames:
        seq = journal.next_seq
        frame = make_frame(journal, priority, rows)
        life.frames[seq] = bytes(frame)
        if journal.append(frame, seq, priority) == 0:
            fresh.append(seq)
    journal.commit()
    life.note("durable", fresh)
    for drop in journal.undeclared_drops():
        life.drops += 1
        seq = journal.next_seq
        frame = make_frame(journal, EVENT, 1, drop.first_seq, drop.last_seq)
        life.frames[seq] = bytes(frame)
        journal.append(frame, seq, EVENT)
        journal.commit()
        life.note("durable", [seq])
        life.note("declared", drop.first_seq, drop.last_seq)
        journal.drop_declared(drop)
    return fresh


def acknowledge(journal, life, first, last):
    life.note("acknowledged", first, last)
    journal.acknowledge(first, last)


def occupy(journal, life, code):
    life.note("occupying", code)
    journal.occupy(1, code)
    life.note("occupied", code)


def live_online(journal, life):
    for i in range(6):
        if i % 2:
            occupy(journal, life, "" if i == 3 else f"{10 * journal.boot + i:024d}")
        seal(journal, life, [(ROUTINE, 2), (ROUTINE, 5)] + ([(EVENT, 1)] if i % 3 == 1 else []))
        acknowledge(journal, life, journal.next_seq - 3, journal.next_seq - 1)
        if i == 2:
            anchor = (UTC_MS + journal.boot, 2)
            journal.decide_anchor(*anchor)
            life.note("anchor", journal.boot, anchor)


def live_offline(journal, life):
    for i in range(10):
        seal(journal, life, [(ROUTINE, 5), (ROUTINE, 8)] + ([(ALARM, 1), (EVENT, 1)] if i % 4 == 2 else []))
        if i % 4 == 3:
            acknowledge(journal, life, journal.next_seq - 8, journal.next_seq - 6)
