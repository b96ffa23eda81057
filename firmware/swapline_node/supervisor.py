"""Supervisor: tasks that fail or hang are started again, one that cannot be ended lets the watchdog bite."""

import asyncio
import sys

from micropython import const

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .counter import Counters
    from .log import Log

_RESTART_MS_MIN = const(500)
_RESTART_MS_MAX = const(15000)
_STOP_MS_MAX = const(1000)
_STOP_POLL_MS = const(5)
_MEMORY_ERRORS_MAX = const(10)  # so many within a window are no accident: the heap is too small or in pieces
_MEMORY_WINDOW_MS = const(60000)
_MEMORY_FAILURES_MAX = const(5)  # starts of one task in a row, half a minute: the heap is in pieces, and stays so
_ALIVE_MS_MAX = const(30000)  # a task that promised to report and has not for so long hangs


class Supervisor:
    """Own the node's tasks and the watchdog."""

    def __init__(
        self,
        counters: "Counters",
        log: "Log",
        uptime_ms: "Callable[[], int]",
        *,
        alive_ms_max: int = _ALIVE_MS_MAX,
        restart_ms_min: int = _RESTART_MS_MIN,
    ) -> None:
        self._counters = counters
        self._log = log
        self._uptime_ms = uptime_ms
        self._alive_ms_max = alive_ms_max
        self._restart_ms_min = restart_ms_min
        self._tasks: "dict[str, Any]" = {}
        self._runs: "dict[str, Callable[[], Awaitable[None]]]" = {}
        self._alive_ms: "dict[str, int]" = {}
        self._on_no_memory: "Callable[[], None] | None" = None
        self._window_ms = 0
        self._window_errors = 0

    def start(self, name: str, run: "Callable[[], Awaitable[None]]", *, reports: bool = False) -> None:
        """Keep `run` running. A task that `reports` must call `alive(name)` more often than every 30 s."""
        if reports:
            self.alive(name)
        self._runs[name] = run
        self._tasks[name] = asyncio.create_task(self._keep(name, run))

    def alive(self, name: str) -> None:
        """Take note that the task is not stuck."""
        self._alive_ms[name] = self._uptime_ms()

    def stuck(self) -> "str | None":
        """Return the name of a task that ended or has not reported for too long, if there is one."""
        now_ms = self._uptime_ms()
        for name, task in self._tasks.items():
            if task.done() or now_ms - self._alive_ms.get(name, now_ms) > self._alive_ms_max:
                return name
        return None

    def watch(
        self,
        watchdog: "Any",
        period_ms: int,
        on_stuck: "Callable[[], None]",
        on_no_memory: "Callable[[], None] | None" = None,
    ) -> None:
        """Feed the watchdog from now on. A task that hangs is ended and started again, alone: the others go on.

        Where it cannot be ended, `on_stuck` asks for an orderly restart, which feeds the watchdog once more and has to
        be done before it bites; where even that hangs, the hardware does it.
        `on_no_memory` is asked for one, once, when memory errors keep coming: no single task is to blame for them.
        """
        self._on_no_memory = on_no_memory
        self._tasks["watchdog"] = asyncio.create_task(self._feed(watchdog, period_ms, on_stuck))

    async def _feed(self, watchdog: "Any", period_ms: int, on_stuck: "Callable[[], None]") -> None:
        while True:
            try:
                self._check_memory()
                name = self.stuck()
                watchdog.feed()  # the loop runs, and what follows takes a second at most
                if name is not None and not await self._revive(name):
                    self._log.error("watchdog", "restart: task %s is stuck" % name)
                    on_stuck()
                    return
            except MemoryError:
                self._counters.memory_errors += 1  # not fed: either there is memory again soon, or the watchdog bites
            await asyncio.sleep(period_ms / 1000)

    def _check_memory(self) -> None:
        """Ask for a restart where memory errors keep coming."""
        now_ms = self._uptime_ms()
        errors = self._counters.memory_errors - self._window_errors
        if errors >= _MEMORY_ERRORS_MAX:
            self._lack_memory("%d memory errors in %d ms" % (errors, now_ms - self._window_ms))
        if now_ms - self._window_ms >= _MEMORY_WINDOW_MS:
            self._window_ms = now_ms
            self._window_errors = self._counters.memory_errors

    def _lack_memory(self, text: str) -> None:
        """Ask for a restart, once."""
        if self._on_no_memory is not None:
            self._on_no_memory()
            self._on_no_memory = None
            self._log.error("memory", text + ": restart")

    async def _revive(self, name: str) -> bool:
        """End a task that hangs and start it again; return whether that was possible."""
        if name not in self._runs:
            return False
        task = self._tasks[name]
        task.cancel()
        if not await self._has_ended(task, self._uptime_ms() + _STOP_MS_MAX):
            return False
        self._log.error(name, "task hung, and is started again")
        self._counters.task_restarts += 1
        self.start(name, self._runs[name], reports=name in self._alive_ms)
        return True

    async def _has_ended(self, task: "Any", end_ms: int) -> bool:
        while not task.done() and self._uptime_ms() < end_ms:  # noqa: ASYNC110 - no event tells about a lost task
            await asyncio.sleep(_STOP_POLL_MS / 1000)
        return bool(task.done())

    async def stop(self) -> None:
        """Cancel every task and wait for its end, though not for ever.

        Ctrl-C may strike inside a task. MicroPython's loop then has neither ended that task nor will it run it again.
        """
        for task in self._tasks.values():
            task.cancel()
        end_ms = self._uptime_ms() + _STOP_MS_MAX
        for task in self._tasks.values():
            await self._has_ended(task, end_ms)
        self._tasks = {}

    async def _keep(self, name: str, run: "Callable[[], Awaitable[None]]") -> None:
        pause_ms = self._restart_ms_min
        failures = 0  # in a row for want of memory
        while True:
            started_ms = self._uptime_ms()
            try:
                await run()
                self._log.error(name, "task ended")
            except MemoryError as error:
                self._counters.memory_errors += 1
                failures += 1
                self._report(name, error)
            except Exception as error:  # noqa: BLE001 - the one place where a task's failure ends
                self._report(name, error)
            self._counters.task_restarts += 1
            if self._uptime_ms() - started_ms > _RESTART_MS_MAX:
                pause_ms = self._restart_ms_min
                failures = 0
            if failures >= _MEMORY_FAILURES_MAX:
                self._lack_memory("%s found no memory %d times" % (name, failures))
            if name in self._alive_ms:
                self.alive(name)
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(pause_ms * 2, _RESTART_MS_MAX)

    def _report(self, name: str, error: Exception) -> None:
        try:
            self._log.error(name, "task failed: %s %s" % (type(error).__name__, error))
            _print_exception(error)
        except MemoryError:
            self._counters.memory_errors += 1  # no room even for a line


def _print_exception(error: Exception) -> None:
    """Write the trace to stderr where the interpreter is MicroPython; CPython's tests see the log line."""
    show = getattr(sys, "print_exception", None)
    if show is not None:
        show(error, sys.stderr)
