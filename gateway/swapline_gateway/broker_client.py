"""The MQTT client of a gateway, which says why a connection ended that was never answered.

With TLS 1.3 a client's handshake is done before the broker has looked at its certificate. A broker that refuses it says
so in an alert behind the handshake; paho reads that instead of the answer, logs it and hangs up, and aiomqtt waits on
until it gives up: "Operation timed out". So what paho logs of its socket ends the wait here, and is the error.
"""

import logging
import ssl
from collections.abc import Callable
from typing import Any

import aiomqtt

# Alerts of TLS (RFC 8446, 6.2) that are about the certificate of whom they are sent to, as OpenSSL names them.
_WANTED = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_REFUSED = (
    *("BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN"),
    *("UNKNOWN_CA", "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED"),
)


class HungUpError(aiomqtt.MqttError):
    """The socket broke before the broker answered; `cause` says how."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class BrokerClient(aiomqtt.Client):
    """See the module's header."""

    def __init__(self, *args: Any, **options: Any) -> None:
        logger = logging.Logger("mqtt")
        logger.parent = logging.getLogger("mqtt")
        logger.addHandler(_SocketErrors(self._end_wait))
        super().__init__(*args, logger=logger, **options)

    def _end_wait(self, error: OSError) -> None:
        """End the wait for the broker's answer. paho reads, and logs, in the event loop's thread."""
        if not self._connected.done():
            self._connected.set_exception(HungUpError(error))


class _SocketErrors(logging.Handler):
    """Hands on the errors of sockets that are logged."""

    def __init__(self, take: Callable[[OSError], None]) -> None:
        super().__init__(logging.WARNING)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, OSError):
                self._take(argument)


def explain_alert(error: Exception, certificate: str | None) -> str | None:
    """Return what is wrong with our certificate in the broker's eyes; None where an error is about something else.

    `certificate` is the file of ours, if there is one.
    """
    cause = error.cause if isinstance(error, HungUpError) else error
    text = str(cause)
    if "_ALERT_" in text:
        told = text.rpartition("] ")[2].split(" (", 1)[0]
        if any(name in text for name in _WANTED) or (certificate is None and any(name in text for name in _REFUSED)):
            return f"wants a certificate of ours ({told}): set mqtt.tls.certificate and mqtt.tls.key"
        if any(name in text for name in _REFUSED):
            return f"refuses our certificate {certificate} ({told}): {_LOOK_AT}"
    if isinstance(cause, ConnectionResetError) and not isinstance(cause, ssl.SSLError) and certificate is not None:
        return f"hung up without a word; if it refuses our certificate {certificate}: {_LOOK_AT}"
    return None


_LOOK_AT = (
    "has it ended (openssl x509 -enddate -noout -in FILE), and is its authority the one that the broker believes"
    " (mosquitto: cafile)? The broker's log says which"
)
