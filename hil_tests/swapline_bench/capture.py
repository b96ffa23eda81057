"""Captures of a serial line as files: what was asked and what was answered, in the ways in which people write it down.

- Text: a line has `>>> hex`, what was sent to the device, `<<< hex`, what came back, or both. What stands before (a
  logger's time) and a remark behind (`# ...`, `(13)`) do not matter; a time `[17:06:44.670]` gives the device's delay.
  Bytes are written `4E:57`, `4E.57`, `4E 57`, `0x4E 0x57` or `4E57`. A question that no answer follows met silence.
- JSON: objects `{"request": hex, "response": hex or null, "latency_s": seconds}`, in a list or at any depth, as
  under `transactions`; `request_hex` and `response_hex` will do as well.

What is no hex (`XX`, where a recorder left a gap) cannot be played: `skipped` names the line.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from swapline_bench.replay import Exchange

_PART = re.compile(r"(>>>|<<<)\s*([^<>#(]*)")
_TIME = re.compile(r"\[(\d\d):(\d\d):(\d\d\.\d+)\]")
_DAY_S = 86400.0
_KEYS = {"request", "request_hex", "response", "response_hex"}


class CaptureError(Exception):
    """A file is no capture that can be played; the message says what it should be."""


class Capture(NamedTuple):
    """The exchanges of a file in their order, and what of it could not be used: line numbers with the reason."""

    exchanges: list[Exchange]
    skipped: list[str]


def read_capture_file(path: Path) -> Capture:
    """Read a capture of either kind. Raises `CaptureError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CaptureError(f"{path} is not text: a capture has lines `>>> hex` and `<<< hex`, or is JSON.") from error
    is_json = text.lstrip()[:1] in {"{", "["} and not _PART.search(text)  # a log's lines may begin with `[17:06:44]`
    capture = _read_json(path, text) if is_json else _read_text(text)
    if not capture.exchanges:
        why = f" ({capture.skipped[0]})" if capture.skipped else ""
        raise CaptureError(f"{path} has no question `>>> hex` that could be played{why}.")
    return capture


def read_hex(text: str) -> bytes:
    """Return the bytes that a text writes down. Raises `ValueError`."""
    tokens = [token.removeprefix("0x") for token in re.split(r"[\s:.,-]+", text.strip()) if token]
    if any(len(token) > 2 for token in tokens):
        return bytes.fromhex("".join(tokens))
    return bytes(int(token, 16) for token in tokens)


def _read_json(path: Path, text: str) -> Capture:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CaptureError(f"{path} is no JSON ({error}).") from error
    exchanges, skipped = [], []
    for number, entry in enumerate(_entries(document), 1):
        response = entry.get("response", entry.get("response_hex"))
        try:
            request = read_hex(entry.get("request", entry.get("request_hex")) or "")
            answer = None if response is None else read_hex(response)
        except (ValueError, TypeError, AttributeError):
            skipped.append(f"entry {number}: not hex")
            continue
        if request:
            exchanges.append(Exchange(request, answer, float(entry.get("latency_s") or 0.0)))
        else:
            skipped.append(f"entry {number}: an answer without a question")
    if not exchanges:
        wanted = '{"transactions": [{"request": "0104...", "response": "0104..." or null, "latency_s": 0.1}, ...]}'
        raise CaptureError(f"{path} is not a transcript: it should be {wanted}.")
    return Capture(exchanges, skipped)


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects that hold a question or an answer, wherever in the document they are."""
    if isinstance(document, dict) and document.keys() & _KEYS:
        yield document
    elif isinstance(document, dict | list):
        for item in document.values() if isinstance(document, dict) else document:
            yield from _entries(item)


def _read_text(text: str) -> Capture:
    reader = _TextReader()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#"):
            reader.take(number, line)
    reader.end()
    return Capture(reader.exchanges, reader.skipped)


class _TextReader:
    """Joins questions and answers, which may stand on one line or on several."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.skipped: list[str] = []
        self._request: bytes | None = None
        self._asked_s: float | None = None

    def take(self, number: int, line: str) -> None:
        """Take one line of the file."""
        match = _TIME.search(line)
        time_s = None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        for arrow, text in _PART.findall(line):
            try:
                data = read_hex(text)
            except ValueError:
                self._skip(number, text, is_answer=arrow == "<<<")
                continue
            if arrow == ">>>":
                self.end()
                self._request, self._asked_s = data, time_s
            elif self._request is None:
                self.skipped.append(f"line {number}: an answer without a question")
            else:
                self._answer(data, time_s)

    def end(self) -> None:
        """Close a question that no answer follows."""
        if self._request:
            self.exchanges.append(Exchange(self._request, None))
        self._request = None

    def _answer(self, data: bytes, time_s: float | None) -> None:
        assert self._request is not None
        is_timed = time_s is not None and self._asked_s is not None
        latency_s = ((time_s or 0.0) - (self._asked_s or 0.0)) % _DAY_S if is_timed else 0.0
        self.exchanges.append(Exchange(self._request, data, latency_s))
        self._request = None

    def _skip(self, number: int, text: str, *, is_answer: bool) -> None:
        if not is_answer:
            self.end()
        self._request = None
        self.skipped.append(f"line {number}: {text.strip()[:24]}... is not hex")
