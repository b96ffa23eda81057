"""One stream for a page and the figures that stand beside it, as a browser keeps only six connections to a host.

A page that also shows the battery's books or the alarm book asks for `?also=battery,alarms`; what those scopes tell
then stands in the document under `books`, each by its name.
"""

from collections.abc import Mapping
from typing import Any

from swapline_gateway.state import Batch

from .document import Document

PLACE = "books"


class JoinedDocument:
    """A page's document with others beside it."""

    def __init__(self, page: Document, beside: Mapping[str, Document]) -> None:
        self._page = page
        self._beside = dict(beside)
        intervals = [part.interval_s for part in (page, *self._beside.values()) if part.interval_s is not None]
        self.interval_s: float | None = min(intervals, default=None)

    @property
    def content(self) -> dict[str, Any]:
        """Return the page's content with the others' under `books`."""
        return {**self._page.content, PLACE: {name: part.content for name, part in self._beside.items()}}

    def refresh(self, batch: Batch) -> dict[str, Any]:
        """Refresh every part and join their patches."""
        patch = refresh_part(self._page, batch)
        changed, gone = dict(patch.get("set", {})), list(patch.get("gone", []))
        books: dict[str, Any] = {}
        for name, part in self._beside.items():
            inner = refresh_part(part, batch)
            if "set" in inner:
                books[name] = inner["set"]
            gone += [(PLACE, name, *path) for path in inner.get("gone", [])]
        if books:
            changed[PLACE] = books
        return ({"set": changed} if changed else {}) | ({"gone": gone} if gone else {})


def refresh_part(part: Document, batch: Batch) -> dict[str, Any]:
    """Return a document's patch; one that only batches change is left alone when nothing happened."""
    if batch.is_empty() and part.interval_s is None:
        return {}
    return part.refresh(batch)
