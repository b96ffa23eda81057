"""Topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swapline_wire import topic
from swapline_wire.error import WireError

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,31}", fullmatch=True)


@given(
    fleet=NAMES,
    node=NAMES,
    channel=st.sampled_from(["up", "ack", "status", "down", "reply", "alarm", "state/module/2"]),
)
def test_parse_returns_what_was_formatted(fleet: str, node: str, channel: str) -> None:
    assert topic.parse_topic(topic.format_topic(fleet, node, channel)) == (fleet, node, channel)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "swapline/v1/demo/van-001",
        "swapline/v1/demo/van-001/",
        "swapline/v1/demo/van-001/state//2",
        "swapline/v1/demo//up",
        "swapline/v1//van-001/up",
        "swapline/v2/demo/van-001/up",
        "/swapline/v1/demo/van-001/up",
        "swapline/v1/+/van-001/up",
        "swapline/v1/demo/#/up",
        "swapline/v1/../van-001/up",
        "swapline/v1/demo/.hidden/up",
        "swapline/v1/demo/van 001/up",
        "swapline/v1/demo/\u0430/up",
        "swapline/v1/demo/" + "x" * 33 + "/up",
    ],
)
def test_parse_refuses_what_is_no_topic_of_ours(text: str) -> None:
    with pytest.raises(WireError) as caught:
        topic.parse_topic(text)
    assert caught.value.reason == "bad_topic"


@given(text=st.text())
def test_parse_of_arbitrary_text_raises_nothing_but_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        topic.parse_topic(text)


def test_subscription_filter_is_made_with_plus() -> None:
    assert topic.format_topic("+", "+", topic.UP) == "swapline/v1/+/+/up"
