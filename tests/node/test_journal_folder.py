"""The journal in a folder on Linux: killed, and its power cut, at every system call of its life."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swapline_node.cursor import Cursor
from swapline_node.journal import Journal
from tests.node.disk_model import STDOUT, Call, Disk, read_calls
from tests.node.journal_rig import close_journals, open_journal
from tests.node.node_rig import FIRMWARE, MICROPYTHON, SCRIPTS

LIMIT_BYTES = 57344  # as in flash_life.py
CALLS = "openat,close,write,fsync,rename,unlink,mkdir"
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


class Truth:
    """What the life has told so far."""

    def __init__(self) -> None:
        self.durable: set[int] = set()
        self.acknowledged: set[int] = set()
        self.declared: set[int] = set()
        self.anchors: dict[int, tuple[int, int]] = {}
        self.occupants = {""}  # one of them sits in bay 1
        self.boot = 0
        self._line = b""

    def hear(self, text: bytes) -> None:
        *lines, self._line = (self._line + text).split(b"\n")
        for line in lines:
            what, details = json.loads(line)
            if what == "durable":
                self.durable.update(details[0])
            elif what == "anchor":
                self.anchors[details[0]] = (details[1][0], details[1][1])
            elif what == "occupying":
                self.occupants.add(details[0])
            elif what == "occupied":
                self.occupants = {details[0]}
            elif what == "boot":
                self.boot = details[0]
            elif what in ("acknowledged", "declared"):
                getattr(self, what).update(range(details[0], details[1] + 1))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    folder = tmp_path_factory.mktemp("life")
    script = [str(MICROPYTHON), "-X", "heapsize=8M", str(SCRIPTS / "flash_folder.py"), str(folder / "journal")]
    strace = ["strace", "-f", "-o", str(folder / "log"), "-s", "8192", "-xx", "-e", f"trace={CALLS}"]
    environment = {**os.environ, "MICROPYPATH": f"{FIRMWARE}:.frozen"}
    subprocess.run([*strace, *script], env=environment, capture_output=True, check=True)
    recorded = read_calls(folder / "log")
    opened = next(call for call in recorded if call.name == "mkdir" and call.strings[0].endswith(b"/journal"))
    return recorded[recorded.index(opened) :]


@pytest.fixture(scope="module")
def frames(calls: list[Call]) -> dict[int, bytes]:
    told = b"".join(call.strings[0] for call in calls if call.name == "write" and call.descriptor == STDOUT)
    lines: list[Any] = [json.loads(line) for line in told.splitlines()]
    return {details[0]: bytes.fromhex(details[1]) for what, details in lines if what == "frame"}


def read_all(journal: Journal) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    buffer = memoryview(bytearray(1200))
    for priority in range(3):
        cursor = Cursor(journal, priority, 1200)
        last = 0
        while (frame := cursor.read(buffer, lambda _: True)) is not None:
            seq = int.from_bytes(frame[10:14], "little")
            assert seq > last
            found[seq] = bytes(frame)
            last = seq
        cursor.release()
    return found


def check(folder: Path, truth: Truth, frames: dict[int, bytes]) -> None:
    """Boot, and hold what is there against what was true."""
    journal = open_journal(folder, LIMIT_BYTES)
    assert journal.boot > truth.boot
    assert journal.next_seq > max(truth.durable, default=0)
    assert journal.occupants.get(1, ("", None))[0] in truth.occupants
    declared = truth.declared | {
        seq for drop in journal.undeclared_drops() for seq in range(drop.first_seq, drop.last_seq + 1)
    }
    for boot, anchor in truth.anchors.items():
        assert journal.anchors.get(boot, anchor) == anchor
    for boot in range(1, journal.boot + 1):
        journal.anchors.setdefault(boot, (1, 2))  # so that the cursor shows every frame
    found = read_all(journal)
    assert all(frames[seq] == frame for seq, frame in found.items())
    assert truth.durable - truth.acknowledged - set(found) <= declared
    assert not declared & set(found), "declared as lost, but here"


def try_out(files: dict[str, bytes], folder: Path, truth: Truth, frames: dict[int, bytes], name: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file, data in files.items():
        (folder / file).write_bytes(data)
    try:
        check(folder, truth, frames)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
    finally:
        close_journals()


@pytest.mark.parametrize("how", ["killed", "cut, names early", "cut, names late"])
def test_journal_survives_its_end_at_every_system_call(
    how: str, calls: list[Call], frames: dict[int, bytes], tmp_path: Path
) -> None:
    opened = calls[0].strings[0].decode()
    disk, truth, ends = Disk(Path(opened)), Truth(), 0
    for number, call in enumerate(calls):
        if call.name == "write" and call.descriptor == STDOUT:
            truth.hear(call.strings[0])
            continue
        if not disk.apply(call):
            continue
        ends += 1
        files = disk.killed() if how == "killed" else disk.cut(are_names_late=how.endswith("late"))
        try_out(files, tmp_path / "journal", truth, frames, f"{how}, after call {number} ({call.name})")
    assert ends > 200
    assert truth.declared, "the life must fill the journal"


def test_half_a_write_is_as_good_as_none(calls: list[Call], frames: dict[int, bytes], tmp_path: Path) -> None:
    disk, truth, ends = Disk(Path(calls[0].strings[0].decode())), Truth(), 0
    for number, call in enumerate(calls):
        if call.name == "write" and call.descriptor == STDOUT:
            truth.hear(call.strings[0])
            continue
        before = disk.killed()
        if disk.apply(call) and call.name == "write":
            after = disk.killed()
            (name,) = (name for name in after if after[name] != before.get(name))
            half = (len(before[name]) + len(after[name])) // 2
            ends += 1
            files = {**before, name: after[name][:half]}
            try_out(files, tmp_path / "journal", truth, frames, f"half of call {number}")
    assert ends > 50
