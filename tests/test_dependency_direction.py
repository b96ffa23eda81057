"""Dependencies point one way, and the firmware uses only what a board has. Read from the syntax: nothing can hide."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "firmware" / "swapline_node" / "boards"
HOST_ONLY = {"decode.py", "catalogue_text.py"}  # parts of the contract that boards never load
HARDWARE = {"machine", "network", "esp32", "rp2"}
NOT_ON_A_BOARD = {"dataclasses", "enum", "typing", "logging", "pathlib", "contextlib", "functools", "abc"}

# Package -> packages of ours that it may import.
MAY_IMPORT = {
    "swapline_wire": {"swapline_wire"},
    "swapline_node": {"swapline_node", "swapline_wire"},
    "swapline_gateway": {"swapline_gateway", "swapline_wire"},
    "swapline_cloud": {"swapline_cloud", "swapline_gateway", "swapline_wire"},
    "swapline_bench": {"swapline_bench", "swapline_cloud", "swapline_gateway", "swapline_node", "swapline_wire"},
}
OURS = set(MAY_IMPORT)


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


FIRMWARE = python_files("firmware")
PRODUCT = python_files("firmware", "gateway", "cloud", "hil_tests/swapline_bench")
ALL = [*PRODUCT, *python_files("tests", "tools"), *sorted((ROOT / "hil_tests").glob("*.py")), ROOT / "conftest.py"]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that a file imports, `__import__` and `import_module` included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.lineno, node.module or ""
            else:
                assert node.level <= len(path.relative_to(package_folder(path)).parts), f"{path}:{node.lineno}"
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in {"__import__", "import_module"} and node.args:
                yield from ((node.lineno, text) for text in literal_starts(node.args[0]))


def literal_starts(node: ast.expr) -> Iterator[str]:
    """Yield the text that a computed module name starts with: a literal, or the left end of a sum or a `%`."""
    while isinstance(node, ast.BinOp):
        node = node.left
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def package_folder(path: Path) -> Path:
    """Return the top folder of the package that a file belongs to; its own folder outside of packages."""
    folder = path.parent
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    return folder


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def owner(path: Path) -> str | None:
    return next((part for part in path.relative_to(ROOT).parts if part in OURS), None)


def violations(paths: list[Path], is_wrong: object) -> list[str]:
    assert callable(is_wrong)
    return [f"{short(path)}:{line}: {name}" for path in paths for line, name in imported(path) if is_wrong(path, name)]


def test_there_is_something_to_look_at() -> None:
    assert {owner(path) for path in PRODUCT} >= OURS


@pytest.mark.parametrize("package", sorted(OURS))
def test_package_imports_only_what_lies_below_it(package: str) -> None:
    def is_wrong(_: Path, name: str) -> bool:
        top = name.split(".", maxsplit=1)[0]
        return top in OURS and top not in MAY_IMPORT[package]

    assert violations([path for path in PRODUCT if owner(path) == package], is_wrong) == []


def test_firmware_start_files_import_only_the_node() -> None:
    starts = [path for path in FIRMWARE if owner(path) is None]
    assert violations(starts, lambda _, name: name.split(".")[0] in OURS - {"swapline_node", "swapline_wire"}) == []


def test_only_board_files_import_hardware() -> None:
    others = [path for path in ALL if path.parent != BOARDS]
    assert violations(others, lambda _, name: name.split(".")[0] in HARDWARE) == []


def lines_for_checkers(path: Path) -> set[int]:
    """Return the lines under `if TYPE_CHECKING:`, which no interpreter ever runs."""
    lines: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            lines |= {line for part in node.body for line in range(part.lineno, (part.end_lineno or part.lineno) + 1)}
    return lines


@pytest.mark.parametrize("path", [path for path in FIRMWARE if path.name not in HOST_ONLY], ids=short)
def test_firmware_file_imports_nothing_that_boards_lack(path: Path) -> None:
    unseen = lines_for_checkers(path)
    found = [(line, name) for line, name in imported(path) if line not in unseen]
    assert [place for place in found if place[1].split(".")[0] in NOT_ON_A_BOARD] == []


def test_device_never_loads_the_host_only_parts_of_the_contract() -> None:
    modules = {name.removesuffix(".py") for name in HOST_ONLY}
    wrong = []
    for path in FIRMWARE:
        if path.name in HOST_ONLY:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names} | set((node.module or "").split("."))
                wrong += [f"{short(path)}:{node.lineno}: {name}" for name in names & modules]
    assert wrong == []


def bare_handlers(path: Path) -> list[str]:
    return [
        f"{short(path)}:{node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


def test_no_bare_except() -> None:
    assert [place for path in ALL for place in bare_handlers(path)] == []


def test_the_reader_of_imports_sees_every_way_to_import(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import a.b, c\nfrom d import e\nfrom .f import g\n__import__('h.' + name)\n"
        "importlib.import_module('i.%s' % j)\n"
        "try:\n    import k\nexcept:\n    pass\n"
    )
    assert [name for _, name in sorted(imported(path))] == ["a.b", "c", "d", "h.", "i.%s", "k"]
