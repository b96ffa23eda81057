"""Errors of the contract: whatever cannot be read is a `WireError`, never another exception."""


class WireError(ValueError):
    """Bytes that are not what they claim to be. `reason` is a short fixed word for counters, `detail` is for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + (": " + detail if detail else ""))
        self.reason = reason
        self.detail = detail


# Reasons, in the order in which a frame is checked.
TRUNCATED = "truncated"
BAD_MAGIC = "bad_magic"
BAD_LENGTH = "bad_length"
BAD_CHECKSUM = "bad_checksum"
NEWER_VERSION = "newer_version"
BAD_HEADER = "bad_header"
UNKNOWN_STREAM = "unknown_stream"
BAD_TOPIC = "bad_topic"
