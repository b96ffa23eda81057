"""What docs/hil.md shows as a test is one: it runs as it stands there."""

import importlib.util
import re
from pathlib import Path

import pytest

from swapline_bench.desk.strategy import Desk

PAGE = Path(__file__).parents[1] / "docs" / "hil.md"


@pytest.mark.needs("simulators", "bays:2", "power")
async def test_the_example_on_the_page_passes(desk: Desk, tmp_path: Path) -> None:
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    example = next(text for text in code if "async def test_noise_alters_nothing" in text)
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("test_example", tmp_path / "test_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    await module.test_noise_alters_nothing(desk)
