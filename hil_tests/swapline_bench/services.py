"""Start real servers for tests, benches and the demo: mosquitto, InfluxDB 1.x, VictoriaMetrics.

Each listens on a loopback port of its own and keeps its data in a temporary folder (or in one that the caller gives, so
that it can be stopped and started again on the same data). It is ready when `start` returns, and gone when its context
is left or the bench dies:

    with services.mosquitto() as broker, services.influxd() as database:
        connect(broker.host, broker.port); write(database.url)

All calls of a server block. A coroutine writes `async with services.mosquitto() as broker`, and makes single calls with
`await whole(broker.stop)`.

A server that says on which port it listens, and never comes back there, is started with port 0. The others get a port
that was free a moment ago and another one should somebody have been faster.
"""

import asyncio
import collections
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

HOST = "127.0.0.1"
READY_S_MAX = 60.0  # a gateway takes 1 s on two quiet cores, 20 s where eight others load them
STOP_S_MAX = 60.0  # a gateway that empties its spool takes 15 s
START_ATTEMPTS_MAX = 5
# Below those that Linux gives to outgoing connections: a port of those may be one's own while its server is away, and a
# client that tries such a port again and again connects to itself one day.
_PORTS = range(20_000, 32_768)
_PORT_ATTEMPTS_MAX = 100
_LOG_LINES_MAX = 200
_PORT_TAKEN = "ddress already in use"  # as every server's log says it
MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"  # 3.1.1, clean session, keep-alive 10 s, no name
# Debian keeps daemons out of an ordinary user's PATH.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")
# The kernel kills what `setpriv` starts when the thread that started it ends, so one thread that lives as long as the
# bench starts everything. Where there is no `setpriv` (not Linux), a killed bench leaves its servers behind.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="starter of servers")
_Result = TypeVar("_Result")


class ServiceError(Exception):
    """A server that could not be started or stopped."""


class MissingBinaryError(ServiceError):
    """The server's program is not installed."""


class PortTakenError(ServiceError):
    """Somebody else took the port between choosing and binding it."""


def find_binary(program: str, package: str) -> Path:
    """Return where `program` is installed. Raises `MissingBinaryError`, naming Debian's `package`."""
    found = shutil.which(program) or shutil.which(program, path=os.pathsep.join(_SYSTEM_FOLDERS))
    if found is None:
        raise MissingBinaryError(f"{program} is not installed: apt-get install {package}")
    return Path(found)


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on at this moment, and that no connection is given by chance.

    Raises `OSError` where none is free.
    """
    for _ in range(_PORT_ATTEMPTS_MAX):
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port
    raise OSError(f"no loopback port of {_PORTS.start} to {_PORTS.stop - 1} is free in {_PORT_ATTEMPTS_MAX} attempts")


async def whole(call: Callable[[], _Result]) -> _Result:
    """Run a blocking call in a thread, to its end even where we are cancelled: half a start would leave a process."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()  # nobody is there any more to hear of it
        raise


class Server:
    """One child process that is ready when its log says so.

    `command(folder, port)` builds the command line, writing what files it needs into the folder: `folder`, or one that
    is removed at the end. `ready` is searched for in every line of the log; a group named `port` in it tells where the
    server really listens. With port 0 nobody connects to it. `on_line` takes every line, in a thread of the server's.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        command: Callable[[Path, int], Sequence[str]],
        ready: str,
        *,
        chooses_port: bool,
        host: str = HOST,
        greeting: bytes = b"",
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = 0
        self._cleanup = contextlib.ExitStack()
        self.folder = folder or Path(
            self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix=f"swapline-{name}-"))
        )
        self._command = command
        self._ready = re.compile(ready)
        self._chooses_port = chooses_port
        self._greeting = greeting
        self._on_line = on_line
        self._process: subprocess.Popen[str] | None = None
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES_MAX)
        self._reader: threading.Thread
        self._settled = threading.Event()
        self._is_ready = False

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Return the process id of the last start."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Return how the last process ended; None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def log_tail(self, count: int = 40) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(list(self._log)[-count:])

    def start(self) -> Self:
        """Start the server and wait until it is ready; after a `stop` or `kill` it comes back on the same port.

        Raises `ServiceError` with the end of its log; it does not run then.
        """
        if self.port:
            return self._start_on(self.port)
        for _ in range(START_ATTEMPTS_MAX):
            try:
                return self._start_on(0 if self._chooses_port else free_port())
            except ServiceError as error:
                self.port = 0
                if not isinstance(error, PortTakenError):
                    raise
        raise ServiceError(f"{self.name}: no free port in {START_ATTEMPTS_MAX} attempts\n{self.log_tail()}")

    def _start_on(self, port: int) -> Self:
        assert not self.is_running
        self._log.clear()
        self._settled.clear()
        self._is_ready = False
        self.port = port
        command = [*_dying_with_us(), *self._command(self.folder, port)]
        self._process = _STARTER.submit(_spawn, command).result()
        self._reader = threading.Thread(
            target=self._read_log, args=(self._process,), name=f"log of {self.name}", daemon=True
        )
        self._reader.start()
        is_settled = self._settled.wait(READY_S_MAX)
        if self._is_ready and self._accepts():
            return self
        self.kill()
        if _PORT_TAKEN in self.log_tail():
            raise PortTakenError(f"{self.name}: port {port} is in use")
        what = "ended before it was ready" if is_settled else f"was not ready within {READY_S_MAX:.0f} s"
        raise ServiceError(f"{self.name} {what}; its log:\n{self.log_tail()}")

    def _accepts(self) -> bool:
        """Wait until the port takes connections: VictoriaMetrics says that it listens a moment before it does.

        With a greeting, wait for the answer to it as well: mosquitto 2.0.11 forgets a SIGTERM that comes between its
        "running" and its main loop, while the kernel takes connections for it already.
        """
        end = time.monotonic() + READY_S_MAX
        while self.port and self.is_running and time.monotonic() < end:
            try:
                with socket.create_connection((self.host, self.port), timeout=READY_S_MAX) as connection:
                    connection.sendall(self._greeting)
                    return not self._greeting or bool(connection.recv(1))
            except OSError:
                time.sleep(0.005)
        return not self.port and self.is_running

    def _read_log(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        try:
            with process.stdout as lines:
                for line in lines:
                    self._take_line(line.rstrip())
        finally:
            self._settled.set()  # end of the log: the server is gone, ready or not

    def _take_line(self, line: str) -> None:
        self._log.append(line)
        if self._on_line is not None:
            self._on_line(line)
        match = self._ready.search(line)
        if match and not self._is_ready:
            self.port = int(match.groupdict().get("port") or self.port)
            self._is_ready = True
        if self._is_ready or _PORT_TAKEN in line:  # amqtt says so and stays
            self._settled.set()

    def stop(self) -> int:
        """Stop the server in order (SIGTERM) and return its exit code, 0 if it was never started."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End the server at once (SIGKILL), as a power cut would, and return its exit code."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)  # does nothing to one that has ended
        return self.wait()

    def wait(self) -> int:
        """Wait for the server's end, read its log to the end and return its exit code.

        Raises `ServiceError` for one that had to be killed because it did not end in time.
        """
        assert self._process is not None
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise ServiceError(f"{self.name} did not end within {STOP_S_MAX:.0f} s:\n{self.log_tail()}") from None
        finally:
            self._process.wait()
            self._reader.join()

    def close(self) -> None:
        """Stop the server and remove its folder if it was made for it."""
        with self._cleanup:
            self.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            return await whole(self.start)
        except BaseException:
            await whole(self.close)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await whole(self.close)


def _spawn(command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # a Ctrl-C on the terminal is for the bench, which ends its servers in order
    )


def log_file(path: Path) -> Callable[[str], None]:
    """Return an `on_line` that appends to a file. A disk that is full costs lines, not the server."""

    def write(line: str) -> None:
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return write


def _dying_with_us() -> list[str]:
    """Return what to write in front of a command line so that the kernel kills it when `_STARTER`'s thread ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def mosquitto(
    folder: Path | None = None,
    settings: Sequence[str] = (),
    *,
    host: str = HOST,
    on_line: Callable[[str], None] | None = None,
) -> Server:
    """Prepare an MQTT broker without passwords on `host`; `settings` are further lines of its configuration.

    Queues are unbounded: mosquitto's default drops silently what a subscriber lags behind by more than 1000 messages.
    """
    binary = find_binary("mosquitto", "mosquitto")

    def command(home: Path, port: int) -> Sequence[str]:
        lines = [
            f"listener {port} {host}",
            "allow_anonymous true",
            "user root",  # ignored unless root starts it; else it could not write into the temporary folder
            "max_queued_messages 0",
            "set_tcp_nodelay true",
            *settings,
        ]
        config = home / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return (str(binary), "-c", str(config))

    running = r"mosquitto version \S+ running"
    return Server(
        "mosquitto",
        folder,
        command,
        running,
        chooses_port=False,
        host=host,
        greeting=MQTT_CONNECT,
        on_line=on_line,
    )


def lasting(folder: Path, *, autosave_s: int) -> list[str]:
    """Return the settings of a mosquitto that keeps sessions, queues and retained messages in `folder`.

    What it has not saved when it is killed, the nodes send again: only the gateway's answer counts for them.
    """
    return ["persistence true", f"persistence_location {folder}/", f"autosave_interval {autosave_s}"]


class InfluxServer(Server):
    """InfluxDB 1.x with the two requests that tests need beside the sink's own."""

    def execute(self, statement: str) -> bytes:
        """Run an InfluxQL statement that changes something (`CREATE DATABASE ...`)."""
        return post(f"{self.url}/query", urllib.parse.urlencode({"q": statement}).encode())


def influxd(folder: Path | None = None) -> InfluxServer:
    """Prepare an InfluxDB 1.x (what Debian ships) without passwords."""
    binary = find_binary("influxd", "influxdb")

    def command(home: Path, port: int) -> Sequence[str]:
        config = home / "influxdb.conf"
        config.write_text(
            f"""reporting-disabled = true
bind-address = "{HOST}:0"
[meta]
  dir = "{home}/meta"
[data]
  dir = "{home}/data"
  wal-dir = "{home}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "{HOST}:{port}"
  log-enabled = false
"""
        )
        return (str(binary), "-config", str(config))

    return InfluxServer("influxd", folder, command, r"Listening on HTTP", chooses_port=False)


def victoria_metrics(folder: Path | None = None, flags: Sequence[str] = ()) -> Server:
    """Prepare a VictoriaMetrics; `flags` are further arguments. It keeps data of any time for 100 years."""
    binary = find_binary("victoria-metrics", "victoria-metrics")

    def command(home: Path, port: int) -> Sequence[str]:
        return (
            str(binary),
            f"-storageDataPath={home}/data",
            f"-httpListenAddr={HOST}:{port}",
            "-retentionPeriod=100y",
            *flags,
        )

    return Server("victoria-metrics", folder, command, r"starting http server at http", chooses_port=False)


def post(url: str, body: bytes, timeout_s: float = 10.0) -> bytes:
    """Send one HTTP POST and return the answer's body. Raises `ServiceError` with what the server said."""
    request = urllib.request.Request(url, data=body, method="POST")  # noqa: S310 (our own loopback address)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise ServiceError(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
