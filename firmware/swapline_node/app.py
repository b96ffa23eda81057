"""The application: build the node's parts from the configuration, run them, stop them in order.

One task per bus, one that seals, one for the link, one for health: none waits for another, so no device, however slow
or dead, stops sampling, sending or the watchdog.
"""

import asyncio
import gc
import json

from micropython import const

from swapline_wire import topic as topics
from swapline_wire.catalogue import (
    BOOT,
    CLOCK_STEP,
    CONFIGURATION,
    FRAMES_DROPPED,
    LOSS_POWER_CUT,
    ROWS_DROPPED,
    TIME_GATEWAY,
    TIME_NONE,
)

from .clock import Clock
from .counter import Counters
from .health import GC_THRESHOLD_BYTES, Health
from .journal import Journal
from .link import Link
from .log import Log
from .once import call_once
from .publisher import Publisher
from .sampler import Sampler
from .supervisor import Supervisor

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .bus import Bus
    from .settings import Settings

VERSION = "0.1.0"
_PROTOCOL = const(1)
_BIRTH_AGAIN_MS = const(30000)  # a node without time asks again so often
_POWER_PERIOD_MS = const(20)
_CONFIGURATION_PERIOD_S = const(5)
_BUSES_APART_MS = const(150)  # a line begins so much later than the one before
_SHORTAGE_MS_MAX = const(120000)  # memory that ends so soon after a boot will end after the next one too
_SHORTAGE_AGAIN_S = const(3600)
_JOURNAL_AGAIN_S = const(60)  # a full disk may have room again; until then the node can be reached
_RESET_WATCHDOG = const(3)
_RESET_SOFT = const(5)
_RESET_CONFIGURATION = const(7)
_RESET_NO_MEMORY = const(8)
_STOP_PERIOD_MS = const(100)
_POLL_MS_MAX = const(1000)  # a whole module at 9600 baud takes 600 ms
_POLL_PERIOD_MS = const(5)
STOP = -1  # instead of a reset cause: do not start again


class App:
    """A node. `run` ends when a restart was asked for; the caller decides what a restart is."""

    def __init__(self, board: "Any", config: "Settings") -> None:
        self.board = board
        self.config = config
        self._shortages, shortage = call_once("shortage", "take")
        if shortage:
            config.problems.append(shortage)
        self._is_short = bool(shortage)
        self.is_safe_mode = bool(config.problems)
        self.reset_cause: int = board.reset_cause()
        self.counters = Counters()
        self.clock = Clock(board.ticks_ms, board.ticks_diff, utc_ms_min=config.time["earliest_utc_ms"])
        self.log = Log(self.clock.uptime_ms)
        self.journal = Journal(config.journal["path"], limit_bytes=config.journal["limit_bytes"])
        self.sampler = Sampler(self.journal, self.clock, self.counters)
        self.sampler.overrides = config.streams
        self.sampler.seal_interval_ms = config.seal_interval_ms
        self.supervisor = Supervisor(self.counters, self.log, self.clock.uptime_ms)
        self.publisher = Publisher(
            self.journal,
            self.counters,
            self.clock.uptime_ms,
            backlog_frames_per_s=config.link["backlog_frames_per_s"],
        )
        self.link = Link(config, self.counters, self.log, self.clock.uptime_ms)
        self.health = Health(self)
        self._restart = asyncio.Event()
        self._restart_cause = _RESET_SOFT
        self._is_open = False
        self._is_stopped = False
        self._buses: "list[Bus]" = []
        self._watchdog: "Any" = None
        self._born_ms = 0
        self._connect_parts()

    async def run(self) -> int:
        """Run until a restart is asked for, and return its reset cause, or `STOP` where the node is to end.

        Ends with every row in the journal.
        """
        self._set_gc_threshold()
        watchdog = self._watchdog = self.board.watchdog(self.config.watchdog_ms)
        try:
            self._begin(watchdog)
            self._start_tasks(watchdog)
            await self._restart.wait()
        except MemoryError:
            self._restart_cause = _RESET_NO_MEMORY
        finally:
            await self.stop()
        return self._restart_cause

    def request_restart(self, cause: int = _RESET_SOFT) -> None:
        """End `run` soon: after the answer to the command had time to leave."""
        self._restart_cause = cause
        self._restarting = asyncio.create_task(self._restart_later())

    async def stop(self) -> None:
        """Stop in order: end the polls, then the tasks, so that nothing is sampled any more; then seal everything.

        The watchdog is fed before each step, none of which takes longer than a second, and then never again.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        self._feed()
        await self._end_polls()
        self._feed()
        await self.supervisor.stop()
        self._feed()
        gc.collect()
        try:
            if self._is_open:
                self._declare_losses()
                self.sampler.seal_all()
                self.journal.close()
        except (MemoryError, OSError) as error:  # not closed: the next boot declares rows as lost, as after a power cut
            problem = "%s %s" % (type(error).__name__, error)
            self.log.warning("node", "not stopped in order: " + problem)
        if self._restart_cause == _RESET_NO_MEMORY and self.clock.uptime_ms() < _SHORTAGE_MS_MAX:
            call_once("shortage", "note", self._shortages + 1, self._lines_without_memory())
        self.log.info("node", "stopped")

    def _lines_without_memory(self) -> "list[str]":
        return [bus["name"] for bus in self.config.buses if bus.get("memory_errors", 1)]

    def _feed(self) -> None:
        if self._watchdog is not None:
            self._watchdog.feed()

    async def _end_polls(self) -> None:
        """Let polls and epochs that are under way end, and begin no more: what a device has said by then is a row."""
        end_ms = self.clock.uptime_ms() + _POLL_MS_MAX
        for bus in self._buses:
            bus.is_ending = True
        while any([bus.is_busy for bus in self._buses]) and self.clock.uptime_ms() < end_ms:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_PERIOD_MS / 1000)

    # ---- start

    def _connect_parts(self) -> None:
        self.clock.before_anchor = self._decide_anchor
        self.clock.before_step = self.sampler.seal_all
        self.clock.after_anchor = self._announce_time
        self.sampler.on_sealed = self.link.wake
        self.link.resolve = self.board.resolve
        self.link.publisher = self.publisher
        self.link.on_ack = self._take_ack
        self.link.on_down = self._take_command
        self.link.on_session = self._send_birth
        if self.config.network is not None:
            self.link.connect_network = self._connect_network

    def _set_gc_threshold(self) -> None:
        threshold = getattr(gc, "threshold", None)
        if threshold is not None and hasattr(gc, "mem_alloc"):
            gc.collect()
            threshold(GC_THRESHOLD_BYTES)

    def _begin(self, watchdog: "Any") -> None:
        """Open the journal and tell what happened since the last boot."""
        journal = self.journal
        began_ms = self.clock.uptime_ms()
        try:
            journal.open(watchdog.feed)
            self._is_open = True
            self.clock.floor_utc_ms = journal.latest_utc_ms
            how = "an orderly stop" if journal.was_stopped_cleanly else "a power cut"
            took_ms = self.clock.uptime_ms() - began_ms
            self.log.info("journal", "%d frames wait; read in %d ms after %s" % (journal.pending_frames, took_ms, how))
        except OSError as error:
            self.config.problems.append("journal.path: %s cannot be used: %s" % (journal.folder, error))
            self.is_safe_mode = True
        self.log.info("node", "%s/%s boot %d" % (self.config.fleet, self.config.node, journal.boot))
        for problem in self.config.problems:
            self.log.error("config", problem)
        if self._is_open and not journal.was_stopped_cleanly:  # first: a boot that is known has declared it
            self.sampler.event(ROWS_DROPPED, reason=LOSS_POWER_CUT, duration_s=self.config.seal_interval_ms // 1000)
        self.sampler.event(BOOT, reason=self.reset_cause, count=journal.boot)
        if self.is_safe_mode:
            self.sampler.event(CONFIGURATION, reason=1)
        self._declare_losses()
        self.health.measure()
        self.sampler.seal_all()

    def _start_tasks(self, watchdog: "Any") -> None:
        start = self.supervisor.start
        start("seal", self._seal, reports=True)
        start("health", self.health.run, reports=True)
        start("lag", self.health.watch_lag)
        if self.config.can_connect:
            start("link", self.link.run)
        if self.config.time["ntp_host"]:
            from .sntp import Sntp  # noqa: PLC0415 - loaded only where used: heap

            sntp = Sntp(self.config.time["ntp_host"], self.config.time["ntp_port"], self.clock, self.log)
            sntp.resolve = self.board.resolve
            start("sntp", sntp.run)
        if self.is_safe_mode:
            start("config", self._await_configuration)
        else:
            for i, bus in enumerate(self.config.buses):
                self._start_bus(bus, i * _BUSES_APART_MS)
        self.supervisor.watch(
            watchdog,
            self.config.watchdog_ms // 4,
            lambda: self._restart_now(_RESET_WATCHDOG),
            lambda: self._restart_now(_RESET_NO_MEMORY),
        )
        if hasattr(self.board, "stop_requested"):  # where there is somebody who could ask: not on a microcontroller
            start("stop", self._await_stop)
        if self.board.power_good(self.config.power_good_pin) is not None:
            start("power", self._watch_power, reports=True)

    def _start_bus(self, config: "dict[str, Any]", after_ms: int) -> None:
        """Start a bus as a task of its own. Drivers load and lines open in there: what is missing delays nobody.

        Buses start one after the other: loading takes more heap than what is loaded, and so does a poll that is under
        way, which for those that began together would come together for ever.
        """
        devices: "list[Any]" = []
        name = "bus " + config["name"]

        async def run() -> None:
            from .bus import Bus  # noqa: PLC0415 - loaded only where used: heap
            from .driver import make  # noqa: PLC0415

            if not devices:
                await asyncio.sleep(after_ms / 1000)
            for device in config["devices"][len(devices) :]:
                devices.append(make(device["driver"], self.sampler, self.clock, self.counters, device))
                config["devices"][len(devices) - 1] = {"bay": device["bay"]}  # all that is asked for later: heap
            gc.collect()
            reader, writer = self.board.open_uart(config)
            bus = Bus(
                config["name"],
                reader,
                writer,
                self.counters,
                self.clock,
                log=self.log,
                reopen=lambda: self.board.open_uart(config),
                alive=lambda: self.supervisor.alive(name),
                has_time=self.health.has_time,
            )
            self._buses.append(bus)
            config["memory_errors"] = 0
            try:
                await bus.run(devices)
            finally:
                config["memory_errors"] = bus.memory_errors
                self._buses.remove(bus)
                bus.close()

        self.supervisor.start(name, run, reports=True)

    def _restart_now(self, cause: int) -> None:
        self._restart_cause = cause
        self._restart.set()

    # ---- running

    async def _await_configuration(self) -> None:
        """In safe mode, look whether somebody has put the file right; a command can do it as well."""
        if self._is_short:
            await self._await_other_file()
            self.request_restart(_RESET_CONFIGURATION)
            return
        while True:
            await asyncio.sleep(_CONFIGURATION_PERIOD_S if self._is_open else _JOURNAL_AGAIN_S)
            if not call_once("config", "load").problems:
                self.request_restart(_RESET_CONFIGURATION)
                return

    async def _await_other_file(self) -> None:
        """Wait until the file is another one, an hour at most: what took the memory may be over by then."""
        before = call_once("shortage", "file_state")
        for _ in range(_SHORTAGE_AGAIN_S // _CONFIGURATION_PERIOD_S):
            await asyncio.sleep(_CONFIGURATION_PERIOD_S)
            if call_once("shortage", "file_state") != before:
                return

    async def _await_stop(self) -> None:
        """End `run` when the board is asked to stop."""
        while not self.board.stop_requested():  # noqa: ASYNC110 - nothing sets an event when a line comes
            await asyncio.sleep(_STOP_PERIOD_MS / 1000)
        self._restart_cause = STOP
        self._restart.set()
        await asyncio.Event().wait()  # for `run` to cancel it: a task that ends counts as failed

    async def _watch_power(self) -> None:
        """Save what is open as soon as the supply fails: a swap leaves a few milliseconds of charge."""
        was_good = True
        while True:
            is_good = self.board.power_good(self.config.power_good_pin)
            if was_good and not is_good:
                self.sampler.seal_all()
                self.log.warning("power", "supply fails")
            was_good = is_good
            self.supervisor.alive("power")
            await asyncio.sleep(_POWER_PERIOD_MS / 1000)

    async def _seal(self) -> None:
        """Seal what is open at every interval; declare losses; ask for the time while there is none."""
        while True:
            await asyncio.sleep(self.config.seal_interval_ms / 1000)
            self._declare_losses()
            self.sampler.look_for_lost()
            self.sampler.seal_all()
            self.supervisor.alive("seal")
            now_ms = self.clock.uptime_ms()
            if self.clock.quality == TIME_NONE and self.link.is_connected and now_ms - self._born_ms > _BIRTH_AGAIN_MS:
                self._send_birth()

    def _declare_losses(self) -> None:
        """Make an event of every loss that has none yet; what finds no room is declared later."""
        for drop in self.journal.undeclared_drops():
            is_declared = self._store_event(
                FRAMES_DROPPED,
                reason=drop.detail,
                first_seq=drop.first_seq,
                last_seq=drop.last_seq,
                count=drop.value,
            )
            if not is_declared:
                break
            self.counters.lose(drop.detail, frames=drop.value)
            self.log.error(
                "journal",
                "lost %d frames %d..%d, reason %d" % (drop.value, drop.first_seq, drop.last_seq, drop.detail),
            )
            self.journal.drop_declared(drop)
        for reason, rows in self.counters.take_rows_lost().items():
            if not self._store_event(ROWS_DROPPED, reason=reason, count=rows):
                self.counters.lose(reason, rows=rows)

    def _store_event(self, code: int, **signals: "int | None") -> bool:
        """Store an event; return whether it is durable."""
        seq = self.journal.next_seq
        self.sampler.event(code, "", 0, None, **signals)
        return self.journal.is_pending(seq)

    def _decide_anchor(self, utc_ms: int, quality: int) -> None:
        try:
            self.journal.decide_anchor(utc_ms, quality)
        except OSError as error:
            self.log.warning("clock", "not set, the journal does not take it: %s" % error)
            raise

    def _announce_time(self) -> None:
        """Tell that the clock was set; frames of boots without time may be sent now."""
        self.sampler.shift(self.clock.step_ms)
        self.log.info("clock", "set, quality %d, step %d ms" % (self.clock.quality, self.clock.step_ms))
        self.publisher.restart_backlog()
        self.sampler.event(CLOCK_STEP, reason=self.clock.quality, duration_s=max(0, -self.clock.step_ms) // 1000)
        if self.link.is_connected:
            self._send_birth()

    def _take_ack(self, ack: "Any") -> None:
        if ack.journal != self.journal.id:
            self.log.debug("link", "acknowledgement for another journal")
            return
        if ack.utc_ms:
            self.clock.offer(TIME_GATEWAY, ack.utc_ms, self.clock.uptime_ms())
        self.publisher.acknowledge(ack.ranges)

    def _take_command(self, payload: bytes) -> None:
        try:
            answer = call_once("commands", "handle", self, payload)
            reply = json.dumps(answer).encode()
        except (MemoryError, RuntimeError) as error:  # 8 KB of brackets are deeper than the stack
            answer = {"ok": False, "error": "the command is too large: %s" % type(error).__name__}
            reply = json.dumps(answer).encode()
        self.log.info("command", "%s ok=%s" % (answer.get("command"), answer["ok"]))
        self.link.send(topics.REPLY, reply)

    def _send_birth(self) -> None:
        self._born_ms = self.clock.uptime_ms()
        birth = {
            "online": True,
            "protocol": _PROTOCOL,
            "firmware": VERSION,
            "board": self.board.name,
            "boot": self.journal.boot,
            "journal": self.journal.id,
            "clock_quality": self.clock.quality,
            "holder": self.config.holder,
            "bays": self.config.bays(),
            "safe_mode": self.is_safe_mode,
        }
        if self.config.problems:
            birth["problems"] = self.config.problems[:4]
        self.link.send(topics.STATUS, json.dumps(birth).encode(), retain=True)

    async def _connect_network(self) -> None:
        await self.board.connect_network(self.config.network)

    async def _restart_later(self) -> None:
        await asyncio.sleep(1)
        self._restart.set()
