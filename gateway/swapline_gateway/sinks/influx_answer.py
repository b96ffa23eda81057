"""What an answer of an InfluxDB means: taken, try again, or never.

A permanent refusal concerns points, and its words say so: those that the versions are known to use are listed here with
where they come from. InfluxDB writes the good points of a partly refused request, and writing them again is harmless.

- 1.x, 400: `partial write: field type conflict: input field "f" on measurement "m" is type float, already exists as
  type integer dropped=1`; `partial write: points beyond retention policy dropped=2`; `partial write: max-values-per-tag
  limit exceeded ...`; `unable to parse '...': ...` (the good lines are written).
- 2.x, 422, before 2.1 also 500: `failure writing points to database: partial write: ...` with 1.x's words, newer ones
  `partial write: dropped 4 points outside retention policy of duration 24h0m0s - ... dropped=4 for database: ...`; 400:
  `unable to parse ...` (nothing is written).
- 3.x, 400: `partial write of line protocol occurred`.

Any other 400 or 422 is doubtful: a proxy, or a request that is wrong as a whole. Refused credentials and a missing
database are for people to mend: nothing is thrown away meanwhile.
"""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from swapline_gateway.error import SinkBusyError, SinkError, SinkRejectedError, SinkTooLargeError

_SAID_MAX = 300
_PARTIAL_WRITE = "partial write"
_AGE_WORDS = (
    "beyond retention policy",
    "outside retention policy",
)  # `for retention policy: x` ends any refusal of 2.x
_POINT_WORDS = (_PARTIAL_WRITE, "unable to parse", "field type conflict", "line protocol", *_AGE_WORDS)
_DROPPED = re.compile(r"\bdropped=(\d{1,9})\b")
_CONFLICT = re.compile(r'input field "(?P<field>[^"]+)" on measurement "(?P<measurement>[^"]+)"')


def error_of(status: int, text: str, *, retry_after: str | None = None) -> SinkError:
    """Return the error that a status other than success stands for."""
    message = _message(text)
    said = f"{status}: {message[:_SAID_MAX]}"
    if status == 413:
        return SinkTooLargeError(said, is_doubtful=True)
    if status in (400, 422) or (status == 500 and _PARTIAL_WRITE in message):
        counts = _DROPPED.findall(message)  # the last is the server's own: a module's code before it may say anything
        return SinkRejectedError(
            said,
            refused_count=int(counts[-1]) if counts else None,
            is_doubtful=not any(words in message for words in _POINT_WORDS),
        )
    if status in (401, 403):
        return SinkBusyError(f"{status}: credentials or token refused: {message[:_SAID_MAX]}")
    if status == 404:
        return SinkBusyError(f"404: no such database or bucket: {message[:_SAID_MAX]}")
    if status < 300:
        return SinkBusyError(f"{status} instead of 204, so this is no InfluxDB: {message[:_SAID_MAX]}")
    return SinkBusyError(said, retry_after_s=_seconds(retry_after))


def conflicting_field(error: SinkRejectedError) -> tuple[str, str] | None:
    """Return measurement and field of a type conflict, if the error is about one."""
    found = _CONFLICT.search(str(error))
    return (found["measurement"], found["field"]) if found else None


def is_about_age(error: SinkRejectedError) -> bool:
    """Say whether points were refused because they are too old."""
    return any(words in str(error) for words in _AGE_WORDS)


def _message(text: str) -> str:
    """Return what the server says, in one line, out of the JSON around it if there is any."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        said = answer.get("error") or answer.get("message")
        text = said if isinstance(said, str) else text
    return " ".join(text.split())


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, IndexError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
