"""What boards get of the catalogue is what the catalogue says."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import swapline_wire
from swapline_bench.columns import put_by_columns
from swapline_wire import catalogue, catalogue_station, catalogue_van
from swapline_wire.catalogue import columns, find_signal

FOLDER = Path(swapline_wire.__file__).parent


@pytest.mark.parametrize("module", [catalogue, catalogue_van, catalogue_station], ids=lambda module: module.__name__)
def test_streams_by_columns_say_the_same_on_the_same_lines(module: ModuleType) -> None:
    source = (FOLDER / f"{module.__name__.rpartition('.')[2]}.py").read_text()
    bundled = put_by_columns(source, module.__name__)
    assert bundled.count("\n") == source.count("\n")
    namespace: dict[str, object] = {"__name__": module.__name__, "__package__": "swapline_wire"}
    exec(compile(bundled, module.__name__, "exec"), namespace)  # noqa: S102 - our own source
    names = re.findall(r"^(\w+) = Stream\($", source, re.MULTILINE)
    assert len(names) >= 2
    for name in names:
        stream, of_board = getattr(module, name), namespace[name]
        assert isinstance(of_board, tuple)
        assert of_board[:-1] == stream[:-1]
        assert of_board[-1] == columns(stream.signals)


def test_every_signal_is_found_by_its_name_and_no_other() -> None:
    for stream in catalogue.STREAMS:
        assert [find_signal(stream, signal.name) for signal in stream.signals] == list(range(len(stream.signals)))
        with pytest.raises(ValueError, match="has no signal"):
            find_signal(stream, stream.signals[0].name[:-1])
