"""What can go wrong in the gateway, grouped by what the caller can do.

GatewayError              a sentence for people and the exit code of `swapline`
├── ConfigurationError    78: fix the configuration
├── UnavailableError      69: a broker, database or port is not there; try again later
├── StorageError          73: a folder, file or disk of ours cannot be used
├── AccessError           77: credentials or permissions are refused
└── StoppedError         130: somebody pressed Ctrl-C in the middle
SinkError
├── SinkBusyError         try the same again later
└── SinkRejectedError     never try the same again: set the guilty frames aside
    └── SinkTooLargeError not at once: try again in smaller parts
"""

EXIT_OK = 0
EXIT_PROBLEM = 1  # `swapline check` found something, or a bug
EXIT_USAGE = 2  # what click uses
EXIT_UNAVAILABLE = 69  # numbers of sysexits.h
EXIT_STORAGE = 73
EXIT_ACCESS = 77
EXIT_CONFIGURATION = 78
EXIT_STOPPED = 130  # what shells say of Ctrl-C


class GatewayError(Exception):
    """A condition that ends a command: the message is one sentence that says what to do."""

    exit_code = EXIT_PROBLEM


class ConfigurationError(GatewayError):
    """The configuration must be changed."""

    exit_code = EXIT_CONFIGURATION


class UnavailableError(GatewayError):
    """Something that we talk to is not there."""

    exit_code = EXIT_UNAVAILABLE


class StorageError(GatewayError):
    """A file of ours cannot be opened or written."""

    exit_code = EXIT_STORAGE


class AccessError(GatewayError):
    """Somebody refuses our credentials."""

    exit_code = EXIT_ACCESS


class StoppedError(GatewayError):
    """Somebody pressed Ctrl-C; the message says what was done until then."""

    exit_code = EXIT_STOPPED


def reason(error: BaseException) -> str:
    """Return why a connection failed, in the system's words: libraries wrap them in names of their own classes."""
    while inner := error.__cause__ or next((one for one in error.args if isinstance(one, BaseException)), None):
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class SinkError(Exception):
    """A sink did not take a batch."""


class SinkBusyError(SinkError):
    """The sink cannot take anything now: away, overloaded, disk full, credentials refused.

    `retry_after_s` is what the sink itself asked for.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SinkRejectedError(SinkError):
    """The sink will never take this batch as it is.

    `refused_count` is how many points the sink says it refused (the others are stored), None if it does not say.
    `is_doubtful` means that the words are none that a database is known to use about points: perhaps it was somebody
    on the way to it who spoke, and about something else.
    """

    def __init__(self, message: str, *, refused_count: int | None = None, is_doubtful: bool = False) -> None:
        super().__init__(message)
        self.refused_count = refused_count
        self.is_doubtful = is_doubtful


class SinkTooLargeError(SinkRejectedError):
    """The sink, or a proxy before it, takes only smaller batches."""
