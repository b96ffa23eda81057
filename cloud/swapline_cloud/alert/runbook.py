"""The sections of `runbook.md` as plain text: what an alert says to who has no link to follow."""

import re
from functools import cache
from importlib.resources import files

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@cache
def sections() -> dict[str, str]:
    """Return the text of each rule's section, without links, which nobody could follow from a message."""
    text = (files(__package__) / "runbook.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    named = (part.partition("\n") for part in parts)
    return {name.strip(): _LINK.sub(r"\1", body).strip() for name, _, body in named}
