"""The node as a real board, reached over its serial console with mpremote.

States: `off` (no supply, as far as the bench decides), `idle` (the interpreter waits, the firmware does not run),
`running`. What the bench asks of an idle board happens in a fresh interpreter. A watchdog that the firmware has started
cannot be stopped, so a timer feeds it meanwhile; the reset at the next start ends both.

The first `flash` of a driver takes away what an earlier test has left on the board: its journal and configuration.
"""

import asyncio
import collections
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from swapline_bench.desk import bench_file
from swapline_bench.desk.board_files import BoardFiles
from swapline_bench.desk.console import APPEAR_S_MAX, Console
from swapline_bench.desk.node import LOG_LINES_MAX, NodeError, OnLine, OnPower
from swapline_bench.desk.power import make_switch, run_command

BOOT_S_MAX = 25.0  # of a board whose journal has an outage to read
STOP_S_MAX = 10.0
RUN_S_MAX = 30.0
INTERPRETER_S_MAX = 300.0  # 4 MB at 115200 baud
_FIRMWARE_LINE = re.compile(r"\d+\.\d{3} (debug|info|warning|error) ")  # as swapline_node/log.py writes them
_USB_S_MAX = 2.0  # a chip's own USB comes back when the firmware has said its first lines to nobody
_TAIL_LINES = 20
_LOOP_BOOTS = 3
_BENCH = "bench "  # begins the lines that the bench adds
_OFF, _BOOTING, _IDLE, _RUNNING = "off", "booting", "idle", "running"
_START = "\nfrom main import main\nmain()\n"
_RESET = "import machine, time\ntime.sleep_ms(100)\nmachine.reset()\n"  # the answer to mpremote leaves before
_RESET_S = 0.5  # until that has happened
_HELD = "main.py.held"
_RENAME = "import os\nos.rename({!r}, {!r})\n"
_FEED_WATCHDOG = """
import sys
try:
    import machine
    _watchdog = machine.WDT(timeout=8300)
    _timer = machine.Timer(0 if sys.platform == "esp32" else -1)
    _timer.init(period=1000, callback=lambda _: _watchdog.feed())
except (ImportError, AttributeError):
    pass
"""

_LEAVE_WATCHDOG = """
try:
    _timer.deinit()
    del _timer, _watchdog
except NameError:
    pass
"""


class BoardNode:
    """A board. Nothing is opened before it is needed."""

    def __init__(
        self, name: str, resource: bench_file.Node, folder: Path, *, on_line: OnLine, on_power: OnPower
    ) -> None:
        assert resource.console is not None
        self.name = name
        self.folder = folder
        self.lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES_MAX)
        self.reconnections = 0
        self._resource = resource
        self._report_line = on_line
        self._report_power = on_power
        self._switch = make_switch(resource.power)
        self.features = frozenset({"snippet"} | self._more_features())
        self._console = Console(
            resource.console.port, resource.console.baudrate, on_line=self._take_line, on_gone=self._take_loss
        )
        self._state = _OFF
        self._is_fresh = False  # this driver has flashed it
        self._news = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()
        self._reopening: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Say whether the firmware was started and not stopped since."""
        return self._state == _RUNNING

    async def flash(self, bundle: Path) -> None:
        """Copy what differs of the bundle, each file under another name first, and compare all of it afterwards."""
        self._require_stopped("it is flashed")
        try:
            await self._be_idle()
        except NodeError:
            if (command := self._interpreter_command()) is None:
                raise
            await self._put_interpreter(command)
        files = BoardFiles(self._console, self._say)
        if not self._is_fresh:
            await files.forget_node()
            self._is_fresh = True
        await files.synchronize(bundle)

    async def configure(self, config: dict[str, Any]) -> None:
        """Write `config.json`."""
        self._require_stopped("it is configured")
        await self._be_idle()
        text = json.dumps(config, separators=(",", ":")) + "\n"
        await BoardFiles(self._console, self._say).write("config.json", text.encode())

    async def start(self, *, snippet: str | None = None) -> None:
        """Take the supply away for a moment and give it back, where that can be, else reset it; wait for its words."""
        self._require_stopped("it is started again")
        self.lines.clear()
        is_late = False
        if snippet is not None:
            await self._start_anew()
            self._change(_RUNNING, "on")
            await self._console.launch(_LEAVE_WATCHDOG + snippet + _START)
        elif self._state == _IDLE and not self._switch.can_switch:
            self._change(_RUNNING, "on")
            await self._console.launch(_RESET)
        else:
            await self._switch_off()
            is_late = await self._connect()
            self._change(_RUNNING, "on")
            self._console.listen()
        await self._wait_for_boot(is_late=is_late)

    async def stop(self) -> None:
        """Press Ctrl-C, at which the firmware seals and stops; the board stays on and idle."""
        if self._state != _RUNNING:
            return
        await self._stop_reopening()
        await self._connect()
        in_order = self._console.is_at_prompt  # it has ended by itself
        if not in_order:
            await self._console.interrupt()
            in_order = await self._console.wait_for_prompt(STOP_S_MAX)
        self._change(_IDLE, "off")
        await self._console.enter()
        await self._console.execute(_FEED_WATCHDOG)
        if not in_order:
            raise NodeError(f"{self.name} did not stop within {STOP_S_MAX:g} s of Ctrl-C; {self._tail()}")

    async def cut_power(self) -> None:
        """Take the supply away. Raises `NodeError` where nobody can."""
        if self._state != _OFF:
            await self._switch_off()
            await self._stop_reopening()
            self._report_power("cut")

    async def brown_out(self, warning_ms: int) -> None:
        """Raise `NodeError`: nothing on a desk lets power-good fall so many milliseconds before the supply."""
        raise NodeError(
            f"{self.name} is a board whose power-good input nobody drives, so it cannot fall {warning_ms} ms before "
            "the supply: the virtual bench can do that."
        )

    async def reset(self) -> None:
        """Pull the chip's reset line where the console's adapter has it; else take the supply away for a moment."""
        await self._connect()
        if self._state == _RUNNING:
            self._report_power("reset")
        if self._resource.board == "esp32" and await self._console.pulse_reset():
            pass
        elif self._switch.can_switch:
            await self._switch.set(is_on=False)
            await self._switch.set(is_on=True)
        else:
            await self._be_idle()
            await self._console.launch(_RESET)
        self.lines.clear()
        self._state = _RUNNING
        is_late = await self._connect()
        self._console.listen()
        await self._wait_for_boot(is_late=is_late)

    async def run(self, snippet: str) -> str:
        """Run code in the idle interpreter and return what it printed."""
        self._require_stopped("other code is run")
        await self._be_idle()
        try:
            return await self._console.execute(snippet, timeout_s=RUN_S_MAX)
        except NodeError as error:
            raise NodeError(f"{self.name}: the code failed: {error}") from error

    async def wait_for_line(self, text: str, *, timeout_s: float = 10.0) -> str:
        """Return the first log line that contains `text`. Raises `NodeError` with the log's end."""
        try:
            async with asyncio.timeout(timeout_s), self._news:
                while True:
                    for line in self.lines:
                        if text in line:
                            return line
                    await self._news.wait()
        except TimeoutError:
            raise NodeError(f"{self.name} never said {text!r} within {timeout_s:g} s; {self._tail()}") from None

    async def close(self) -> None:
        """Take the supply away where that can be; else leave the board idle. Let go of all ports."""
        await self._stop_reopening()
        if self._state != _OFF:
            with contextlib.suppress(NodeError):
                if self._switch.can_switch:
                    await self.cut_power()
                else:
                    await self.stop()
        self._state = _OFF
        self._console.close()
        await self._switch.close()

    def _more_features(self) -> set[str]:
        found = {"power"} if self._switch.can_switch else set()
        return found | ({"watchdog"} if self._resource.board != "linux" else set())  # the chip's own

    # ---- states

    async def _connect(self) -> bool:
        """Give it power if it has none, and open the console; return whether that came later than the power."""
        if self._state == _OFF or not self._console.is_open:
            await self._switch.set(is_on=True)
        return await self._console.open(
            appear_s=APPEAR_S_MAX if self._switch.can_switch or self._state != _OFF else 0.0
        )

    async def _switch_off(self) -> None:
        if self._state != _OFF:
            await self._switch.set(is_on=False)
            self._state = _OFF

    async def _start_anew(self) -> None:
        """Leave it idle, and its last reset the one that a start is. Its firmware is out of the way, so it waits."""
        await self._be_idle()
        await self._console.execute(_RENAME.format("main.py", _HELD))
        if self._switch.can_switch:
            await self._switch_off()
        else:
            await self._console.launch(_RESET)
            await asyncio.sleep(_RESET_S)
            self._state = _BOOTING
        await self._be_idle(soft_reset=False)
        await self._console.execute(_RENAME.format(_HELD, "main.py"))

    async def _be_idle(self, *, soft_reset: bool = True) -> None:
        if self._state == _IDLE and self._console.is_open:
            return
        await self._connect()
        try:
            await self._console.enter(soft_reset=soft_reset)
        except NodeError:
            if self._console.is_open:
                raise
            await self._connect()  # a chip's own USB that came anew while the chip was asked
            await self._console.enter(soft_reset=soft_reset)
        self._state = _IDLE
        await self._console.execute(_FEED_WATCHDOG)

    def _require_stopped(self, before: str) -> None:
        if self._state == _RUNNING:
            raise NodeError(f"{self.name} runs its firmware: stop it before {before}.")

    def _change(self, state: str, power: str) -> None:
        self._state = state
        self._report_power(power)

    async def _wait_for_boot(self, *, is_late: bool) -> None:
        """Wait for a line of the firmware's, or for the console to be back and silent: its birth message will tell."""
        back = self.reconnections
        try:
            async with asyncio.timeout(_USB_S_MAX if is_late else BOOT_S_MAX) as limit, self._news:
                while not any(_FIRMWARE_LINE.match(line) for line in self.lines):
                    await self._news.wait()
                    if self.reconnections > back:
                        back = self.reconnections
                        limit.reschedule(asyncio.get_running_loop().time() + _USB_S_MAX)
        except TimeoutError:
            if (is_late or self.reconnections) and all(line.startswith(_BENCH) for line in self.lines):
                return
            self._state = _IDLE if self._console.is_open else _OFF
            raise NodeError(self._why_no_boot()) from None

    def _why_no_boot(self) -> str:
        said = [line for line in self.lines if line]
        if not said:
            return (
                f"{self.name} said nothing within {BOOT_S_MAX:g} s of its start: is it powered, and is main.py on it?"
            )
        starts = sum("rst:0x" in line or "soft reboot" in line for line in said)
        if starts >= _LOOP_BOOTS:
            return f"{self.name} restarts again and again ({starts} times in {BOOT_S_MAX:g} s); {self._tail()}"
        return f"{self.name} started, and its firmware did not within {BOOT_S_MAX:g} s; {self._tail()}"

    def _tail(self) -> str:
        return f"log in {self.folder}; its last lines:\n" + ("\n".join(list(self.lines)[-_TAIL_LINES:]) or "(nothing)")

    # ---- MicroPython itself

    def _interpreter_command(self) -> list[str] | None:
        """Return the command that puts MicroPython on a board, if the bench file has one."""
        flash = self._resource.flash
        if isinstance(flash, bench_file.MpremoteFlash):
            return flash.interpreter_command
        if isinstance(flash, bench_file.EsptoolFlash):
            return [
                sys.executable, "-m", "esptool", "--port", self._console.port, "--baud", str(flash.baudrate),
                "write_flash", hex(flash.offset), str(flash.image),
            ]  # fmt: skip
        return None

    async def _put_interpreter(self, command: list[str]) -> None:
        self._console.close()
        self._say("flash: no MicroPython answers, so it is put on the board; that takes a minute")
        await run_command(command, what="puts MicroPython on the board", timeout_s=INTERPRETER_S_MAX)
        await self._be_idle()

    # ---- what it says

    def _say(self, text: str) -> None:
        """Report what the bench does with the board, among its lines."""
        self._take_line(_BENCH + text)

    def _take_line(self, line: str) -> None:
        self.lines.append(line)
        self._report_line(line)
        self._run(self._tell())

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _run(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task

    def _take_loss(self) -> None:
        """Wait for a console that went away: USB of a board that resets itself does, for a second or two."""
        self._say(f"the console {self._console.port} went away")
        if self._state == _RUNNING:
            self._reopening = self._run(self._reopen())

    async def _reopen(self) -> None:
        while True:
            try:
                await self._console.open(appear_s=APPEAR_S_MAX)
            except NodeError as error:
                self._say(str(error))
                continue
            self.reconnections += 1
            self._say(f"the console {self._console.port} is back")
            self._console.listen()
            return

    async def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
            self._reopening = None
