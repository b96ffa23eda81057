"""What the bench's own tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from swapline_bench import bundle


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], Path]) -> Path:
    """Return the compiled firmware, for tests that need a broker as well."""
    require("mosquitto")
    return bundle.build(tmp_path_factory.mktemp("firmware") / "bundle")
