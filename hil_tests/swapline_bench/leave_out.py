"""Leave out of the firmware what nobody on a board asks for: functions, tuples and imports.

The contract (`swapline_wire`) has both sides: what the gateway alone uses would take 4 KB of a node's heap. A top-level
definition goes where no file of the board mentions its name, be it in a text, as a module that is loaded once is asked
for its functions; then what only that one used, and so on. Drivers keep all of theirs, for a driver that somebody
copies to a board by hand may ask for it. No line moves.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping

from swapline_bench.fold_constants import KEPT_PACKAGE, replace

_CALLS_WITHOUT_EFFECT = {"namedtuple", "const", "bytes", "array"}
_WITHOUT_EFFECT = (ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Set)
_PARTS = (ast.BinOp, ast.UnaryOp, ast.expr_context, ast.operator, ast.unaryop)


def leave_out(sources: Mapping[str, str], callers: Iterable[str] = ()) -> dict[str, str]:
    """Return the sources, by the dotted names of their modules, without what neither they nor `callers` mention."""
    left = dict(sources)
    said = {name for source in callers for name in _asked_for(ast.parse(source))}
    while True:
        asked = said.union(*(_asked_for(ast.parse(source)) for source in left.values()))
        shorter = {name: _shorten(name, source, asked) for name, source in left.items()}
        if shorter == left:
            return left
        left = shorter


def _asked_for(tree: ast.AST) -> set[str]:
    """Return every name by which a source can ask for what another module defines."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.asname or alias.name.partition(".")[0] for node in imports for alias in node.names}
    found = {alias.name for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") != "namedtuple":  # other texts ask for nothing
            texts = [part.value for part in node.args if isinstance(part, ast.Constant)]
            found |= {text for text in texts if isinstance(text, str)}
        elif isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if not isinstance(root, ast.Name) or root.id in imported:  # else it is a member of an object
                found.add(node.attr)
    return found


def _used(*nodes: ast.AST) -> Counter[str]:
    """Count the names that are read; annotations, which MicroPython ignores, read nothing."""
    found: Counter[str] = Counter()
    for node in nodes:
        parts = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            found[node.id] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [*node.body, *node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.target, *filter(None, [node.value])]
        found.update(_used(*parts))
    return found


def _shorten(name: str, source: str, asked: set[str]) -> str:
    """Return one source without what nobody asks for, nor reads in here."""
    tree = ast.parse(source)
    used = _used(tree)
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            _leave_out_imports(lines, node, used)
            continue
        defined = "" if name.startswith(KEPT_PACKAGE) else _defined(node)
        if defined and defined not in asked and used[defined] == _used(node)[defined]:
            replace(lines, node, "")
    return b"".join(lines).decode()


def _leave_out_imports(lines: list[bytes], node: ast.ImportFrom, used: Counter[str]) -> None:
    rest = [alias for alias in node.names if used[alias.asname or alias.name]]
    if rest and len(rest) < len(node.names):
        said = ", ".join(f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in rest)
        replace(lines, node, f"from {'.' * node.level}{node.module or ''} import {said}")
    elif not rest:
        replace(lines, node, "")


def _defined(node: ast.stmt) -> str:
    """Return the name that a top-level statement defines, if it does nothing else."""
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        return "" if node.name.startswith("__") else node.name
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(target := node.targets[0], ast.Name):
        return target.id if _has_no_effect(node.value) else ""
    return ""


def _has_no_effect(value: ast.expr) -> bool:
    """Say whether an expression can be left out: it only makes something."""
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            if not (isinstance(node.func, ast.Name) and node.func.id in _CALLS_WITHOUT_EFFECT):
                return False
        elif not isinstance(node, (*_WITHOUT_EFFECT, *_PARTS)):
            return False
    return True
