"""The gateway: puts the parts together, runs them, and ends them in an order that loses nothing.

Order at the end: no new messages; what came is made durable and acknowledged; the spool is emptied into the sink as far
as `shutdown_s` allows (the rest waits in it for the next start); the connection, the pages and the files are closed.
"""

import asyncio
import contextlib
import importlib.util
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import aiomqtt

from . import books
from .alarm.access import make_watch
from .alarm.standing import StandingRows
from .battery.access import make_store
from .battery.derivation import Derivation
from .battery.keeper import Keeper
from .config import DuckdbConfig, GatewayConfig
from .error import ConfigurationError, GatewayError, StorageError
from .inbox import Inbox
from .influxql import InfluxqlClient
from .intake import Intake
from .log import get
from .outlook.outlook import Outlook
from .outlook.question import Questions
from .pipeline import PipelineFigures
from .publisher import Publisher
from .pump import BACKOFF_S_MAX, Pump
from .quota import Quota
from .restore import restore
from .retry import Backoff
from .sinks import make as make_sink
from .spool import Spool
from .state import FleetState
from .time_offer import TimeOffers
from .uplink import Uplink, backlog_filters, live_filters
from .vitals.broker import BrokerFigures
from .vitals.point import make_line_sink
from .vitals.sender import PointSender
from .vitals.vitals import Vitals
from .worker import Worker

if TYPE_CHECKING:
    from .history import History

SHUTDOWN_S = 15.0
TICK_S = 0.5
CANCEL_AGAIN_S = 1.0
OFFER_INTERVAL_S = 10.0
SPOOL_RESUME_SHARE = 0.9  # of the limit: below it the spool is no longer called full


async def cancel_all(tasks: Collection[asyncio.Task[object]], *, again_s: float = CANCEL_AGAIN_S) -> None:
    """Cancel tasks until they have ended.

    One request is not always enough: Python 3.11's `asyncio.wait_for` drops it when its result arrives in the same
    turn, and `aiomqtt` puts its own error in its place when the broker does not answer the goodbye.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_s)
    await asyncio.gather(*tasks, return_exceptions=True)


class Gateway:
    """One gateway. Call `run` once; `stop` or cancelling it ends it in order."""

    def __init__(self, config: GatewayConfig, *, shutdown_s: float = SHUTDOWN_S) -> None:
        self.config = config
        self.ready = asyncio.Event()  # set when frames can be taken: connected to the broker, pages served
        self.http_url: str | None = None
        self.state = FleetState()
        self.figures = PipelineFigures(spool_limit_bytes=config.spool.limit_bytes, sink_name=config.sink.type)
        self._shutdown_s = shutdown_s
        self._stopping = asyncio.Event()
        self._log = get("gateway")

    def stop(self) -> None:
        """Ask `run` to end in order."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`. Raises `GatewayError` with a sentence when something that is needed cannot be had."""
        self._check_extras()
        self._spool_worker = Worker("spool")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._spool_worker.close)
            await self._open(stack)
            await self._serve()
        self._log.info("ended")

    def _check_extras(self) -> None:
        if self.config.http is not None and importlib.util.find_spec("aiohttp") is None:
            raise ConfigurationError(
                "The configuration has [http], which needs aiohttp: pip install 'swapline[console]', or remove [http]."
            )

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        """Open the files and build the parts."""
        config = self.config
        self._spool = await self._spool_worker.run(
            Spool,
            config.spool.path,
            limit_bytes=config.spool.limit_bytes,
            quarantine_bytes_max=config.spool.quarantine_bytes_max,
            quarantine_node_bytes_max=config.quota.quarantine_bytes,
        )
        stack.push_async_callback(self._spool_worker.run, self._spool.close)
        self._sink = make_sink(config.sink, partial(books.read, config.spool.path))
        self.keeper = self._make_keeper(stack)
        self._pump = Pump(
            spool=self._spool,
            spool_worker=self._spool_worker,
            sink=self._sink,
            figures=self.figures,
            backoff=Backoff(delay_s_max=BACKOFF_S_MAX),
            keeper=self.keeper,
        )
        stack.push_async_callback(self._pump.close)
        stack.push_async_callback(self.keeper.close)
        await self._pump.open()
        self._build()
        stack.push_async_callback(self._alarms.close)
        self._vitals = self._make_vitals()
        stack.callback(self._vitals.close)
        self._outlook = self._make_outlook()
        if self._outlook is not None:
            stack.callback(self._outlook.close)
        self._standing = None if isinstance(self.config.sink, DuckdbConfig) else self._make_standing(stack)
        await self._open_http(stack)

    def _make_keeper(self, stack: contextlib.AsyncExitStack) -> Keeper:
        self._store = make_store(self.config.sink, self._sink)
        stack.callback(self._store.close)
        return Keeper(
            self.config.battery,
            Derivation(self._store),
            spool=self._spool,
            spool_worker=self._spool_worker,
            is_understood=self._store.is_understood,
            is_shared=not isinstance(self.config.sink, DuckdbConfig),  # a file has one gateway
        )

    def _build(self) -> None:
        config, figures = self.config, self.figures
        self._broker = BrokerFigures()
        self._uplink, live = self._make_uplink("live", live_filters(config.mqtt), self._broker)
        self._backlog_uplink, backlog = self._make_uplink("backlog", backlog_filters(config.mqtt))
        self._inboxes = (live, backlog)
        self._publisher = Publisher(config.state, uplink=self._uplink, figures=figures)
        self._offers = TimeOffers(uplink=self._uplink, figures=figures)
        self._alarms = make_watch(config.sink, self._sink, self.state, self._uplink)
        self._intake = Intake(
            live=live,
            backlog=backlog,
            spool=self._spool,
            spool_worker=self._spool_worker,
            uplink=self._uplink,
            pump=self._pump,
            quota=Quota(config.quota),
            state=self.state,
            publisher=self._publisher,
            offers=self._offers,
            figures=figures,
            alarms=self._alarms,
        )

    def _make_uplink(self, name: str, wanted: list[str], broker: BrokerFigures | None = None) -> tuple[Uplink, Inbox]:
        config = self.config.mqtt
        inbox = Inbox(bytes_max=config.inbox_bytes_max // 2)
        uplink = Uplink(
            config,
            name=name,
            wanted=wanted,
            inbox=inbox,
            figures=self.figures,
            backoff=Backoff(delay_s_max=config.backoff_s_max),
            broker=broker,
        )
        return uplink, inbox

    def _make_vitals(self) -> Vitals:
        config, sender = self.config, None
        if not isinstance(config.sink, DuckdbConfig):  # a file of one user; nobody draws these figures from it
            sender = PointSender(make_line_sink(config.sink))
        return Vitals(
            config.vitals,
            mqtt=config.mqtt,
            folders=[config.spool.path.absolute().parent],
            figures=self.figures,
            keeper=self.keeper.figures,
            link=self._uplink,
            broker=self._broker,
            sender=sender,
        )

    def _make_outlook(self) -> Outlook | None:
        config, sink = self.config.outlook, self.config.sink
        if isinstance(sink, DuckdbConfig) or not config.keep:
            return None
        questions = Questions(InfluxqlClient(sink))
        return Outlook(config, questions=questions, sink=make_line_sink(sink), alarms=self._alarms)

    def _make_standing(self, stack: contextlib.AsyncExitStack) -> StandingRows:
        """Return what tells boards which alarms stand. Nobody draws them from a file."""
        found = StandingRows(self._alarms, self._store)
        stack.callback(found.close)
        return found

    async def _open_http(self, stack: contextlib.AsyncExitStack) -> None:
        if self.config.http is None:
            return
        from .http import HttpServer  # noqa: PLC0415 (aiohttp is an extra)

        server = HttpServer(
            self.config.http,
            state=self.state,
            figures=self.figures,
            history=self._make_history(stack),
            alarms=self._alarms,
            keeper=self.keeper,
            store=self._store,
            vitals=self._vitals,
            outlook=self._outlook,
        )
        stack.push_async_callback(server.close)
        self.http_url = await server.open()
        self._log.info("pages", url=self.http_url)

    def _make_history(self, stack: contextlib.AsyncExitStack) -> "History":
        from .history import make  # noqa: PLC0415

        history = make(self.config.sink, self._sink)
        stack.callback(history.close)
        return history

    async def _serve(self) -> None:
        """Run all parts until stopped, cancelled, or one of them fails."""
        derived = {"outlook": self._outlook, "standing": self._standing}
        tasks: dict[str, asyncio.Task[object]] = {
            name: asyncio.create_task(part, name=name)
            for name, part in (
                *((name, part.run()) for name, part in derived.items() if part is not None),
                ("uplink", self._uplink.run()),
                ("uplink of backlog", self._backlog_uplink.run()),
                ("intake", self._intake.run()),
                ("pump", self._pump.run()),
                ("publisher", self._publisher.run()),
                ("alarms", self._alarms.run()),
                ("keeper", self.keeper.run()),
                ("vitals", self._vitals.run()),
                ("tick", self._tick()),
                ("ready", self._announce()),
                ("restore", self._restore()),
                ("stop", self._stopping.wait()),
            )
        }
        watched = [task for name, task in tasks.items() if name not in ("ready", "restore")]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed = next((task for task in watched if task.done() and not task.cancelled() and task.exception()), None)
            await asyncio.shield(asyncio.ensure_future(self._end(tasks)))
            if failed is not None:
                failed.result()
            if self._stopping.is_set():
                await self._vitals.say_goodbye()

    async def _announce(self) -> None:
        await self._uplink.connected.wait()
        await self._backlog_uplink.connected.wait()
        self._log.info("ready", sink=self.config.sink.type, url=self.http_url)
        self.ready.set()

    async def _restore(self) -> None:
        """Begin the view of the fleet where the last process left it. Frames do not wait for it."""
        if not self.config.state.publish:
            return
        await self._uplink.connected.wait()
        try:
            await restore(self.config.mqtt, self.state)
            self._alarms.take_state()
        except (aiomqtt.MqttError, OSError, ValueError, GatewayError) as error:
            self._log.warning("pages begin empty: retained states cannot be read", error=str(error))

    async def _tick(self) -> None:
        """Refresh what is looked at from outside, and repeat time offers."""
        ticks_per_offer = round(OFFER_INTERVAL_S / TICK_S)
        count = 0
        while True:
            await self._refresh()
            await asyncio.sleep(TICK_S)
            count += 1
            if count % ticks_per_offer == 0:
                self._offers.repeat()

    async def _refresh(self) -> None:
        figures = self.figures
        try:
            figures.backlog = await self._spool_worker.run(self._spool.backlog)
        except StorageError as error:
            figures.spool_fails("tick", str(error))
            return
        figures.spool_works("tick")
        figures.refused_by_inbox(sum(inbox.dropped for inbox in self._inboxes))
        if figures.backlog.size_bytes < SPOOL_RESUME_SHARE * self.config.spool.limit_bytes:
            figures.is_spool_full = False

    async def _end(self, tasks: dict[str, asyncio.Task[object]]) -> None:
        self._log.info("ending")
        await asyncio.gather(self._uplink.stop_receiving(), self._backlog_uplink.stop_receiving())
        for inbox in self._inboxes:
            inbox.close()
        await self._finish(tasks["intake"], self._shutdown_s)
        self._pump.finish()
        await self._finish(tasks["pump"], self._shutdown_s)
        self._publisher.flush()
        await asyncio.sleep(0)  # one turn of the loop, in which the socket takes the last acknowledgements
        await cancel_all(tasks.values())
        await self._refresh()
        backlog = self.figures.backlog
        if backlog.frame_count:
            self._log.warning("frames wait in the spool for the next start", frames=backlog.frame_count)

    async def _finish(self, task: asyncio.Task[object], seconds: float) -> None:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            task.cancel()
