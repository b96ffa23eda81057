"""Put the bytes of a driver's register tables where its text is: a board keeps a constant as long as its driver.

Three words of a row are 30 bytes of text and nine packed, and a board then need not load what packs them.
"""

import ast

from swapline_node.register_table import pack_rows
from swapline_wire import catalogue


def pack_tables(source: str) -> str:
    """Return a driver's source with bytes for the text of every `RegisterMap`. No line moves."""
    tree = ast.parse(source)
    lines = [line.encode() for line in source.splitlines(keepends=True)]  # an offset of `ast` counts UTF-8 bytes
    scopes: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    found = [
        (text, map_of)
        for scope in scopes
        for map_of in _maps(scope)
        if (text := _text(scope, map_of.args[2])) is not None
    ]
    for text, map_of in sorted(found, key=lambda pair: pair[0].lineno, reverse=True):
        assert isinstance(text.value, str)
        assert isinstance(map_of.args[0], ast.Name)
        _replace(lines, text, repr(pack_rows(getattr(catalogue, map_of.args[0].id), text.value)))
    return b"".join(lines).decode()


def _maps(scope: ast.Module | ast.ClassDef) -> list[ast.Call]:
    """Return the register maps that are made in this scope, not in one inside of it."""
    values = [node.value for node in scope.body if isinstance(node, ast.Assign)]
    return [
        value
        for value in values
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "RegisterMap"
    ]


def _text(scope: ast.Module | ast.ClassDef, table: ast.expr) -> ast.Constant | None:
    """Return the text that a map is made of: it stands there, or under a name of the same scope."""
    if isinstance(table, ast.Name):
        values = [node.value for node in scope.body if isinstance(node, ast.Assign) and _names(node) == [table.id]]
        table = values[0] if len(values) == 1 else table
    return table if isinstance(table, ast.Constant) and isinstance(table.value, str) else None


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _replace(lines: list[bytes], node: ast.Constant, text: str) -> None:
    """Put `text` where a constant begins; its other lines are left with nothing on them."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first, last = node.lineno - 1, node.end_lineno - 1
    rest = lines[last][node.end_col_offset :]
    lines[first] = lines[first][: node.col_offset] + text.encode() + (rest if first == last else b"\n")
    for number in range(first + 1, last):
        lines[number] = b"\n"
    if last > first:
        lines[last] = rest if rest.strip() else b"\n"
