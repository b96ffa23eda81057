"""Fixtures for the node's tests: the firmware compiled once, and a broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from swapline_bench import bundle, services
from tests.node import journal_rig


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.build(tmp_path_factory.mktemp("bundle") / "firmware")


@pytest.fixture(scope="module")
def broker() -> Iterator[services.Server]:
    with services.mosquitto() as server:
        yield server


@pytest.fixture(autouse=True)
def _close_journals() -> Iterator[None]:
    yield
    journal_rig.close_journals()
