"""What a node on a desk is configured with: what its rig needs, what the bench file knows, and what a test changes."""

import os
from collections.abc import Mapping
from typing import Any

from swapline_bench.desk.bench_file import Network
from swapline_bench.end_to_end import FLEET
from swapline_bench.rig import HolderRig


def configure(
    holder: HolderRig, network: Network, address: tuple[str, int], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the node's `config.json`; `changes` replace its keys, in tables (`link`, `streams`, ...) key by key.

    `address` is where the node finds the broker.
    """
    host, port = address
    whole = holder.config(fleet=FLEET, host=host, port=port)
    if network.ssid is not None:
        whole["network"] = {"ssid": network.ssid}
        if network.password_env:
            whole["network"]["password"] = os.environ[network.password_env]
    whole["streams"]["node"] = {"report": "all"}
    for key, value in changes.items():
        is_table = isinstance(value, Mapping) and isinstance(whole.get(key), Mapping)
        whole[key] = {**whole[key], **value} if is_table else value
    return whole
