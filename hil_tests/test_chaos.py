"""Two minutes of kills and faults over the whole stack: nothing is lost, stored twice or credited to somebody else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swapline_bench.chaos_report import WRONG
from swapline_bench.chaos_schedule import FAULTS, PARTS, Setting, plan

SEED = 1
DURATION_S = 120
RUN_S_MAX = 600.0
_PROGRAM = "from swapline_bench.chaos_cli import chaos; chaos()"


@pytest.mark.timeout(RUN_S_MAX + 60)
@pytest.mark.usefixtures("mosquitto", "influxd")
def test_two_minutes_of_chaos_lose_nothing(tmp_path: Path) -> None:
    arguments = ["--seed", str(SEED), "--duration", str(DURATION_S), "--vans", "3", "--stations", "1", "--json"]
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments, "--data-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert run.stdout, run.stderr
    report = json.loads(run.stdout)
    assert run.returncode == 0, run.stderr
    assert not report["was_interrupted"]
    assert {name: report[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
    assert report["rows_true"] > 1000
    assert report["rows_stored"] > 1000
    assert set(report["kills"]) == set(PARTS)
    assert set(report["faults"]) == {*FAULTS, "broker_forgets"}
    planned = plan(Setting(seed=SEED, duration_s=DURATION_S, vans=3, stations=1))
    kills = sum(action.is_kill for action in planned)
    assert 0.75 * kills <= sum(report["kills"].values()) <= kills, "a van that is swapped has no power to be cut"
    felt = {"link_half_open", "link_loss", "link_delay", "link_narrow"} & set(report["faults_felt"])
    assert len(felt) >= 3, "a node may be off while its link is bad"
    assert min(report["frames_by_gateway"].values()) > 50, "both replicas share the work"
    assert report["frames_held_at_kills"] > 0, "what only a spool held has survived its gateway"
    assert report["rows_estimated"] < report["rows_stored"] / 4
    assert report["recovery_s_p99"] < 90
