"""What a desk has running beside the test: tap, world. A test must learn when one of them fails."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from swapline_bench.desk.bench_file import DeskError


class Tasks:
    """Named tasks that run until `end`."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    def raise_failures(self) -> None:
        """Raise `DeskError` for a task that has failed: what a test would wait for then never comes."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise DeskError(f"The desk's {task.get_name()} has failed: {error!r}") from error

    async def end(self) -> None:
        """Cancel all tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
