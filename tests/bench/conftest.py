"""Fixtures of the bench's tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def recordings() -> Path:
    """Return the folder of recordings; where the variable is set, everything must be there."""
    folder = os.environ.get("SWAPLINE_RECORDINGS")
    if not folder:
        pytest.skip("SWAPLINE_RECORDINGS is not set: needs the recorded frames of real devices")
    path = Path(folder).resolve()
    assert path.is_dir(), f"SWAPLINE_RECORDINGS={folder} is no folder"
    return path
