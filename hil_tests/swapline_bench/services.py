"""Start real servers for tests and the demo: mosquitto, InfluxDB 1.x, VictoriaMetrics.

Each listens on a loopback port of its own and keeps its data in a temporary folder (or in one that the caller gives, so
that it can be stopped and started again on the same data). It is ready when `start` returns, and gone when its context
is left:

    with services.mosquitto() as broker, services.influxd() as database:
        connect(broker.host, broker.port); write(database.url)

A server that says on which port it listens is started with port 0. The others get a port that was free a moment ago and
another one should somebody have been faster.
"""

import asyncio
import collections
import contextlib
import os
import re
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
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
READY_S_MAX = 30.0  # influxd on two busy cores was seen to take 2 s
STOP_S_MAX = 15.0
START_ATTEMPTS_MAX = 5
_LOG_LINES_MAX = 200
MQTT_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"  # 3.1.1, clean session, keep-alive 10 s, no name
# Debian keeps daemons out of an ordinary user's PATH.
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")


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
    """Return a loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One child process that is ready when its log says so.

    `command(port)` builds the command line, writing what files it needs into `folder`. `ready` is searched for in every
    line of the log; a group named `port` in it tells where the server really listens.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Callable[[int], Sequence[str]],
        ready: str,
        *,
        chooses_port: bool,
        greeting: bytes = b"",
    ) -> None:
        self.name = name
        self.host = HOST
        self.folder = folder
        self.port = 0
        self._command = command
        self._ready = re.compile(ready)
        self._chooses_port = chooses_port
        self._greeting = greeting
        self._process: subprocess.Popen[str] | None = None
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES_MAX)
        self._reader: threading.Thread | None = None
        self._settled = threading.Event()
        self._is_ready = False
        self._cleanup = contextlib.ExitStack()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_tail(self) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self._log)

    def start(self) -> Self:
        """Start the server and wait until it is ready; after a `stop` or `kill` it comes back on the same port."""
        if self.port:
            return self._start_on(self.port)
        for _ in range(START_ATTEMPTS_MAX):
            with contextlib.suppress(PortTakenError):
                return self._start_on(0 if self._chooses_port else free_port())
        raise ServiceError(f"{self.name}: no free port in {START_ATTEMPTS_MAX} attempts\n{self.log_tail()}")

    def _start_on(self, port: int) -> Self:
        assert not self.is_running()
        self._log.clear()
        self._settled.clear()
        self._is_ready = False
        self.port = port
        self._process = subprocess.Popen(
            list(self._command(port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a Ctrl-C on the terminal is for the bench, which ends its servers in order
        )
        self._reader = threading.Thread(target=self._read_log, name=f"{self.name}-log", daemon=True)
        self._reader.start()
        is_settled = self._settled.wait(READY_S_MAX)
        if self._is_ready and self._accepts():
            return self
        self.kill()
        self.port = 0
        if "ddress already in use" in self.log_tail():
            raise PortTakenError(f"{self.name}: port {port} is in use")
        what = "ended before it was ready" if is_settled else f"was not ready within {READY_S_MAX:.0f} s"
        raise ServiceError(f"{self.name} {what}; its log:\n{self.log_tail()}")

    def _accepts(self) -> bool:
        """Wait until the port takes connections: VictoriaMetrics says that it listens a moment before it does.

        With a greeting, wait for the answer to it as well: mosquitto 2.0.11 forgets a SIGTERM that comes between its
        "running" and its main loop, while the kernel takes connections for it already.
        """
        end = time.monotonic() + READY_S_MAX
        while self.is_running() and time.monotonic() < end:
            try:
                with socket.create_connection((self.host, self.port), timeout=READY_S_MAX) as connection:
                    connection.sendall(self._greeting)
                    return not self._greeting or bool(connection.recv(1))
            except ConnectionRefusedError:
                time.sleep(0.005)
        return False

    def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line.rstrip())
            match = self._ready.search(line)
            if match and not self._is_ready:
                if "port" in match.groupdict():
                    self.port = int(match["port"])
                self._is_ready = True
                self._settled.set()
        self._settled.set()  # end of the log: the server is gone, ready or not

    def stop(self) -> None:
        """Stop the server in order (SIGTERM) and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self.is_running():
            self._process.send_signal(how)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def close(self) -> None:
        """Stop the server and remove its folder if it was made for it."""
        self.stop()
        self._cleanup.close()

    def remove_at_close(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._cleanup.callback(folder.cleanup)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])  # a thread cannot be cancelled: end what it has started
            await asyncio.to_thread(self.close)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def _make(
    name: str,
    folder: Path | None,
    command: Callable[[Path, int], Sequence[str]],
    ready: str,
    *,
    chooses_port: bool,
    greeting: bytes = b"",
    kind: type[Server] = Server,
) -> Server:
    temporary = None
    if folder is None:
        temporary = tempfile.TemporaryDirectory(prefix=f"swapline-{name}-")
        folder = Path(temporary.name)
    home = folder
    server = kind(name, home, lambda port: command(home, port), ready, chooses_port=chooses_port, greeting=greeting)
    if temporary is not None:
        server.remove_at_close(temporary)
    return server


def mosquitto(
    folder: Path | None = None, settings: Sequence[str] = (), *, host: str = HOST, prefix: Sequence[str] = ()
) -> Server:
    """Prepare an MQTT broker without passwords on `host`; `settings` are further lines of its configuration.

    `prefix` is a command line in front of the broker's own, which must become it.

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
        return (*prefix, str(binary), "-c", str(config))

    running = r"mosquitto version \S+ running"
    server = _make("mosquitto", folder, command, running, chooses_port=False, greeting=MQTT_CONNECT)
    server.host = host
    return server


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

    server = _make(
        "influxd", folder, command, rf"Listening on HTTP.*{HOST}:(?P<port>\d+)", chooses_port=True, kind=InfluxServer
    )
    assert isinstance(server, InfluxServer)
    return server


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

    return _make("victoria-metrics", folder, command, r"starting http server at http", chooses_port=False)


def post(url: str, body: bytes, timeout_s: float = 10.0) -> bytes:
    """Send one HTTP POST and return the answer's body. Raises `ServiceError` with what the server said."""
    request = urllib.request.Request(url, data=body, method="POST")  # noqa: S310 (our own loopback address)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise ServiceError(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
