"""The backlog's share of a link, against a model of the link: a queue in front of a line."""

from swapline_node.backlog_share import BacklogShare

MESSAGE_BYTES = 2048


class Line:
    """Carries one message after the other at `bytes_per_s`; an answer is back `round_trip_ms` after that."""

    def __init__(self, share: BacklogShare, *, bytes_per_s: int, round_trip_ms: int, message_bytes: int = 1900) -> None:
        self.share = share
        self.carried = 0
        self.queue_ms: list[int] = []  # how long a message that is sent now would wait
        self._bytes_per_s = bytes_per_s
        self._round_trip_ms = round_trip_ms
        self._message_bytes = message_bytes
        self._free_ms = 0
        self._sent: list[tuple[int, int]] = []

    def run(self, begin_ms: int, end_ms: int, *, other_bytes_per_s: int = 0) -> None:
        """Send backlog whenever there is room; something else takes a part of the line."""
        line_ms = 1000 * self._message_bytes // (self._bytes_per_s - other_bytes_per_s)
        for now_ms in range(begin_ms, end_ms, 10):
            while self._sent and self._sent[0][1] <= now_ms:
                self.share.answered(self._message_bytes, self._sent.pop(0)[0], now_ms)
                self.carried += self._message_bytes
            while self.share.has_room():
                self.share.sent(self._message_bytes)
                self._free_ms = max(self._free_ms, now_ms) + line_ms
                self._sent.append((now_ms, self._free_ms + self._round_trip_ms))
            self.queue_ms.append(max(0, self._free_ms - now_ms))


def make_line(bytes_per_s: int, round_trip_ms: int) -> Line:
    return Line(BacklogShare(MESSAGE_BYTES), bytes_per_s=bytes_per_s, round_trip_ms=round_trip_ms)


def test_slow_link_is_used_without_a_long_queue() -> None:
    line = make_line(2500, 4000)
    line.run(0, 600_000)
    late = sorted(line.queue_ms[6000:])
    assert late[len(late) * 99 // 100] < 2500
    assert line.carried > 0.6 * 2500 * 600


def test_queue_stays_short_on_a_slow_link_with_a_short_round_trip_for_as_long_as_the_backlog_lasts() -> None:
    line = make_line(2500, 100)
    line.run(0, 1_200_000)
    late = sorted(line.queue_ms)
    assert late[len(late) * 99 // 100] < 2500
    assert line.carried > 0.8 * 2500 * 1200


def test_fast_link_is_given_all_that_the_window_of_messages_allows() -> None:
    line = make_line(1_000_000, 50)
    line.run(0, 6000)
    assert line.share.window_bytes > 12 * MESSAGE_BYTES


def test_share_shrinks_when_the_link_gets_slower_but_one_message_always_goes() -> None:
    line = make_line(20_000, 200)
    line.run(0, 30_000)
    wide = line.share.window_bytes
    line.run(30_000, 90_000, other_bytes_per_s=19_500)
    assert line.share.window_bytes < wide // 2
    assert line.share.window_bytes >= MESSAGE_BYTES
    carried = line.carried
    line.run(90_000, 120_000, other_bytes_per_s=19_500)
    assert line.carried > carried


def test_new_connection_begins_with_two_messages() -> None:
    line = make_line(1_000_000, 50)
    line.run(0, 3000)
    line.share.restart(3000)
    sent = 0
    while line.share.has_room():
        line.share.sent(2000)
        sent += 1
    assert sent == 2
