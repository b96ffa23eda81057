"""Put a catalogue's streams by columns, as boards keep them: what people read of a signal (its unit) stays at home.

A signal as the catalogue writes it is an object of nine fields and a name, 168 bytes of a node's heap; by columns it is
50, and a station has 120 of them. The catalogue's own code makes the columns, so nothing is said twice.
"""

import ast
from typing import Any

from swapline_wire.catalogue import columns

_LARGEST = {"U32_MAX": 0xFFFFFFFD}  # by name: where integers have 31 bits, each such number is an object of its own


def put_by_columns(source: str, module: str) -> str:
    """Return the source of a catalogue's module with `Columns` instead of signals. No line moves."""
    namespace: dict[str, Any] = {"__name__": module, "__package__": module.rpartition(".")[0]}
    exec(compile(source, module, "exec"), namespace)  # noqa: S102 - our own source, which is about to be compiled anyway
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_stream(node.value):
            statement = _statement(node.targets[0].id, namespace, is_own="Columns" in source)
            _replace(lines, node, statement)
        elif isinstance(node, ast.FunctionDef) and node.name == "columns":
            _replace(lines, node, "def columns(signals): return signals")  # there are no others any more
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "CODES":
            _replace(lines, node, f"CODES = {namespace['CODES']!r}")  # so that nobody asks for the formats
    return "".join(lines)


def _replace(lines: list[str], node: ast.stmt, statement: str) -> None:
    """Put `statement` on the first line of `node`, and nothing on its others."""
    assert node.end_lineno is not None
    blank = "\n" * (node.end_lineno - node.lineno)
    lines[node.lineno - 1 : node.end_lineno] = [statement + "\n" + blank]


def _is_stream(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Stream"


def _statement(name: str, namespace: dict[str, Any], *, is_own: bool) -> str:
    """Return the assignment of one stream, on one line."""
    stream = namespace[name]
    fields = ", ".join(repr(field) for field in stream[:-1])
    told = ", ".join(_text(column) for column in columns(stream.signals))
    head = "" if is_own else "from .catalogue import Columns, U32_MAX; "
    return f"{head}{name} = Stream({fields}, Columns({told}))"


def _text(column: Any) -> str:
    if not isinstance(column, tuple):
        return repr(column)
    names = {value: name for name, value in _LARGEST.items()}
    return "(" + ", ".join(names.get(value, repr(value)) for value in column) + ",)"
