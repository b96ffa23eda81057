import asyncio

import aiomqtt
import pytest

from swapline_gateway.inbox import Inbox


def message(mid: int, size: int = 100) -> aiomqtt.Message:
    return aiomqtt.Message("t", bytes(size), 1, retain=False, mid=mid, properties=None)


async def test_slow_consumer_holds_the_brokers_acknowledgements_back_until_half_is_worked_off() -> None:
    inbox = Inbox(bytes_max=1000, message_bytes=0)
    acknowledged: list[int] = []
    inbox.attach(lambda item: acknowledged.append(item.mid))
    for mid in range(1, 16):
        inbox.put_nowait(message(mid))
    assert acknowledged == list(range(1, 11))
    await inbox.take(messages_max=9, bytes_max=1 << 20)
    assert acknowledged == list(range(1, 11))
    await inbox.take(messages_max=1, bytes_max=1 << 20)
    assert acknowledged == list(range(1, 16))


async def test_broker_that_does_not_wait_cannot_fill_the_memory_and_every_dropped_message_is_counted() -> None:
    inbox = Inbox(bytes_max=1000, message_bytes=0)
    for mid in range(100):
        inbox.put_nowait(message(mid))
    assert inbox.size_bytes == 2000
    assert inbox.dropped == 80
    assert len(await inbox.take(messages_max=1000, bytes_max=1 << 20)) == 20


async def test_empty_messages_cannot_fill_the_memory() -> None:
    inbox = Inbox(bytes_max=60_000)
    for mid in range(1000):
        inbox.put_nowait(message(mid, size=0))
    assert inbox.dropped >= 800
    while await inbox.take(messages_max=10, bytes_max=1 << 20):
        if not inbox.size_bytes:
            inbox.close()
    assert inbox.size_bytes == 0


async def test_messages_of_a_lost_connection_are_still_worked_off_but_not_acknowledged_to_the_next() -> None:
    inbox = Inbox(bytes_max=100, message_bytes=0)
    for mid in (1, 2):
        inbox.put_nowait(message(mid))
    acknowledged: list[int] = []
    inbox.attach(lambda item: acknowledged.append(item.mid))
    assert [item.mid for item in await inbox.take(messages_max=10, bytes_max=1 << 20)] == [1, 2]
    assert acknowledged == []


async def test_closed_inbox_gives_what_it_has_and_then_nothing() -> None:
    inbox = Inbox(bytes_max=1000, message_bytes=0)
    waiting = asyncio.create_task(inbox.take(messages_max=10, bytes_max=1 << 20))
    await asyncio.sleep(0)
    inbox.put_nowait(message(1))
    inbox.close()
    assert len(await waiting) == 1
    assert await inbox.take(messages_max=10, bytes_max=1 << 20) == []


@pytest.mark.parametrize(("messages_max", "bytes_max", "count"), [(3, 1 << 20, 3), (100, 250, 3)])
async def test_group_is_bounded_in_messages_and_bytes(messages_max: int, bytes_max: int, count: int) -> None:
    inbox = Inbox(bytes_max=1 << 20, message_bytes=0)
    for mid in range(10):
        inbox.put_nowait(message(mid))
    assert len(await inbox.take(messages_max=messages_max, bytes_max=bytes_max)) == count
