"""Give private names short ones: a module's constants and functions, which all modules share, and those of classes.

MicroPython keeps every name of every module for ever, in pools that double: name 1261 takes a block of 14 KB (8 KB on a
32-bit board), which a van with three bays does not have. What a module calls `_TERMIOS_SPEED` nobody else can ask for,
so any name does. Private methods and attributes get one name each for the whole firmware, so that drivers and their
base classes still meet: no fewer names, but 3 KB less. A parameter's name is kept as well, for callers that say it:
those of private functions, which nobody's driver calls, are numbered where the firmware never says them. No line moves;
tracebacks tell file and line as before.
"""

import ast
import io
import itertools
import string
import tokenize
from collections.abc import Iterable, Mapping

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def shorten(source: str) -> str:
    """Return `source` with its private constants and functions called `_0`, `_1` and so on."""
    tree = ast.parse(source)
    defined = {node.name: node for node in tree.body if isinstance(node, _FUNCTIONS)}
    names = {name for name in _assigned(tree) | set(defined) if _is_private(name)} - _taken_otherwise(tree)
    short = {name: f"_{number}" for number, name in enumerate(sorted(names))}
    places = [(node.lineno, node.col_offset, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    for name, node in defined.items():
        keyword = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
        places.append((node.lineno, len(keyword), name))
    lines = [line.encode() for line in source.splitlines(keepends=True)]  # an offset of `ast` counts UTF-8 bytes
    for number, offset, name in sorted(places, reverse=True):
        if name in short:
            line = lines[number - 1]
            lines[number - 1] = line[:offset] + short[name].encode() + line[offset + len(name.encode()) :]
    return b"".join(lines).decode()


def said_by_callers(sources: Iterable[str]) -> set[str]:
    """Return every name by which any of `sources` passes an argument."""
    trees = [ast.parse(source) for source in sources]
    return {node.arg for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}


def shorten_parameters(source: str, said: set[str]) -> str:
    """Return `source` with private functions' parameters called `_p0`, `_p1` and so on, but for those in `said`."""
    places: list[tuple[int, int, str, str]] = []
    for node in _private_functions(ast.parse(source)):
        kept = said | _taken_inside(node)
        names = [argument.arg for argument in node.args.args]
        short = {name: f"_p{i}" for i, name in enumerate(names) if name not in kept and name != "self"}
        for part in [node.args, *node.body]:
            places += [
                (inner.lineno, inner.col_offset, name, short[name])
                for inner in ast.walk(part)
                if isinstance(inner, ast.Name | ast.arg)
                and (name := inner.id if isinstance(inner, ast.Name) else inner.arg) in short
            ]
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    for number, offset, name, new in sorted(places, reverse=True):
        line = lines[number - 1]
        lines[number - 1] = line[:offset] + new.encode() + line[offset + len(name.encode()) :]
    return b"".join(lines).decode()


def _private_functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the private functions and methods that are in no other one."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _FUNCTIONS) and _is_private(node.name):
            found.append(node)
        elif isinstance(node, ast.ClassDef):
            found += _private_functions(node)
    return found


def _taken_inside(node: ast.AST) -> set[str]:
    """Return names that something else than an expression mentions; where texts are put together, all of them."""
    taken = _mentioned(node)
    if any(isinstance(inner, ast.JoinedStr) for inner in ast.walk(node)):
        taken |= {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}
    return taken


def name_members(sources: Iterable[str]) -> dict[str, str]:
    """Return a short name for every private method, attribute and parameter that any of `sources` defines."""
    found: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, _FUNCTIONS):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    letters = itertools.chain.from_iterable(
        itertools.product(string.ascii_lowercase, repeat=length) for length in itertools.count(1)
    )
    names = ("_" + "".join(letter) for letter in letters)
    return dict(zip(sorted(name for name in found if _is_private(name)), names, strict=False))


def shorten_members(source: str, names: Mapping[str, str]) -> str:
    """Return `source` with every name that is in `names` replaced, wherever it stands."""
    lines = source.splitlines(keepends=True)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.string in names]
    for token in reversed(tokens):
        if token.type == tokenize.NAME:
            number, offset = token.start
            line = lines[number - 1]
            lines[number - 1] = line[:offset] + names[token.string] + line[token.end[1] :]
    return "".join(lines)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _assigned(tree: ast.Module) -> set[str]:
    """Return the names that are assigned at the top level, without those that the compiler folds: `_X = const(...)`."""
    found: set[str] = set()
    for node in tree.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if not _is_folded(node):
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def _is_folded(node: ast.stmt) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "const"


def _taken_otherwise(tree: ast.Module) -> set[str]:
    """Return names that something else than an expression mentions, so that renaming them here would miss a place."""
    taken = _mentioned(tree) | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    inner = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS | ast.ClassDef) and node not in tree.body]
    return taken | {node.name for node in inner}


def _mentioned(tree: ast.AST) -> set[str]:
    """Return the names in statements that mention a name as a text: renaming expressions does not reach them."""
    taken: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal):
            taken.update(node.names)
        elif isinstance(node, ast.alias):
            taken.add(node.asname or node.name)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            taken.add(node.name)
    return taken
