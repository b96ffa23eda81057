"""What the broker tells about itself below `$SYS/broker` (mosquitto does; others, and access lists, may not)."""

from collections.abc import Mapping

SYS = "$SYS/broker/"
# Topic below SYS -> field. mosquitto counts as stored what waits for somebody and what is retained.
FIELDS: Mapping[str, str] = {
    "clients/connected": "clients_connected",
    "messages/received": "messages_received",
    "messages/sent": "messages_sent",
    "publish/messages/dropped": "messages_dropped",
    "bytes/received": "bytes_received",
    "bytes/sent": "bytes_sent",
    "store/messages/count": "messages_stored",
    "heap/current": "heap_bytes",
}
_DIGITS_MAX = 18


class BrokerFigures:
    """The broker's figures as last told. Used by the event loop's thread only."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.topics = [SYS + name for name in FIELDS]

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message; what is no number of ours says nothing."""
        field = FIELDS.get(topic.removeprefix(SYS))
        if field is not None and payload.isdigit() and len(payload) <= _DIGITS_MAX:
            self.values[field] = int(payload)

    def forget(self) -> None:
        """Begin anew: there is another connection, perhaps to another broker."""
        self.values.clear()
