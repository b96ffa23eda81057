"""Commands: JSON on the node's `down` topic, answered on `reply`.

`{"id": any, "command": "ping" | "log" | "config" | "restart", "config": {...}}`; the answer repeats `id` and `command`
and says `ok`, and what is wrong if not. `config` without a configuration returns the present one, its secrets hidden;
with one it is checked, and only a good one is written (the old file is kept as `config.json.old`) and used after a
restart. Commands are rare: the node loads this module for each and forgets it.
"""

import json
import os

from micropython import const

from swapline_wire.catalogue import CONFIGURATION

from .once import call_once

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from .app import App

FILE = "config.json"
COMMANDS = ("ping", "log", "config", "restart")
_RESET_CONFIGURATION = const(7)
_LOG_BYTES_MAX = const(3000)


def handle(app: "App", payload: bytes) -> "dict[str, Any]":
    """Carry out one command and return the answer. Never raises on what came from outside."""
    return Commands(app).handle(payload)


class Commands:
    """Carry out what arrives on `down`."""

    def __init__(self, app: "App") -> None:
        self._app = app

    def handle(self, payload: bytes) -> "dict[str, Any]":
        """Carry out one command and return the answer. Never raises on what came from outside."""
        try:
            request = json.loads(payload)
        except ValueError:
            return {"ok": False, "error": "the command is not JSON"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "the command is not a JSON object"}
        command = request.get("command")
        answer: "dict[str, Any]" = {"id": request.get("id"), "command": command, "ok": True}
        if command == "ping":
            answer["uptime_ms"] = self._app.clock.uptime_ms()
            answer["boot"] = self._app.journal.boot
            answer["open_rows"] = self._app.sampler.row_count()
            answer["pending_frames"] = self._app.journal.pending_frames
        elif command == "log":
            answer["lines"] = self._log_lines()
        elif command == "config":
            self._configure(request, answer)
        elif command == "restart":
            self._app.request_restart()
        else:
            answer["ok"] = False
            answer["error"] = "unknown command; one of %s is" % ", ".join(COMMANDS)
        return answer

    def _log_lines(self) -> "list[str]":
        """Return as many of the last log lines as fit into one message."""
        lines = self._app.log.lines()
        while sum([len(line) + 4 for line in lines]) > _LOG_BYTES_MAX:
            lines.pop(0)
        return lines

    def _configure(self, request: "dict[str, Any]", answer: "dict[str, Any]") -> None:
        raw = request.get("config")
        if raw is None:
            answer["config"] = call_once("config", "mask", _read_file())
            answer["problems"] = self._app.config.problems
            return
        problems = call_once("config", "check", raw).problems
        if not problems:
            try:
                _replace_file(raw)
            except OSError as error:
                problems = ["%s: cannot be written: %s" % (FILE, error)]
        if problems:
            answer["ok"] = False
            answer["error"] = "; ".join(problems)
        self._app.sampler.event(CONFIGURATION, reason=1 if problems else 0)
        if not problems:
            self._app.request_restart(_RESET_CONFIGURATION)


def _read_file() -> "Any":
    try:
        with open(FILE) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _replace_file(raw: "Any") -> None:
    """Write the configuration so that a power cut leaves the old file or the new one."""
    with open(FILE + ".new", "w") as file:
        json.dump(raw, file)
        file.flush()
    try:
        with open(FILE) as file, open(FILE + ".old", "w") as old:
            old.write(file.read())
    except OSError:
        pass  # there was none
    os.rename(FILE + ".new", FILE)
