"""A node without memory: what it could not keep is counted, and it does not go on like that for ever."""

from tests.node.node_rig import run_script


def test_every_reading_that_found_no_memory_is_stored_or_counted_as_lost() -> None:
    """The heap is full to a different block each time, so that memory ends at every place of a poll."""
    result = run_script("no_memory.py", heap="512K")
    assert result["polls"] <= result["stored"] + result["lost"] <= result["attempts"]
    assert result["polls"] > 150
    assert result["stored"] > 0
    assert result["lost"] > 10
