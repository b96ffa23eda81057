"""Put numbers where the firmware says a constant's name, and leave out what then nobody asks for.

A module keeps every name that it imports: 16 bytes of its globals for each, beside the pools of names that double
(`short_names.py`). A board's files say `14` where the sources say `MODULE_LOST`, drop the import, and the definition
too where no other file mentions the name. Public constants of drivers stay: a driver that somebody copies to a board
by hand asks for them. `TYPE_CHECKING` and `const`, which only the sources' readers and the compiler need, go the same
way. No line moves.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SMALL_INT_MAX = 0x3FFFFFFF  # a larger one is an object of its own wherever it stands, on a board of 32 bits
KEPT_PACKAGE = "swapline_node.drivers."
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}


@dataclass
class _Module:
    name: str
    source: str
    tree: ast.Module
    constants: dict[str, int] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)  # what it imports of other modules' constants


def fold_constants(sources: Mapping[str, str], callers: Iterable[str] = ()) -> dict[str, str]:
    """Return the sources, by the dotted names of their modules, with numbers instead of the constants' names.

    `callers` are sources that stay as they are: what they import stays defined.
    """
    modules = {name: _Module(name, source, ast.parse(source)) for name, source in sources.items()}
    for module in modules.values():
        module.constants = _constants(module.tree)
    for module in modules.values():
        module.imported = _imported(module, modules)
    kept = {name for source in callers for name in _mentioned(ast.parse(source), set())}
    for module in modules.values():
        kept |= _mentioned(module.tree, module.imported.keys())
    return {module.name: _fold(module, kept) for module in modules.values()}


def _constants(tree: ast.Module) -> dict[str, int]:
    """Return the numbers that are assigned at the top level, once, to a public name in capitals."""
    stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    bound = set(stored) & {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(target := node.targets[0], ast.Name):
            value = _value(node.value, found)
            is_public = target.id.isupper() and not target.id.startswith("_")
            if value is not None and is_public and stored.count(target.id) == 1 and target.id not in bound:
                found[target.id] = value
    return found


def _value(node: ast.expr, known: Mapping[str, int]) -> int | None:
    """Return the small number that an expression of numbers is, or None."""
    value: int | None = None
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        value = node.value
    elif isinstance(node, ast.Name):
        value = known.get(node.id)
    elif _is_const(node):
        assert isinstance(node, ast.Call)
        value = _value(node.args[0], known)
    elif isinstance(node, ast.UnaryOp | ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        numbers = [_value(part, known) for part in parts]
        value = None if None in numbers else _OPERATORS[type(node.op)](*numbers)
    return value if value is not None and abs(value) <= SMALL_INT_MAX else None


def _is_const(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const"


def _imported(module: _Module, modules: Mapping[str, _Module]) -> dict[str, int]:
    """Return the constants that a module imports, by name, but for those that it also uses for something else."""
    taken = {
        node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    taken |= {node.arg for node in ast.walk(module.tree) if isinstance(node, ast.arg)}
    found: dict[str, int] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and (origin := modules.get(_origin(module.name, node))):
            for alias in node.names:
                if alias.asname is None and alias.name in origin.constants and alias.name not in taken:
                    found[alias.name] = origin.constants[alias.name]
    return found


def _origin(name: str, node: ast.ImportFrom) -> str:
    """Return the dotted name of the module that is imported from."""
    package = name.split(".")[: -node.level] if node.level else []
    return ".".join([*package, *(node.module or "").split(".")])


def _mentioned(tree: ast.AST, folded: Iterable[str]) -> set[str]:
    """Return every name by which this source could ask for what another one defines."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names} - set(folded)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def _fold(module: _Module, kept: set[str]) -> str:
    """Return one module's source with numbers for names, and without what nobody asks for."""
    lines = [line.encode() for line in module.source.splitlines(keepends=True)]  # `ast` counts UTF-8 bytes
    numbers = {**module.constants, **module.imported}
    dropped = module.constants.keys() - kept
    if module.name.startswith(KEPT_PACKAGE):
        dropped &= {"TYPE_CHECKING"}
    edits = [
        (node.lineno, node.col_offset, node.id)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in numbers
    ]
    for number, offset, name in sorted(edits, reverse=True):
        text = str(numbers[name])
        text = f"({text})" if text.startswith("-") else text
        line = lines[number - 1]
        lines[number - 1] = line[:offset] + text.encode() + line[offset + len(name.encode()) :]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            _leave_out(lines, node, {*module.imported, *({"const"} if node.module == "micropython" else ())})
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in dropped:
            replace(lines, node, "")
    return b"".join(lines).decode()


def _leave_out(lines: list[bytes], node: ast.ImportFrom, names: set[str]) -> None:
    """Import everything but `names`."""
    rest = [alias for alias in node.names if alias.name not in names or alias.asname]
    if len(rest) < len(node.names):
        said = ", ".join(f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in rest)
        replace(lines, node, f"from {'.' * node.level}{node.module or ''} import {said}" if said else "pass")


def replace(lines: list[bytes], node: ast.stmt, text: str) -> None:
    """Put `text` on the statement's first line, and nothing on its others."""
    assert node.end_lineno is not None
    indent = lines[node.lineno - 1][: node.col_offset]
    count = node.end_lineno - node.lineno + 1
    lines[node.lineno - 1 : node.end_lineno] = [indent + text.encode() + b"\n", *[b"\n"] * (count - 1)]
