"""What every child process of the bench that asyncio started can say of itself."""

import asyncio
import shutil


def dying_with_us() -> list[str]:
    """Return what to write in front of a command line so that the kernel kills it when its parent dies.

    Parent is the thread that starts it, which must outlive it. Nothing where the machine lacks `setpriv` (not Linux).
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


class Child:
    """The last process that was started, if any: subclasses start it and set `_process`."""

    _process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        """Return how the last process ended; None while it runs or was never started."""
        return None if self._process is None else self._process.returncode

    @property
    def pid(self) -> int:
        """Return the process id of the last start."""
        assert self._process is not None
        return self._process.pid
