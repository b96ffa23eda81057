"""Which measurements, fields and tags a statement of InfluxQL names, and which of them nobody writes.

InfluxDB answers a question about a field that does not exist with nothing, as if nothing had happened. So every
statement of a board or an alert is taken apart here, and every name held against what is written: the catalogue, its
roll-ups, the battery's books, the gateway's own figures.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from swapline_cloud.rollup import FOREVER, FRAMES_ROLLUP, MINUTE, RAW, rollups, tags
from swapline_gateway.alarm.standing import STANDING
from swapline_gateway.battery.store_influxql import ABSENT
from swapline_gateway.battery.table import TABLES, Table
from swapline_gateway.outlook.table import OUTLOOKS
from swapline_gateway.sinks.line_protocol import LASTING, LATE
from swapline_gateway.vitals.table import VITALS
from swapline_wire import catalogue
from swapline_wire.catalogue import KEY, Stream

_TOKEN = re.compile(
    r"""(?P<regex>(?<=[=!]~\ )/(?:\\.|[^/\\])*/)|(?P<name>"(?:\\.|[^"\\])*")|(?P<text>'(?:\\.|[^'\\])*')"""
    r"""|(?P<number>\d+(?:\.\d+)?(?:ns|u|ms|[smhdw])?)|(?P<word>[A-Za-z_]\w*)|(?P<sign>=~|!~|!=|<>|<=|>=|::|[-+*/%&|^(),.;=<>])"""
    r"""|(?P<space>\s+)"""
)
_WORDS = re.compile(
    r"(?i)select|from|where|group|by|order|limit|offset|slimit|soffset|fill|as|and|or|time|asc|desc|true|false|none|null"
    r"|previous|linear|tz|show|tag|values|with|key|in"
)
_CLAUSES = frozenset(("where", "group", "order", "limit", "offset", "slimit", "soffset", "fill", "tz"))
# The gateway's point of a frame: docs/gateway.md, `sinks/line_protocol.py`.
_FRAME_FIELDS = ("seq", "boot", "row_count", "value_count", "rows_refused", "time_quality", "span_ms", "delay_ms")


class Written(NamedTuple):
    """What a measurement has."""

    fields: frozenset[str]
    tags: frozenset[str]


def written() -> dict[tuple[str, str], Written]:
    """Return what is written, by policy and measurement."""
    found: dict[tuple[str, str], Written] = {}
    for stream in catalogue.STREAMS:
        found[FOREVER if stream.name in LASTING else RAW, stream.name] = _of_stream(stream)
    found[RAW, FRAMES_ROLLUP.measurement] = Written(frozenset(_FRAME_FIELDS), frozenset(FRAMES_ROLLUP.tags))
    found[RAW, LATE] = Written(frozenset(("hour_utc_ms",)), frozenset(("fleet", "node", "stream")))
    for rollup in rollups():
        rolled = Written(frozenset(column.name for column in rollup.columns), frozenset(rollup.tags))
        found[MINUTE, rollup.measurement] = found[FOREVER, rollup.measurement] = rolled
    found |= {(FOREVER, table.name): _of_table(table, ABSENT) for table in (*TABLES, STANDING)}
    return found | {(RAW, table.name): _of_table(table) for table in (*VITALS, *OUTLOOKS)}


def _of_stream(stream: Stream) -> Written:
    fields = [signal.name for signal in stream.signals if signal.kind != KEY]
    return Written(frozenset((*fields, "time_quality")), frozenset(tags(stream)))


def _of_table(table: Table, *more: str) -> Written:
    return Written(frozenset((*table.fields, *more)), frozenset(table.tags))


class Token(NamedTuple):
    """A word of a statement. `kind`: name (in quotes, without them here), word, sign, text, number, regex."""

    kind: str
    text: str


@dataclass
class Select:
    """One SELECT. `columns` are what its answer has; `names` all quoted names beside sources and new names."""

    sources: list["Select | tuple[str, str]"] = field(default_factory=list)  # policy ("": any), measurement
    columns: list[str] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)  # of them, those between SELECT and FROM
    strangers: list[str] = field(default_factory=list)  # words that are none of InfluxQL's


def tokens(statement: str) -> list[Token]:
    """Return a statement's words. Raises `ValueError` for a character that none begins with."""
    found, at = [], 0
    while at < len(statement):
        match = _TOKEN.match(statement, at)
        if match is None:
            raise ValueError(f"not understood from here on: {statement[at : at + 40]!r}")
        at = match.end()
        kind = str(match.lastgroup)
        if kind == "name":
            found.append(Token(kind, re.sub(r"\\(.)", r"\1", match[0][1:-1])))
        elif kind != "space":
            found.append(Token(kind, match[0]))
    return found


class _Reader:
    """Reads tokens one by one."""

    def __init__(self, statement: str) -> None:
        self._tokens = tokens(statement)
        self._at = 0

    def peek(self, ahead: int = 0) -> Token:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else Token("end", "")

    def take(self) -> Token:
        token = self.peek()
        self._at += 1
        return token

    def is_word(self, *words: str) -> bool:
        return self.peek().kind == "word" and self.peek().text.lower() in words

    def select(self) -> Select:
        """Read a SELECT up to its end, or to the bracket around it."""
        assert self.take().text.lower() == "select"
        found = Select()
        self._columns(found)
        self.take()  # FROM
        self._sources(found)
        self._rest(found)
        return found

    def _columns(self, found: Select) -> None:
        depth, inner, column = 0, "", ""
        while not (depth == 0 and self.is_word("from")) and self.peek().kind != "end":
            token = self.take()
            depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "sign" else 0
            if token.kind == "word" and token.text.lower() == "as":
                column = self.take().text
            elif token.kind == "name":
                found.names.append(token.text)
                found.selected.append(token.text)
                inner = inner or token.text
            elif token.kind == "word":
                column = column or self._function(token, found)
            elif token == Token("sign", ",") and depth == 0:
                found.columns.append(column or inner)
                inner = column = ""
        found.columns.append(column or inner)

    def _function(self, token: Token, found: Select) -> str:
        """Return a function's name: its column's, where none is given."""
        if self.peek() == Token("sign", "("):
            return token.text
        self._know(token, found)
        return ""

    def _know(self, token: Token, found: Select) -> None:
        if not _WORDS.fullmatch(token.text):
            found.strangers.append(token.text)

    def _sources(self, found: Select) -> None:
        while True:
            if self.peek() == Token("sign", "("):
                self.take()
                found.sources.append(self.select())
                self.take()
            else:
                found.sources.append(self.measurement())
            if self.peek() != Token("sign", ","):
                return
            self.take()

    def measurement(self) -> tuple[str, str]:
        """Read a measurement's name, with its policy's if that is there."""
        parts = [self.take()]
        while self.peek() == Token("sign", "."):
            self.take()
            parts.append(self.take())
        if any(part.kind != "name" for part in parts):
            raise ValueError(f"a source without quotes: {parts}")
        return (parts[-2].text if len(parts) > 1 else "", parts[-1].text)

    def _rest(self, found: Select) -> None:
        depth, clause = 0, ""
        while self.peek().kind != "end":
            if depth == 0 and self.peek() == Token("sign", ")"):
                return
            token = self.take()
            depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "sign" else 0
            if token.kind == "name":
                found.names.append(token.text)
                if clause == "group":
                    found.by.append(token.text)
            elif token.kind == "word":
                clause = token.text.lower() if token.text.lower() in _CLAUSES else clause
                if self.peek() != Token("sign", "("):
                    self._know(token, found)


def read_select(statement: str) -> Select:
    """Return a SELECT taken apart. Raises `ValueError` where it cannot be."""
    reader = _Reader(statement)
    found = reader.select()
    if reader.peek().kind != "end":
        raise ValueError(f"more behind the end: {reader.peek().text}")
    return found


def policies(select: Select) -> set[str]:
    """Return the policies that a SELECT reads, within brackets too."""
    found: set[str] = set()
    for source in select.sources:
        found |= policies(source) if isinstance(source, Select) else {source[0]}
    return found


def unknown_names(statement: str, known: Mapping[tuple[str, str], Written]) -> list[str]:
    """Return what a statement names that nobody writes, one sentence each."""
    if statement.lstrip().upper().startswith("SHOW TAG VALUES"):
        return list(_of_show(statement, known))
    return list(_of_select(read_select(statement), known))


def _of_show(statement: str, known: Mapping[tuple[str, str], Written]) -> Iterator[str]:
    reader = _Reader(statement)
    while not reader.is_word("from"):
        reader.take()
    reader.take()
    policy, measurement = reader.measurement()
    found = [one for (where, name), one in known.items() if (where, name) == (RAW, measurement)]
    if policy not in ("", RAW):
        yield f"{policy}: InfluxDB 2.x looks into {RAW} only, whatever policy SHOW TAG VALUES names"
    elif not found:
        yield f"nobody writes {RAW}.{measurement}"
    names = [token.text for token in iter(reader.take, Token("end", "")) if token.kind == "name"]
    all_tags = {tag for one in found for tag in one.tags}
    yield from (f"{measurement} has no tag {name}" for name in names if name not in all_tags)


def _of_select(select: Select, known: Mapping[tuple[str, str], Written]) -> Iterator[str]:
    yield from (f"{name} is no word of InfluxQL and has no quotes" for name in select.strangers)
    for source in select.sources:
        if isinstance(source, Select):
            yield from _of_select(source, known)
    names = _names_of(select, known)
    if names is None:
        yield f"nobody writes {select.sources}"
        return
    if select.selected and set(select.selected) <= _tags_of(select, known):
        yield f"{_label(select)}: tags alone are asked for, which InfluxQL answers with nothing"
    yield from (f"{_label(select)} has no {name}" for name in dict.fromkeys(select.names) if name not in names)


def _names_of(select: Select, known: Mapping[tuple[str, str], Written]) -> set[str] | None:
    """Return what a SELECT may name: what each of its sources has, or all of them have beside each other."""
    found: set[str] = set()
    for source in select.sources:
        if isinstance(source, Select):
            found |= {*source.columns, *source.by}
            if not source.by:
                found |= _tags_of(source, known)
        elif source in known:
            found |= known[source].fields | known[source].tags
        else:
            return None
    return found


def _tags_of(select: Select, known: Mapping[tuple[str, str], Written]) -> set[str]:
    """Return the tags that pass through a SELECT which does not group."""
    found: set[str] = set()
    for source in select.sources:
        found |= set(known[source].tags) if not isinstance(source, Select) and source in known else set()
    return found


def _label(select: Select) -> str:
    return ", ".join("(...)" if isinstance(source, Select) else ".".join(source) for source in select.sources)
