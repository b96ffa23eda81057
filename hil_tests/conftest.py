"""What the tests of the whole path share: the desk, the servers, and the databases that the gateways of a rig write to.

A test that uses `desk` runs on the bench that `--bench FILE` names. What it needs of a bench it says with the marker
`needs`; where the bench lacks that, it is skipped and says what is missing.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest

from swapline_bench import bundle, services
from swapline_bench.desk.bench_file import BenchFile, DeskError, load
from swapline_bench.desk.driver import find_lacks
from swapline_bench.desk.lock import Locks, locks_of
from swapline_bench.desk.strategy import Desk

DESK = pytest.StashKey[Desk]()
LACKS = pytest.StashKey[list[str]]()
LOCKS = pytest.StashKey[Locks]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find out what the bench lacks for each test, and hold it from here to the session's end if one of them uses it.

    A wrong bench file or marker, or a bench in use, ends the session with a sentence before anything runs.
    """
    try:
        file = load(config.getoption("bench"))
        for item in items:
            needs = [word for marker in item.iter_markers("needs") for word in marker.args]
            item.stash[LACKS] = find_lacks(file, needs) if needs else []
        locks = config.stash[LOCKS] = locks_of(file)
        if not config.option.collectonly and any(_uses_desk(item) for item in items):
            locks.acquire()
            config.add_cleanup(locks.release)
    except DeskError as error:
        raise pytest.UsageError(str(error)) from error
    except ValueError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error


def _uses_desk(item: pytest.Item) -> bool:
    return "desk" in getattr(item, "fixturenames", ()) and not item.stash[LACKS]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs what the bench does not have."""
    if missing := item.stash.get(LACKS, []):
        pytest.skip("; ".join(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a desk saw last where its test failed."""
    report = yield
    desk = item.stash.get(DESK, None)
    if report.failed and desk is not None and desk.has_something_to_say:
        report.sections.append((f"desk {desk.file.bench.name}", desk.describe()))
    return report


@pytest.fixture(scope="session")
def mosquitto(require: Callable[[str], Path]) -> None:
    """Every rig starts its own broker: say at once if there is none."""
    require("mosquitto")


@pytest.fixture(scope="session")
def influxd(require: Callable[[str], Path]) -> Iterator[services.InfluxServer]:
    """Run an InfluxDB 1.x for the whole session."""
    require("influxd")
    with services.influxd() as server:
        yield server


@pytest.fixture(scope="session")
def victoria_metrics(require: Callable[[str], Path]) -> Iterator[services.Server]:
    """Run a VictoriaMetrics for the whole session."""
    require("victoria-metrics")
    with services.victoria_metrics() as server:
        yield server


@pytest.fixture(scope="session")
def database_urls(mosquitto: None, influxd: services.InfluxServer, victoria_metrics: services.Server) -> dict[str, str]:
    """Return where the rigs' gateways find their databases, by sink; DuckDB needs no server."""
    del mosquitto  # only: it is installed
    return {"influxdb1": influxd.url, "influxdb2": victoria_metrics.url}


@pytest.fixture(scope="session")
def bench_file(pytestconfig: pytest.Config) -> BenchFile:
    """Return what is on the desk."""
    return load(pytestconfig.getoption("bench"))


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled firmware."""
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")


@pytest.fixture
async def desk(
    request: pytest.FixtureRequest, bench_file: BenchFile, firmware: Path, tmp_path: Path
) -> AsyncIterator[Desk]:
    """Return a desk whose servers run and whose node is off. Its folder is the test's `tmp_path`."""
    desk = Desk(bench_file, tmp_path, bundle=firmware, locks=request.config.stash[LOCKS])
    request.node.stash[DESK] = desk
    problem = ""
    try:
        await desk.__aenter__()
    except DeskError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
    try:
        yield desk
    finally:
        await desk.__aexit__(None, None, None)
        request.node.user_properties += desk.figures().items()
