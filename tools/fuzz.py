"""Fuzz what comes from outside, led by coverage (atheris): `make fuzz ARGS="--seconds 300 --target journal"`.

Each target of tests/fuzz runs in a process of its own for its share of the time. What it learned stays in build/fuzz,
so the next run goes on from there. A finding is written to a file there, printed, and makes the exit code 1.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "fuzz"
CHILD = "--child"
SHOWN_S = 10  # a line of progress at least so often
INPUT_BYTES_MAX = 4096
CASE_S_MAX = 20
MEMORY_MB_MAX = 2048


def fuzz(name: str, seconds: int) -> None:
    """Run one target in this process until the time is over or it finds something; does not return."""
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["swapline_wire", "swapline_node", "swapline_gateway"]):
        from tests.fuzz import gateway_target, node_target
        from tests.fuzz.seed import SEEDS

    target = {**node_target.TARGETS, **gateway_target.TARGETS}[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(SEEDS[name]()):
        (corpus / f"seed-{number}").write_bytes(data)
    os.chdir(tempfile.mkdtemp(prefix="swapline-fuzz-"))
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={CASE_S_MAX}",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-artifact_prefix={FOLDER}/finding-{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], quiet(target))
    atheris.Fuzz()


def quiet(target: object) -> object:
    """Return the target without what it logs: a warning for each of a million cases helps nobody."""
    assert callable(target)

    def call(data: bytes) -> None:
        with contextlib.redirect_stdout(None):
            target(data)

    return call


def run_target(name: str, seconds: int) -> bool:
    """Run one target as a child process, show its progress, and say whether it found nothing."""
    command = [sys.executable, __file__, CHILD, name, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started_s = shown_s = time.monotonic()
    executions = coverage = "0"
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines = [*lines[-60:], line]
            if found := re.match(r"#(\d+)\s+\w+\s+cov: (\d+)", line):
                executions, coverage = found[1], found[2]
                if time.monotonic() - shown_s >= SHOWN_S:
                    shown_s = time.monotonic()
                    print(f"  {name}: {executions} cases, {coverage} edges", flush=True)
    if process.returncode == 0:
        print(f"{name}: {executions} cases, {coverage} edges in {time.monotonic() - started_s:.0f} s, nothing found")
        return True
    print("".join(lines))
    print(f"{name}: FOUND something; its input is in {FOLDER}/finding-{name}-*", flush=True)
    return False


def main() -> int:
    """Share the time among the targets, one after the other."""
    from tests.fuzz.seed import SEEDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=190, help="for all targets together (default %(default)s)")
    parser.add_argument("--target", action="append", choices=sorted(SEEDS), help="only this one; can be given again")
    options = parser.parse_args()
    targets: list[str] = options.target or sorted(SEEDS)
    share_s = max(1, options.seconds // len(targets))
    good = [run_target(name, share_s) for name in targets]
    return 0 if all(good) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        fuzz(sys.argv[2], int(sys.argv[3]))  # it imports the code itself, instrumented
    sys.exit(main())
