"""Give private names short ones: a module's constants and functions, which all modules share, and those of classes.

MicroPython keeps every name of every module for ever, in pools that double: name 1261 takes a block of 14 KB (8 KB on a
32-bit board), which a van with three bays does not have. What a module calls `_TERMIOS_SPEED` nobody else can ask for,
so any name does. A private method or attribute has one name in the whole firmware, so that drivers and their base
classes still meet, and shares it with those of classes that have nothing to do with its own: 60 names instead of 380.
A parameter's name is kept as well, for callers that say it: those of private functions, which nobody's driver calls,
are numbered where the firmware never says them. No line moves; tracebacks tell file and line as before.
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
    """Return a short name for every private method and attribute that any of `sources` defines.

    Two of them share a name where no object can have both: a class is seen together with its bases, and what is asked
    for outside of classes, or of another object than `self`, has a name of its own.
    """
    trees = [ast.parse(source) for source in sources]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    families = _families(classes)
    found: dict[str, set[str]] = {name: set() for tree in trees for name in _defined(tree) if _is_private(name)}
    for node in classes:
        for name in _members(node) & found.keys():
            found[name].add(families[node.name])
    apart = {name for tree in trees for name in _asked_elsewhere(tree)} & found.keys()
    letters = itertools.chain.from_iterable(
        itertools.product(string.ascii_lowercase, repeat=length) for length in itertools.count(1)
    )
    names = ["_" + "".join(letter) for letter in itertools.islice(letters, len(found))]
    short = dict(zip(sorted(apart), names, strict=False))
    shared = names[len(short) :]
    taken: dict[str, set[str]] = {family: set() for family in families.values()}
    for name in sorted(found.keys() - apart, key=lambda name: (-len(found[name]), name)):
        short[name] = next(new for new in shared if not any(new in taken[family] for family in found[name]))
        for family in found[name]:
            taken[family].add(short[name])
    return short


def _families(classes: Iterable[ast.ClassDef]) -> dict[str, str]:
    """Return, by the name of each class, the name that it shares with its bases and with classes of the same name."""
    family: dict[str, str] = {}

    def first(name: str) -> str:
        while family.setdefault(name, name) != name:
            name = family[name]
        return name

    for node in classes:
        first(node.name)
        for base in node.bases:
            said = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            family[first(said)] = first(node.name)
    return {name: first(name) for name in list(family)}


def _defined(tree: ast.Module) -> set[str]:
    """Return the names of all functions and methods, and of the attributes that anything is assigned to."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return found | {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}


def _members(node: ast.ClassDef) -> set[str]:
    """Return the names of everything that a class defines, or asks of any object."""
    found = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
    return found | {inner.name for inner in ast.walk(node) if isinstance(inner, _FUNCTIONS)}


def _asked_elsewhere(tree: ast.Module) -> set[str]:
    """Return every name that stands for something else than a member of `self`, or for one that others ask for."""
    found = _mentioned(tree) | {node.name for node in tree.body if isinstance(node, _FUNCTIONS | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


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
