"""Topics: `swapline/v1/<fleet>/<node>/<channel>`.

Channels of the node: `live` (frames as they are sealed), `up` (frames that come late: the backlog), `status` (retained
birth as JSON; the last will says offline), `reply` (answers to commands). Channels to the node: `ack`, `down` (commands
and configuration). The gateway's own: `state/<stream>[/<bay>]` (retained JSON with the latest values), `alarm` (JSON).
"""

from collections import namedtuple

from .error import BAD_TOPIC, WireError

ROOT = "swapline/v1"
LIVE = "live"
UP = "up"
FRAMES = (LIVE, UP)
ACK = "ack"
STATUS = "status"
DOWN = "down"
REPLY = "reply"
STATE = "state"
ALARM = "alarm"
NAME_CHARACTERS_MAX = 32
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

Address = namedtuple("Address", ("fleet", "node", "channel"))


def is_name(text: str) -> bool:
    """Say whether `text` may name a fleet or a node: 1 to 32 letters, digits, `_`, `-` and `.`, no dot in front.

    The dot rule keeps `..` and hidden files out of whatever is named after a node.
    """
    return 0 < len(text) <= NAME_CHARACTERS_MAX and text[0] != "." and all([c in _NAME_CHARACTERS for c in text])


def format_topic(fleet: str, node: str, channel: str) -> str:
    """Return the topic of a node's channel; `+` as a fleet or node makes a subscription filter."""
    return "/".join((ROOT, fleet, node, channel))


def parse_topic(topic: str) -> Address:
    """Split a topic into fleet, node and channel. Raises `WireError` (`bad_topic`)."""
    parts = topic.split("/")
    if (
        len(parts) < 5
        or "" in parts[4:]
        or "/".join(parts[:2]) != ROOT
        or not (is_name(parts[2]) and is_name(parts[3]))
    ):
        raise WireError(BAD_TOPIC, topic[:80])
    return Address(parts[2], parts[3], "/".join(parts[4:]))
