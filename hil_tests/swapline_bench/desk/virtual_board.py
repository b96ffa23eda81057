"""A virtual board: the unmodified firmware in a MicroPython process whose world is a board's (`virtual_main.py`).

Its flash is an image file with LittleFS in blocks of 4 KiB, mounted as `boards/flash.py` does it, and survives whatever
ends the process. Its supply, power-good input, reset button, watchdog and reset cause are the bench's.
"""

import asyncio
import json
import os
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swapline_bench import cpu_wait
from swapline_bench.bundle import compile_source
from swapline_bench.node_process import HEAP_BYTES, STOP_S_MAX, NodeError, NodeProcess

FLASH_BYTES = 2 << 20
BLOCK_BYTES = 4096
# Winbond W25Q32JV, section 9.6, typical: the flash of most ESP32 and RP2 modules or one like it.
ERASE_US = 45_000
PROGRAM_US = 400
# What the hardware in virtual_main.py takes of the heap; a chip has it beside its heap. Measured: 10.3 KiB.
HARDWARE_HEAP_BYTES = 11 * 1024
CAUSE_POWER_ON, CAUSE_HARD, CAUSE_WATCHDOG, CAUSE_SOFT, CAUSE_BROWN_OUT = 1, 2, 3, 5, 6  # of the catalogue
FEATURES = frozenset({"power", "brown_out", "watchdog", "snippet", "flash_faults", "heap_limit", "clock"})
_REGISTERS = struct.Struct("<BBBBIIII")  # as virtual_main.REGISTERS
_EXIT_RESET = 75
_POWER_GOOD_OFFSET, _CAUSE_OFFSET, _FAILS_OFFSET, _CUT_AT_OFFSET = 0, 1, 2, 12
_START = "import virtual_main"
_CUT_LINE = "board: power is cut in flash operation "
_RUN_HEAP_BYTES = 16 << 20
_RUN_S_MAX = 60.0
_COPY_IN = """
import os
def put(source, target):
    for name, kind, *_ in os.ilistdir(source):
        if kind == 0x4000:
            try:
                os.mkdir(target + "/" + name)
            except OSError:
                pass
            put(source + "/" + name, target + "/" + name)
        else:
            with open(source + "/" + name, "rb") as file, open(target + "/" + name, "wb") as copy:
                copy.write(file.read())
put("/host/in", "")
"""
_COPY_OUT = """
import os
def get(source, target):
    os.mkdir(target)
    for name, kind, *_ in os.ilistdir(source or "/"):
        if source + "/" + name == "/host":
            continue
        if kind == 0x4000:
            get(source + "/" + name, target + "/" + name)
        else:
            with open(source + "/" + name, "rb") as file, open(target + "/" + name, "wb") as copy:
                copy.write(file.read())
get({source!r}, "/host/out")
"""
# LittleFS counts shared blocks twice, more than there are even, so only trying tells when there is none left.
_FILL = """
import os
def free():
    _, _, total, blocks, *_ = os.statvfs("/")
    return blocks * {block} if blocks <= total else 0
try:
    while {free_bytes} == 0 or free() > {free_bytes}:
        with open("/filler", "ab") as file:
            file.write(bytes({block}))
except OSError:
    pass
print(free())
"""
_UNFILL = """
import os
try:
    os.remove("/filler")
except OSError:
    pass
"""


class VirtualBoard(NodeProcess):
    """One board. `folder` holds its flash image; a new one is blank. `bundle` and `config` are on it at the next start.

    `is_flash_timed`: erasing and programming take as long as a real flash's. Between `start` and `stop`, `cut_power` or
    `brown_out` it has power: a reset that the firmware or the watchdog asks for starts it again by itself.
    """

    features = FEATURES

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        bundle: Path | None = None,
        config: dict[str, Any] | None = None,
        heap_bytes: int = HEAP_BYTES,
        on_line: Callable[[str], None] | None = None,
        on_power: Callable[[str], None] | None = None,
        ticks_wrap_in_s: float | None = None,
        flash_bytes: int = FLASH_BYTES,
        is_flash_timed: bool = False,
    ) -> None:
        self.reset_causes: list[int] = []  # what the hardware told at each start, oldest first
        self._next_cause = CAUSE_POWER_ON
        self._is_reset = False
        self._supply_changed = asyncio.Event()
        super().__init__(
            name,
            folder,
            bundle=folder,
            config=config,
            heap_bytes=heap_bytes + HARDWARE_HEAP_BYTES,
            on_line=on_line,
            on_power=on_power,
            ticks_wrap_in_s=ticks_wrap_in_s,
        )
        self._inbox = folder / "in"
        image = folder / "flash"
        if not image.exists():
            image.write_bytes(b"\xff" * flash_bytes)
        times_us = (ERASE_US, PROGRAM_US) if is_flash_timed else (0, 0)
        self._registers = folder / "registers"
        self._registers.write_bytes(_REGISTERS.pack(1, CAUSE_POWER_ON, 0, 0, *times_us, 0, 0))
        if bundle is not None:
            shutil.copytree(bundle, self._inbox, dirs_exist_ok=True)

    # ---- what lies on the flash, while the board is off

    async def flash(self, bundle: Path) -> None:
        """Put the firmware in the folder `bundle` on the board, which is off."""
        shutil.copytree(bundle, self._inbox, dirs_exist_ok=True)
        await self._write_inbox()

    def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`, which the next start reads."""
        inbox = self.folder / "in"
        inbox.mkdir(exist_ok=True)
        (inbox / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    async def run(self, snippet: str) -> str:
        """Run MicroPython on the board's file system, firmware stopped, and return what it printed.

        Flash faults do not touch it. Raises `NodeError` where the board runs, or with the trace where the code fails.
        """
        if self.is_running:
            raise NodeError(f"{self.name} runs its firmware: stop it before code is run in its idle interpreter.")
        self._install_hardware()
        (self.folder / "snippet.py").write_text(snippet, encoding="utf-8")
        process = await self._execute(["-c", _START, ".", "run"], heap_bytes=_RUN_HEAP_BYTES)
        try:
            async with asyncio.timeout(_RUN_S_MAX):
                output = (await process.communicate(b""))[0].decode("utf-8", "replace")
        except TimeoutError:
            process.kill()
            await process.wait()
            raise NodeError(f"{self.name}: the code did not end within {_RUN_S_MAX:g} s:\n{snippet}") from None
        if process.returncode != 0:
            raise NodeError(f"{self.name}: the code failed:\n{output}")
        return output

    async def read_flash(self, path: str, target: Path) -> None:
        """Copy the folder `path` of the flash ("" for all of it) to the new folder `target`."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        await self.run(_COPY_OUT.format(source=path))
        shutil.rmtree(target, ignore_errors=True)
        out.rename(target)

    async def copy_journal(self) -> Path:
        """Return a folder with what the journal of a board that is off holds, for `journal_reader`."""
        target = self.folder / "journal"
        await self.read_flash("/journal", target)
        return target

    async def fill_flash(self, free_bytes: int = 0) -> int:
        """Have another file take the flash's room but for `free_bytes`, and return how much LittleFS says is free."""
        return int(await self.run(_FILL.format(block=BLOCK_BYTES, free_bytes=free_bytes)))

    async def empty_flash(self) -> None:
        """Remove what `fill_flash` wrote."""
        await self.run(_UNFILL)

    # ---- flash faults, at any time

    @property
    def flash_operations(self) -> int:
        """Return how many erase and program operations the firmware has made on this flash."""
        return int(self._read_registers()[-1])

    def cut_at_operation(self, number: int) -> None:
        """Cut the power in the middle of the `number`-th erase or program operation from now, half of it done.

        The log says so ("board: power is cut in flash operation ..."), and the board is off. 0: never.
        """
        at = self.flash_operations + number if number else 0
        self._write_register(_CUT_AT_OFFSET, at.to_bytes(4, "little"))

    def fail_flash(self, *, is_failing: bool = True) -> None:
        """Have every erase and program operation fail with EIO from now on; with False, none any more."""
        self._write_register(_FAILS_OFFSET, bytes([is_failing]))

    # ---- power

    async def stop(self, *, timeout_s: float = STOP_S_MAX) -> int:
        """Ask the firmware to seal and stop, then switch off. Raises `NodeError` if it does not within `timeout_s`."""
        self._next_cause = CAUSE_POWER_ON
        self._supply_changed.set()
        return await super().stop(timeout_s=timeout_s)

    async def cut_power(self) -> None:
        """Take the power away at whatever it is doing. Does nothing to a board that is off."""
        if self.is_running:
            self._next_cause = CAUSE_POWER_ON
            self._supply_changed.set()
        await super().cut_power()

    async def brown_out(self, warning_ms: int) -> None:
        """Let power-good fall and take the power away `warning_ms` later; the next boot is told of a brown-out.

        A board has its processor for all of that time: for as long as the node waits for one, so does the cut.
        """
        pids = [self.pid] if self.is_running else []
        waited_s = cpu_wait.waited_s(pids)
        self._write_register(_POWER_GOOD_OFFSET, b"\0")
        self._tell_power("warning")
        end_s = time.monotonic() + warning_ms / 1000
        while (left_s := end_s + cpu_wait.waited_s(pids) - waited_s - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        await self.cut_power()
        self._next_cause = CAUSE_BROWN_OUT

    async def reset(self) -> None:
        """Start it anew as its reset button does, and return when it begins to boot."""
        if not self.is_running:
            raise NodeError(f"{self.name} is off: a reset needs power.")
        starts = self.starts
        self._is_reset = True
        self._supply_changed.set()
        self._signal(signal.SIGKILL)
        await self.wait_for_start(starts + 1)

    async def wait_for_start(self, number: int, *, timeout_s: float = 10.0) -> None:
        """Wait until the board has started `number` times (`starts`), counted from the first power-on."""
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self.starts >= number or not self.is_running)
        except TimeoutError:
            pass
        if self.starts < number:
            raise NodeError(
                f"{self.name} started {self.starts} times, not {number} times, within {timeout_s:g} s; "
                f"its last lines:\n{self.log_tail()}"
            )

    # ---- the process

    async def _prepare(self) -> None:
        self._install_hardware()
        await self._write_inbox()
        self._write_register(_POWER_GOOD_OFFSET, b"\1")

    async def _write_inbox(self) -> None:
        if self._inbox.exists():
            await self.run(_COPY_IN)
            shutil.rmtree(self._inbox)

    def _install_hardware(self) -> None:
        """Compile what plays the board's hardware: its source would take heap from the firmware."""
        compiled = self.folder / "virtual_main.mpy"
        if not compiled.exists():
            source = Path(__file__).with_name("virtual_main.py")
            compile_source(source, source.read_text(encoding="utf-8"), compiled)

    def _program(self, snippet: str | None) -> list[str]:
        (self.folder / "snippet.py").write_text(self._preface(snippet), encoding="utf-8")
        self._write_register(_CAUSE_OFFSET, bytes([self._next_cause]))
        self.reset_causes.append(self._next_cause)
        self._supply_changed.clear()
        return ["-c", _START, ".", "boot"]

    def _has_watchdog(self) -> bool:
        return True

    async def _comes_again(self, code: int, *, is_bitten: bool) -> bool:
        is_dead = not (is_bitten or self._is_reset or code in (0, _EXIT_RESET))
        if is_dead and self._is_wanted and self.watchdog.is_armed:
            # The firmware has ended by an error and nobody feeds the watchdog any more.
            await self._supply_changed.wait()
            is_bitten = self.watchdog.bites > 0 and not self.watchdog.is_armed
        self.watchdog.disarm()
        if not self._is_wanted:
            return False
        is_reset, self._is_reset = self._is_reset, False
        if is_bitten:
            self._next_cause = CAUSE_WATCHDOG
        elif is_reset:
            self._next_cause = CAUSE_HARD
        elif code == _EXIT_RESET:
            self._next_cause = CAUSE_SOFT
        else:
            return False
        return True

    def _bite(self) -> None:
        self._supply_changed.set()
        super()._bite()

    def _take_line(self, line: str) -> None:
        super()._take_line(line)
        if line.startswith(_CUT_LINE):
            self._is_wanted = False
            self._next_cause = CAUSE_POWER_ON
            self._write_register(_CUT_AT_OFFSET, bytes(4))
            self._tell_power("cut")
            self._signal(signal.SIGKILL)

    # ---- registers

    def _read_registers(self) -> tuple[int, ...]:
        return _REGISTERS.unpack(self._registers.read_bytes())

    def _write_register(self, offset: int, value: bytes) -> None:
        with self._registers.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), value, offset)
