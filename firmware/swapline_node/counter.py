"""Counters: what the node has done and lost since it booted, named as in the catalogue's `node` stream."""


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
        self.rows_lost: "dict[int, int]" = {}  # reason -> rows that no ROWS_DROPPED event has declared yet

    def count(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the total called `name`."""
        setattr(self, name, getattr(self, name) + amount)

    def lose(self, reason: int, frames: int = 0, rows: int = 0) -> None:
        """Count frames (declared by whoever knows their numbers) or rows (declared from `take_rows_lost`) as lost."""
        self.frames_dropped += frames
        if rows:
            self.rows_lost[reason] = self.rows_lost.get(reason, 0) + rows

    def take_rows_lost(self) -> "dict[int, int]":
        """Return the rows lost and not yet declared, by reason, and forget them: the caller declares them."""
        taken = self.rows_lost
        self.rows_lost = {}
        return taken
