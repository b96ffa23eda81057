"""What was lost is declared as data, however often the declaration itself finds no room."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from swapline_node.app import App
from swapline_node.config import check
from swapline_node.cursor import Cursor
from swapline_wire.catalogue import BOOT, EVENT, FRAMES_DROPPED, LOSS_JOURNAL_FULL, LOSS_NO_MEMORY, NODE, ROWS_DROPPED
from swapline_wire.decode import decode
from tests.node.journal_rig import frame


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    board = SimpleNamespace(
        ticks_ms=lambda: 0,
        ticks_diff=lambda now, before: now - before,
        reset_cause=lambda: 1,
        resolve=None,
        rssi_dbm=lambda: None,
    )
    app = App(board, check({"fleet": "f", "node": "n", "journal": {"path": str(tmp_path / "journal")}}))
    app.journal.open()
    yield app
    app.journal.close()


def events(app: App) -> list[tuple[int, int, int]]:
    """Return code, reason and count of the events in the journal."""
    app.journal.commit()
    app.journal.anchors[app.journal.boot] = (0, 1)
    cursor = Cursor(app.journal, EVENT, 1200)
    buffer = memoryview(bytearray(1200))
    found = []
    while (read := cursor.read(buffer, lambda _: True)) is not None:
        decoded = decode(bytes(read))
        names = [signal.name for signal in decoded.signals]
        for row in decoded.rows:
            values = dict(zip(names, row[1:], strict=True))
            found.append((values["code"], values["reason"], values["count"]))
    cursor.release()
    return found


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_losses_are_declared_when_the_disk_has_room_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swapline_node.journal.open", refuse, raising=False)
    app.counters.lose(LOSS_NO_MEMORY, rows=57)
    assert app.journal.append(frame(app.journal, NODE), 1, 0) == 0
    for _ in range(3):
        app._declare_losses()  # noqa: SLF001
    monkeypatch.undo()
    lost = app.journal.next_seq - 1
    app._declare_losses()  # noqa: SLF001
    declared = events(app)
    drops = [(reason, frames) for code, reason, frames in declared if code == FRAMES_DROPPED]
    assert drops == [(LOSS_JOURNAL_FULL, 1)] * lost
    assert (ROWS_DROPPED, LOSS_NO_MEMORY, 57) in declared
    assert (app.journal.undeclared_drops(), app.counters.frames_dropped) == ([], lost)
    app._declare_losses()  # noqa: SLF001
    assert events(app) == declared


def test_boot_that_is_known_has_declared_the_power_cut_before_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.journal.was_stopped_cleanly = False
    monkeypatch.setattr(app.journal, "open", lambda _: None)
    app._begin(SimpleNamespace(feed=None))  # noqa: SLF001
    assert [code for code, _, _ in events(app)][:2] == [ROWS_DROPPED, BOOT]
