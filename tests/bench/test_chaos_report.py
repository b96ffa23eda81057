"""What a chaos run reports: how long things took to recover, and when a run is good."""

from swapline_bench.chaos_report import WRONG, ChaosReport, Disturbance, StoredFrame, add_verdict, measure_recovery
from swapline_bench.verdict import Verdict

NODE = "van-001"


def _stored(*times_ms: tuple[int, int]) -> dict[str, list[StoredFrame]]:
    """Return frames of one row, each with the row's time and the time when it was stored."""
    return {NODE: [StoredFrame(1, seq, row, row, stored) for seq, (row, stored) in enumerate(times_ms, 1)]}


def _kill(begin_ms: int, end_ms: int) -> Disturbance:
    return Disturbance("kill", NODE, (NODE,), begin_ms, end_ms)


def test_recovery_counts_from_the_end_to_the_first_row_after_it() -> None:
    found = measure_recovery([_kill(1000, 2000)], _stored((500, 2100), (2500, 4000), (3000, 4500)))
    assert found.samples_s == [2.0]
    assert found.percentile(0.99) == 2.0


def test_a_backlog_that_arrives_is_no_recovery() -> None:
    found = measure_recovery([_kill(1000, 2000)], _stored((500, 2100), (900, 2200)))
    assert found.samples_s == []
    assert len(found.never) == 1


def test_the_end_of_a_disturbance_counts_when_nothing_else_stands_in_the_way() -> None:
    found = measure_recovery([_kill(1000, 2000), _kill(1500, 3000)], _stored((2500, 3200), (3100, 5000)))
    assert found.samples_s == [2.0]


def test_a_recovery_that_the_next_disturbance_interrupts_is_counted_apart() -> None:
    found = measure_recovery([_kill(1000, 2000), _kill(3000, 4000)], _stored((4500, 5000)))
    assert (found.samples_s, found.interrupted) == ([1.0], 1)


def test_only_nodes_that_were_concerned_are_measured() -> None:
    elsewhere = Disturbance("kill", "van-002", ("van-002",), 1000, 2000)
    found = measure_recovery([elsewhere], {**_stored((2500, 3000)), "van-002": []})
    assert found.samples_s == []
    assert found.never == ["van-002: no row was stored after van-002 (kill)"]


def test_percentile_is_a_sample_that_was_seen() -> None:
    found = measure_recovery(
        [_kill(at, at) for at in (0, 10_000, 20_000)], _stored((1, 1000), (10_001, 13_000), (20_001, 22_000))
    )
    assert found.percentile(0.5) == 2.0
    assert found.percentile(0.99) == 3.0


def _good() -> ChaosReport:
    return ChaosReport(seed=1, kills={"node": 1}, rows_true=10, rows_stored=9, rows_lost_declared=1, is_settled=True)


def test_everything_that_the_oracle_says_is_in_the_report() -> None:
    report = ChaosReport(seed=1)
    add_verdict(report, Verdict(rows_true=5, rows_by_chance=1, altered=2, examples={"altered": ["a row"]}))
    assert (report.rows_true, report.rows_by_chance, report.altered) == (5, 1, 2)
    assert report.examples == {"altered": ["a row"]}


def test_a_run_with_declared_losses_only_is_good() -> None:
    assert _good().is_good
    assert _good().as_json()["is_good"] is True


def test_a_run_is_not_good_that_lost_doubled_altered_or_measured_nothing() -> None:
    for name in WRONG:
        report = _good()
        setattr(report, name, 1)
        assert report.failures == [f"{name.replace('_', ' ')}: 1"]
    for name, value, failure in (
        ("rows_true", 0, "nothing was measured"),
        ("rows_doubtful", 9, "too much was in doubt: the machine is too busy"),
        ("kills", {}, "nothing was killed"),
        ("is_settled", False, "it did not settle"),
    ):
        report = _good()
        setattr(report, name, value)
        assert report.failures == [failure]
