"""The demo's side of the past: which one to make, its program, and how far it is."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from swapline_bench.past import PastPlan
from swapline_bench.past_schedule import DAY_S, LAST_SHIFT_S, SHIFTS_S
from swapline_bench.past_sender import Progress
from swapline_gateway.error import StorageError

DAYS_MAX = 14
MODULE_DAYS_MAX = 200  # about half a minute on two cores beside the demo itself
GAP_S = 45.0  # between the past's last reading and the present's first one
STOP_S_MAX = 5.0


def choose_days(asked: int | None, modules: int) -> int:
    """Return how many days to make: what was asked for, else what is there soon."""
    return asked if asked is not None else max(2, min(DAYS_MAX, MODULE_DAYS_MAX // max(modules, 1)))


def past_s(days: int) -> float:
    """Return how long a past of so many days is."""
    return days * DAY_S + SHIFTS_S[0][0] + LAST_SHIFT_S


class PastRun:
    """The program `past_sender` in a folder, from start to end."""

    def __init__(self, folder: Path, *, on_log: Callable[[str], None]) -> None:
        self.folder = folder
        self.progress: Progress | None = None
        self._on_log = on_log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    def prepare(self, plan: PastPlan | None, *, is_new: bool) -> PastPlan | None:
        """Write the plan down, or return that of an earlier run here; None: a database that had no past gets none.

        What is there is the present of an earlier run: a past beside it would have its modules in two places.
        """
        try:
            before = PastPlan.load(self.folder)
        except ValueError as error:
            raise StorageError(f"{self.folder} is damaged ({error}): choose another --data-dir.") from error
        if before is None and plan is not None and is_new:
            plan.save(self.folder)
            return plan
        return before

    async def start(self, host: str, port: int) -> None:
        """Let the program make and send what is missing."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "swapline_bench.past_sender",
            str(self.folder),
            host,
            str(port),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # a Ctrl-C on the terminal is for the demo
        )
        self._reader = asyncio.create_task(self._read(self._process), name="past")

    @property
    def is_running(self) -> bool:
        """Say whether the program is still at work."""
        return self._reader is not None and not self._reader.done()

    @property
    def problem(self) -> str | None:
        """Return a sentence if the program has failed."""
        process = self._process
        if process is None or self.is_running or not process.returncode or process.returncode < 0:
            return None
        return f"the past could not be made or sent (exit code {process.returncode}); see past.log"

    async def wait(self) -> None:
        """Wait for the program to end."""
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def stop(self) -> None:
        """End the program; what it has not sent waits in its folder."""
        process = self._process
        if process is None:
            return
        self._signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self.wait()
        except TimeoutError:
            self._signal(process, signal.SIGKILL)
            await self.wait()

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: int) -> None:
        """Tell the program and its workers, which would wait for it for ever and keep its pipes open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        while line := await process.stdout.readline():
            self.progress = Progress(**json.loads(line))
        for said in (await process.stderr.read()).decode("utf-8", "replace").splitlines():
            self._on_log(said)
        await process.wait()
