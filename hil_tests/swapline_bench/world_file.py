"""A demo's world on the disk: a run that ends in order writes it down, and the next one on the folder goes on from it.

A line that says what it is, with a checksum over the rest; a line of JSON (the code that wrote it, the settings that it
belongs to, how far its story is); and the world's own objects as Python pickles them: cells, counters, places, robots
and the states of all random numbers are attributes of some twenty classes, and a form of our own would be one more
place to forget one. What goes with that:

- A pickle fits only the code that wrote it. So the file carries a sum over that code's sources, and a world of other
  code is not taken: for a demo it is enough that a new world begins, and that it says so.
- A pickle may ask for any code to be run. This one is read from a folder that the user names, and nothing but the
  world's classes, and two of Python's own, is built from it.
- Clock and ledger are the run's and not the world's, so they stay out: real time has another zero after a reboot, and
  the ledger of a run begins with the modules where they are.

The file is taken away when the world's time begins to pass, since from then on it is not true. A run that is killed
leaves none: a world of a moment before would put modules and charge back that nodes have told of meanwhile.
"""

import collections
import io
import json
import pickle
import random
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from swapline_bench import (
    battery,
    climate,
    drivetrain,
    grid,
    module,
    protection,
    robot,
    route,
    station,
    traction_bus,
    van,
    world,
)
from swapline_bench.custody import Ledger, WorldClock
from swapline_bench.story import StoryState
from swapline_bench.world import World
from swapline_gateway import durable

MAGIC = b"swapline world "
_SOURCES = (
    battery,
    climate,
    drivetrain,
    grid,
    module,
    protection,
    robot,
    route,
    station,
    traction_bus,
    van,
    world,
)
_BROKEN = (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError)
_FOREIGN = {("random", "Random"): random.Random, ("collections", "deque"): collections.deque}


class WorldFileError(Exception):
    """The file is no world that this demo can go on from; the text says why, and goes on a `because`."""


class WorldSettings(NamedTuple):
    """What a world was made from. Its speed is the run's."""

    vans: int
    stations: int
    slots: int
    seed: int


class Stopped(NamedTuple):
    """A world as it was when it was written down, and how far its story had come (None: it has none)."""

    world: World
    story: StoryState | None


class WorldFile:
    """The file `world` in a demo's folder."""

    def __init__(self, folder: Path, settings: WorldSettings) -> None:
        self.path = folder / "world"
        self._settings = settings

    def save(self, stopped: Stopped) -> None:
        """Write the world down, whole or not at all. Raises `StorageError`."""
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=5).dump(stopped.world)
        ledger, story = stopped.world.ledger, stopped.story
        head = {
            "code": _sum_of_code(),
            "settings": self._settings._asdict(),
            "time_s": ledger.clock.time_s,
            "request_id": ledger.last_request_id,
            "story": None if story is None else story._asdict(),
        }
        content = json.dumps(head).encode() + b"\n" + buffer.getvalue()
        durable.put(self.path, MAGIC + _sum(content) + b"\n" + content, 0o600)

    def load(self, *, speed: float, real_time_s: Callable[[], float] | None = None) -> Stopped | None:
        """Return the world, with a clock and a ledger of this run; None if there is no file.

        Raises `WorldFileError` if it cannot be gone on from.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorldFileError(f"{self.path} cannot be read: {error.strerror}") from error
        magic, _, content = data.partition(b"\n")
        if magic != MAGIC + _sum(content):
            raise WorldFileError(f"{self.path} is damaged, or no world")
        line, _, body = content.partition(b"\n")
        try:
            head = json.loads(line)
            self._check(head)
            return self._build(head, body, WorldClock(speed, real_time_s))
        except _BROKEN as error:
            raise WorldFileError(f"{self.path} holds no world ({error})") from error

    @staticmethod
    def _build(head: Mapping[str, Any], body: bytes, clock: WorldClock) -> Stopped:
        clock.time_s = head["time_s"]
        ledger = Ledger(clock)
        ledger.last_request_id = head["request_id"]
        found = _Unpickler(body, clock, ledger).load()
        if not isinstance(found, World):
            raise pickle.UnpicklingError(f"it is of type {type(found).__name__}")
        found.speed = clock.speed
        found.record_places()
        story = head["story"]
        return Stopped(found, None if story is None else StoryState(story["module"], tuple(story["known"])))

    def _check(self, head: Mapping[str, Any]) -> None:
        """Raise `WorldFileError` for a world of other code or other settings."""
        if head["code"] != _sum_of_code():
            raise WorldFileError(f"{self.path} was written by another version of swapline")
        if (before := WorldSettings(**head["settings"])) != self._settings:
            names = [name for name in WorldSettings._fields if getattr(before, name) != getattr(self._settings, name)]
            had = ", ".join(f"{name} {getattr(before, name)}" for name in names)
            raise WorldFileError(f"the one of {self.path} has other settings ({had})")

    def forget(self) -> None:
        """Take the file away, for good: the world goes on and is not as it says any more. Raises `OSError`."""
        if self.path.exists():
            self.path.unlink()
            durable.sync(self.path.parent)


def _sum(content: bytes) -> bytes:
    return sha256(content).hexdigest().encode()


def _sum_of_code() -> str:
    """Return a sum over the sources of the classes that are in the file."""
    total = sha256()
    for source in _SOURCES:
        total.update(Path(str(source.__file__)).read_bytes())
    return total.hexdigest()


class _Pickler(pickle.Pickler):
    """Leaves out what is the run's."""

    def persistent_id(self, obj: object) -> str | None:
        return {WorldClock: "clock", Ledger: "ledger"}.get(type(obj))


class _Unpickler(pickle.Unpickler):
    """Puts in what is the run's, and builds nothing but parts of a world."""

    def __init__(self, body: bytes, clock: WorldClock, ledger: Ledger) -> None:
        super().__init__(io.BytesIO(body))
        self._own: dict[str, WorldClock | Ledger] = {"clock": clock, "ledger": ledger}

    def persistent_load(self, pid: str) -> WorldClock | Ledger:
        return self._own[pid]

    def find_class(self, module_name: str, name: str) -> Any:
        if (module_name, name) in _FOREIGN:
            return _FOREIGN[module_name, name]
        found = next((vars(source).get(name) for source in _SOURCES if source.__name__ == module_name), None)
        if not isinstance(found, type) or found.__module__ != module_name:
            raise pickle.UnpicklingError(f"{module_name}.{name} is no part of a world")
        return found
