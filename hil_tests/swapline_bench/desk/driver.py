"""Which driver a bench file asks for, and what a bench can do with it."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from swapline_bench.desk import bench_file
from swapline_bench.desk.feature import COUNTED, DEVICES, FEATURES
from swapline_bench.desk.node import NodeUnderTest, OnLine, OnPower


def make_node(
    resource: bench_file.Node, name: str, folder: Path, *, on_line: OnLine, on_power: OnPower
) -> NodeUnderTest:
    """Return the node's driver; nothing is opened yet."""
    if resource.driver == "board":
        from swapline_bench.desk.node_board import BoardNode  # noqa: PLC0415 - needs mpremote

        return BoardNode(name, resource, folder, on_line=on_line, on_power=on_power)
    from swapline_bench.desk.node_process_driver import ProcessNode, VirtualNode  # noqa: PLC0415 - needs MicroPython

    driver = VirtualNode if resource.flash.kind == "block_device" else ProcessNode
    return driver(name, resource, folder, on_line=on_line, on_power=on_power)


def bench_features(file: bench_file.BenchFile, node: NodeUnderTest) -> frozenset[str]:
    """Return what a bench has, of `FEATURES`: what the node's driver can do, and what lies around the node."""
    found = set(node.features)
    if any(line.devices for line in file.lines):
        found.add("simulators")
    if file.lines and all(line.is_pty for line in file.lines):
        found |= {"unplug", "fast_lines"}
    if file.network.control == "proxy":
        found.add("network")
    assert found <= set(FEATURES), found
    return frozenset(found)


def features_of(file: bench_file.BenchFile) -> frozenset[str]:
    """Return what a bench has, without touching anything on it."""
    node = make_node(file.node, "nobody", Path("nowhere"), on_line=_ignore, on_power=_ignore)
    return bench_features(file, node)


def _ignore(_: str) -> None:
    """Take what nobody wants to know."""


def find_lacks(file: bench_file.BenchFile, needs: Iterable[str]) -> list[str]:
    """Return a sentence for each of `needs` that a bench does not have.

    `needs` are words of `FEATURES` and `DEVICES`, or a count of `COUNTED`: `lines:2`. Raises `ValueError` for any other
    word, naming the nearest.
    """
    return list(_find_lacks(file, needs))


def _find_lacks(file: bench_file.BenchFile, needs: Iterable[str]) -> Iterator[str]:
    features = features_of(file)
    name = file.bench.name
    counts = {"lines": len(file.lines), "bays": file.bay_count}
    devices: set[str] = {device.simulator for line in file.lines for device in line.devices}
    if file.gnss_line is not None:
        devices.add("gnss")
    for need in needs:
        word, _, number = need.partition(":")
        if word in counts and number.isdecimal():
            if counts[word] < int(number):
                yield f"bench {name} has {counts[word]}, not {number}, {COUNTED[word]}"
        elif need in DEVICES:
            if need not in devices:
                yield f"bench {name} lacks {need!r}: {DEVICES[need]}"
        elif need in FEATURES:
            if need not in features:
                yield f"bench {name} lacks {need!r}: {FEATURES[need]}"
        else:
            known = [*FEATURES, *DEVICES, *(f"{one}:N" for one in COUNTED)]
            near = difflib.get_close_matches(need, known, n=1, cutoff=0.0)
            raise ValueError(f"{need!r} is nothing that a bench can have; did you mean {near[0]!r}?")
