"""The rule of conftest.py: with CI=true nothing is left out unnoticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = {
    "a missing program": "def test_it(require):\n    require('no-such-program')\n",
    "a skip in a test": "import pytest\ndef test_it():\n    pytest.skip('no reason')\n",
    "a marked skip": "import pytest\n@pytest.mark.skip(reason='later')\ndef test_it():\n    pass\n",
    "a skipped file": "import pytest\npytest.importorskip('no_such_module', reason='x')\ndef test_it():\n    pass\n",
    "no recordings": "def test_it(recordings):\n    pass\n",
}


def outcome(folder: Path, test: str, **environment: str) -> tuple[int, str]:
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "test_sample.py").write_text(test)
    clean = {name: value for name, value in os.environ.items() if name not in {"CI", "SWAPLINE_RECORDINGS"}}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout.splitlines()[-1]


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_skipped_on_a_desk_fails_in_ci(sample: str, tmp_path: Path) -> None:
    code, summary = outcome(tmp_path, SAMPLES[sample])
    assert code in {0, 5}, summary  # 5: a file that is skipped as a whole leaves no test
    assert "1 skipped" in summary
    code, summary = outcome(tmp_path, SAMPLES[sample], CI="true")
    assert code in {1, 2}, summary  # 2: the whole file failed while being collected
    assert "skipped" not in summary


def test_named_folder_of_recordings_must_exist(tmp_path: Path) -> None:
    code, summary = outcome(tmp_path, SAMPLES["no recordings"], SWAPLINE_RECORDINGS=str(tmp_path / "missing"))
    assert code == 1
    assert "1 error" in summary


def test_installed_program_is_found(tmp_path: Path) -> None:
    assert outcome(tmp_path, "def test_it(require):\n    assert require('sh').exists()\n", CI="true")[0] == 0
