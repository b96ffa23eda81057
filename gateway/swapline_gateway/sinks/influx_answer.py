"""What an answer of an InfluxDB means: taken, try again, or never.

A permanent refusal concerns the points (400: parse error, field type conflict, beyond the retention; 413: too large;
422: refused by the bucket); the pump then looks for the guilty ones by halves. InfluxDB writes the good points of a
partly refused request, and writing them again is harmless. Refused credentials and a missing database are for people to
mend: nothing is thrown away meanwhile.
"""

from swapline_gateway.error import SinkBusyError, SinkError, SinkRejectedError

_REJECTED = (400, 413, 422)


def error_of(status: int, text: str, *, retry_after: str | None = None) -> SinkError:
    """Return the error that a status other than success stands for."""
    said = " ".join(text.split())[:300]
    if status in _REJECTED:
        return SinkRejectedError(f"{status}: {said}")
    if status in (401, 403):
        return SinkBusyError(f"{status}: credentials or token refused: {said}")
    if status == 404:
        return SinkBusyError(f"404: no such database or bucket: {said}")
    wait_s = float(retry_after) if retry_after and retry_after.isdigit() else None
    return SinkBusyError(f"{status}: {said}", retry_after_s=wait_s)
