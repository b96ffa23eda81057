"""The oracle: what the devices said against what the database holds, row by row.

It shares no code with what it judges. The devices' statements come from the bench's own ledger (`statement.py`), the
rows from the database's own answers (`database.py`), and what the codes of a declared loss mean is written down here a
second time. How a row finds its statement is in `oracle_match.py`, what is left over is named in `oracle_rest.py`.
"""

from swapline_bench.verdict import ClockFault, FrameRecord, PowerCut, RowSource, Truth, Verdict

__all__ = ["ClockFault", "FrameRecord", "PowerCut", "RowSource", "Truth", "Verdict", "judge"]


def judge(truth: Truth, database: RowSource) -> Verdict:
    """Compare a run that has settled with what its database holds."""
    raise NotImplementedError
