"""What all tests share: real programs and recordings are asked for here, so that none is left out unnoticed."""

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Debian keeps daemons out of an ordinary user's PATH.
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
DEBIAN_PACKAGES = {
    "influxd": "influxdb",
    "mosquitto_sub": "mosquitto-clients",
    "systemd-analyze": "systemd",
    "systemd-sysusers": "systemd",
}


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench",
        metavar="FILE",
        type=Path,
        default=Path(__file__).parent / "hil_tests" / "benches" / "virtual.toml",
        help="bench file for the tests that use a desk (default: the virtual bench)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Else an example that a busy machine interrupts is a failure.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    config.addinivalue_line("markers", "promise(sentence): what the product promises, and this test holds")
    config.addinivalue_line("markers", "needs(*words): what the bench must have, as docs/hil.md lists it, else a skip")


@pytest.fixture(scope="session")
def require() -> Callable[[str], Path]:
    """Return where a program is installed; without it the test is skipped, and fails when CI=true."""

    def find(program: str) -> Path:
        found = shutil.which(program) or shutil.which(program, path=os.pathsep.join(SYSTEM_FOLDERS))
        if found is None:
            pytest.skip(f"{program} is not installed: apt-get install {DEBIAN_PACKAGES.get(program, program)}")
        return Path(found)

    return find


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of recorded input. What is missing in a folder that was named is the test's failure."""
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    if not folder:
        pytest.skip("SWAPLINE_RECORDINGS does not name the folder of recorded input")
    path = Path(folder).resolve()
    assert path.is_dir(), f"SWAPLINE_RECORDINGS={folder}: no such folder"
    return path


def _fail_instead_of_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"CI=true, so nothing may be left out, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and is_ci() and not hasattr(report, "wasxfail"):
        _fail_instead_of_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and is_ci():
        _fail_instead_of_skip(report)
    return report
