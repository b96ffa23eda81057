"""Changed input of every kind that comes from outside, in CPython and in MicroPython; `make fuzz` goes further."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import gateway_target, node_target
from tests.fuzz.seed import SEEDS

ROOT = Path(__file__).parents[2]
TARGETS = {**node_target.TARGETS, **gateway_target.TARGETS}
MICROPYTHON_CASES = 150  # of each target
SEED = 20261122

edit = st.tuples(st.sampled_from(["set", "insert", "cut", "repeat"]), st.integers(0, 1 << 16), st.binary(max_size=12))


def change(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, new in edits:
        at = place % (len(data) + 1)
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        elif kind == "cut":
            data = data[:at] + data[at + len(new) :]
        else:
            data = data[:at] + data[max(0, at - 40) :]
    return data


def test_every_target_has_input_to_begin_with() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets write into the current directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_good_input_is_no_finding(name: str) -> None:
    for data in SEEDS[name]():
        TARGETS[name](data)


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_input_raises_nothing_but_what_is_documented(name: str, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(SEEDS[name]()))
    edits = data.draw(st.lists(edit, max_size=6))
    TARGETS[name](change(whole, edits) if edits else data.draw(st.binary(max_size=300)))


def cases() -> Iterator[tuple[str, bytes]]:
    chooser = random.Random(SEED)  # noqa: S311 (the same cases in every run)
    kinds = ("set", "insert", "cut", "repeat")
    for name in sorted(node_target.TARGETS):
        seeds = SEEDS[name]()
        for _ in range(MICROPYTHON_CASES):
            edits = [
                (chooser.choice(kinds), chooser.randrange(1 << 16), chooser.randbytes(chooser.randrange(12)))
                for _ in range(chooser.randrange(6))
            ]
            yield name, change(chooser.choice(seeds), edits)


def run_in_micropython(folder: Path, chosen: list[tuple[str, bytes]]) -> subprocess.CompletedProcess[str]:
    path = folder / "cases"
    with path.open("wb") as file:
        for name, data in chosen:
            for part in (name.encode(), data):
                file.write(len(part).to_bytes(4, "little") + part)
    return subprocess.run(
        [Path(sys.executable).with_name("micropython"), "-X", "heapsize=512K", node_target.__file__, path],
        cwd=folder,
        env={**os.environ, "MICROPYPATH": f".frozen:{ROOT / 'firmware'}"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_changed_input_in_micropython_raises_nothing_but_what_is_documented(tmp_path: Path) -> None:
    chosen = list(cases())
    done = run_in_micropython(tmp_path, chosen)
    assert done.stdout.split()[-2:] == ["cases", str(len(chosen))], done.stdout + done.stderr


def test_a_finding_in_micropython_is_shown_with_its_bytes(tmp_path: Path) -> None:
    """The check itself: a target that is given no bytes at all where it needs a name raises, and that is told."""
    done = run_in_micropython(tmp_path, [("no such target", b"\x01\x02")])
    assert done.returncode == 1
    assert "no such target: KeyError" in done.stdout
    assert "0102" in done.stdout
