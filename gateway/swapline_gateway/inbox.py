"""The inbox: messages between the MQTT client and the spool, bounded in bytes (those of what holds them included).

Two bounds, so that memory is safe whatever the broker does and however slow the disk is:

- Above `bytes_max` the transport's own acknowledgement (PUBACK) of every further message is held back until no
  more than half of it waits. A broker sends only so many messages without it (mosquitto: 20), so it waits.
- A broker that does not wait is met by the second bound, twice the first: messages beyond are dropped and counted.
  Their frames were not acknowledged, so the nodes send them again.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import aiomqtt

MESSAGE_BYTES = 600  # of memory that a message takes beside its payload: empty ones are not free
PubAck = Callable[[aiomqtt.Message], object]


class Inbox(asyncio.Queue[aiomqtt.Message]):
    """The queue that an `aiomqtt.Client` fills. Also outlives connections: what came is still worked off."""

    def __init__(self, *, bytes_max: int, message_bytes: int = MESSAGE_BYTES) -> None:
        super().__init__()
        self.size_bytes = 0
        self.dropped = 0
        self._message_bytes = message_bytes
        self._bytes_max = bytes_max
        self._messages: deque[aiomqtt.Message] = deque()
        self._held: deque[aiomqtt.Message] = deque()
        self._puback: PubAck = lambda _: None
        self._wakeup = asyncio.Event()
        self._is_closed = False

    def attach(self, puback: PubAck) -> None:
        """Take messages of a new connection; the old one's PUBACKs can no longer be sent."""
        self._held.clear()
        self._puback = puback

    def put_nowait(self, item: aiomqtt.Message) -> None:
        """Take a message from the client's callback."""
        size = self._message_bytes + len(item.payload)
        if self.size_bytes + size > 2 * self._bytes_max:
            self.dropped += 1
            self._puback(item)
            return
        self._messages.append(item)
        self.size_bytes += size
        if self.size_bytes > self._bytes_max:
            self._held.append(item)
        else:
            self._puback(item)
        self._wakeup.set()

    async def get(self) -> aiomqtt.Message:
        """Never return: the client's own iterator only watches for the end of the connection."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def take(self, *, messages_max: int, bytes_max: int) -> list[aiomqtt.Message]:
        """Wait for messages and return what is there, up to the limits; nothing once closed and empty."""
        waiting = self._messages
        while not waiting and not self._is_closed:
            self._wakeup.clear()
            await self._wakeup.wait()
        taken: list[aiomqtt.Message] = []
        size = 0
        while waiting and len(taken) < messages_max and size < bytes_max:
            message = waiting.popleft()
            size += self._message_bytes + len(message.payload)
            taken.append(message)
        self.size_bytes -= size
        if self.size_bytes <= self._bytes_max // 2:
            while self._held:
                self._puback(self._held.popleft())
        return taken

    def close(self) -> None:
        """Let `take` end after the last message."""
        self._is_closed = True
        self._wakeup.set()
