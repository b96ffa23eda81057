"""Say what was tested with what: firmware, repository, interpreter, bench file, host, packages."""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from swapline_bench import bundle
from swapline_bench.desk.bench_file import BenchFile

_ASK_S_MAX = 20.0
_TELL_VERSION = (
    "import sys; v = sys.implementation.version; print('%d.%d.%d' % v[:3], *v[3:], sys.version.split('; ')[-1])"
)
UNKNOWN = "unknown"
_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r'^VERSION\s*=\s*(?:const\()?"([^"]+)"', re.MULTILINE)


def collect(file: BenchFile) -> dict[str, Any]:
    """Return everything, by part. What cannot be found out is `unknown`; nothing here raises."""
    return {
        "bench": {
            "name": file.bench.name,
            "description": file.bench.description,
            "file": str(file.path),
            "sha256": file.sha256,
            "text": file.text,
        },
        "firmware": _firmware(),
        "repository": _repository(),
        "micropython": _micropython(),
        "host": _host(),
        "packages": _packages(),
    }


def _firmware() -> dict[str, Any]:
    """Return version and hash of the bundle that is made of the firmware as it lies."""
    try:
        root = bundle.firmware_root()
        with tempfile.TemporaryDirectory() as folder:
            built = bundle.build(Path(folder) / "bundle", source=root)
            digest, size, count = _hash_tree(built)
    except (bundle.BundleError, OSError) as error:
        return {"version": UNKNOWN, "problem": str(error)}
    versions = (_VERSION.search(path.read_text(encoding="utf-8")) for path in (root / "swapline_node").glob("*.py"))
    version = next((found[1] for found in versions if found), UNKNOWN)
    return {"version": version, "bundle_sha256": digest, "bundle_bytes": size, "bundle_files": count}


def _hash_tree(root: Path) -> tuple[str, int, int]:
    """Return one hash over names and contents of all files, their size and count."""
    digest = hashlib.sha256()
    files = sorted(path for path in root.rglob("*") if path.is_file())
    size = 0
    for path in files:
        data = path.read_bytes()
        size += len(data)
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest(), size, len(files)


def _repository() -> dict[str, Any]:
    folder = Path(__file__).parent
    commit = _ask(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit == UNKNOWN:
        return {"commit": UNKNOWN}
    root = _ask(["git", "-C", str(folder), "rev-parse", "--show-toplevel"])
    changed = _ask(["git", "-C", root, "status", "--porcelain"]).splitlines()
    return {
        "commit": commit,
        "subject": _ask(["git", "-C", root, "log", "-1", "--format=%s"]),
        "commit_time": _ask(["git", "-C", root, "log", "-1", "--format=%cI"]),
        "is_dirty": bool(changed),
        "changed_files": [line[3:] for line in changed[:50]],
    }


def _micropython() -> str:
    """Return the version of the interpreter that runs nodes on this computer; boards tell theirs in their births."""
    program = Path(sys.executable).with_name("micropython")
    return _ask([str(program), "-c", _TELL_VERSION])


def _host() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "is_ci": os.environ.get("CI", "").lower() == "true",
    }


def _packages() -> dict[str, str]:
    """Return the versions of everything that the distribution asks for, in any of its extras."""
    try:
        required = importlib.metadata.requires("swapline") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    names = {match[0] for line in required if (match := _REQUIREMENT_NAME.match(line))}
    return {name: version for name in sorted(names - {"swapline"}) if (version := _installed(name))}


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S_MAX, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.rstrip("\n")
