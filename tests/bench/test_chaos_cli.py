"""What `swapline chaos` tells a script: one JSON object with the figures, and whether they are good as exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from swapline_bench import chaos_cli
from swapline_bench.chaos import ChaosConfig
from swapline_bench.chaos_report import WRONG, ChaosReport

COUNTS = (
    "seed",
    "rows_true",
    "rows_stored",
    "rows_lost_declared",
    "rows_lost_undeclared",
    "duplicates",
    "misowned",
    "mistimed",
)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ChaosReport:
    """Return the report that the next run ends with, a good one."""
    found = ChaosReport(
        seed=7,
        kills={"node": 3, "gateway": 2},
        faults={"link_loss": 1},
        rows_true=10,
        rows_stored=9,
        rows_lost_declared=1,
        recovery_s_p99=2.5,
        is_settled=True,
    )

    async def run(_config: ChaosConfig) -> ChaosReport:
        return found

    monkeypatch.setattr(chaos_cli, "_run", run)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(chaos_cli.chaos, arguments)


def test_json_is_one_object_with_every_figure(report: ChaosReport) -> None:
    done = run("--json")
    assert done.exit_code == 0
    said: dict[str, Any] = json.loads(done.stdout)
    assert {name: said[name] for name in COUNTS} == {name: getattr(report, name) for name in COUNTS}
    assert said["kills"] == {"node": 3, "gateway": 2}
    assert said["faults"] == {"link_loss": 1}
    assert said["recovery_s_p99"] == 2.5


@pytest.mark.parametrize("name", WRONG)
def test_whatever_is_wrong_makes_the_exit_code_one(report: ChaosReport, name: str, tmp_path: Path) -> None:
    setattr(report, name, 1)
    done = run("--json", "--data-dir", str(tmp_path))
    assert done.exit_code == 1
    assert json.loads(done.stdout)[name] == 1


def test_without_json_only_people_are_told(report: ChaosReport) -> None:
    done = run()
    assert done.exit_code == 0
    assert done.stdout == ""
    assert f"seed {report.seed}" in done.stderr


def test_folder_that_holds_something_is_not_used(report: ChaosReport, tmp_path: Path) -> None:
    del report
    (tmp_path / "kept").touch()
    assert run("--data-dir", str(tmp_path)).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
