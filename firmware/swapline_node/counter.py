"""Counters: what the node has done and lost since it booted, named as in the catalogue's `node` stream."""

_REASONS_MAX = 8  # the catalogue's LOSS_ codes


class Counters:
    """Totals since boot, and the losses that still have to be declared as events.

    Every loss of a frame or a row goes through `lose`, so that nothing vanishes without a reason.
    """

    def __init__(self) -> None:
        self.frames_sealed = 0
        self.frames_acknowledged = 0
        self.frames_sent_again = 0
        self.frames_dropped = 0
        self.rows_kept = 0
        self.rows_unchanged = 0
        self.values_abnormal = 0
        self.bus_requests = 0
        self.bus_timeouts = 0
        self.bus_checksum_errors = 0
        self.bus_protocol_errors = 0
        self.link_connects = 0
        self.link_failures = 0
        self.task_restarts = 0
        self.memory_errors = 0  # the only one that is no signal: what they cost, rows and restarts, is counted
        self._rows_lost = [0] * _REASONS_MAX  # by reason, that no ROWS_DROPPED event has declared yet

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the total called `name`."""
        setattr(self, name, getattr(self, name) + amount)

    def lose(self, reason: int, frames: int = 0, rows: int = 0) -> None:
        """Count frames (declared by whoever knows their numbers) or rows (declared from `take_rows_lost`) as lost."""
        self.frames_dropped += frames
        if rows:
            self._rows_lost[reason] += rows  # takes no memory, for the reason may be that there is none

    def take_rows_lost(self) -> "dict[int, int]":
        """Return the rows lost and not yet declared, by reason, and forget them: the caller declares them."""
        taken = {}
        for reason in range(_REASONS_MAX):
            if self._rows_lost[reason]:
                taken[reason] = self._rows_lost[reason]
                self._rows_lost[reason] = 0
        return taken
