"""Questions about modules and their answers as JSON-ready data: the same from HTTP and on the command line.

`BookAnswers` makes them from books; `access.HttpAnswers` asks a running gateway for them.
"""

from typing import Any, Protocol

from swapline_gateway.spool import now_utc_ms

from .books import Books
from .code import parse

Answer = dict[str, Any]

HOURS_MS_MAX = 90 * 24 * 3_600_000  # of a module's hours that are told
LIMIT = 500
LIMIT_MAX = 10_000
HOUR_FIGURES = (
    "soc_min_pct",
    "soc_max_pct",
    "temperature_max_c",
    "spread_mv",
    "energy_in_kwh",
    "energy_out_kwh",
)


class Answers(Protocol):
    """Every call raises `SinkBusyError` when the database does not answer."""

    def codes(self) -> Answer:
        """Return `codes`: all modules that anything is stored of."""

    def module(
        self, code: str, *, since_utc_ms: int = 0, before_utc_ms: int | None = None, limit: int = LIMIT
    ) -> Answer:
        """Return what is known of one module; its custody since then, of its newest `limit` stays.

        Of those that began before `before_utc_ms`: the ledger's `older_utc_ms` says what to ask with for older ones.
        """

    def holder(self, fleet: str, node: str, at_utc_ms: int | None = None) -> Answer:
        """Return `stays`: which modules were in a holder's bays at a time, now if none is given.

        `is_known`: there ever was one. If not, `holders` are those that hold one now, as FLEET/NODE.
        """

    def contradictions(self, *, since_utc_ms: int = 0, limit: int = LIMIT, kind: str | None = None) -> Answer:
        """Return `contradictions` of a kind, or of all, newest first."""

    def warnings(self) -> Answer:
        """Return `warnings`, the most serious first."""

    def swaps(self, *, since_utc_ms: int = 0, limit: int = LIMIT, fleet: str | None = None) -> Answer:
        """Return `swaps`, newest first."""


class BookAnswers:
    """See the module's header."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def codes(self) -> Answer:
        """See `Answers.codes`."""
        return {"codes": self._books.store.modules()}

    def module(
        self, code: str, *, since_utc_ms: int = 0, before_utc_ms: int | None = None, limit: int = LIMIT
    ) -> Answer:
        """See `Answers.module`."""
        books = self._books
        ledger = books.custody.ledger(code, since_utc_ms=since_utc_ms, before_utc_ms=before_utc_ms, limit=limit)
        passport = books.passports.passport(code)
        start_ms = now_utc_ms() - HOURS_MS_MAX
        return {
            "code": code,
            "parts": parse(code).as_json(),
            "ledger": ledger.as_json(),
            "passport": None if passport is None else passport.as_json(),
            "warnings": [one.as_json() for one in books.warnings.warnings() if one.module == code],
            "hours": [
                {"time_utc_ms": hour.hour_utc_ms, **{name: getattr(hour, name) for name in HOUR_FIGURES}}
                for hour in books.hours.hours(code, start_ms)
            ],
        }

    def holder(self, fleet: str, node: str, at_utc_ms: int | None = None) -> Answer:
        """See `Answers.holder`."""
        at_ms = now_utc_ms() if at_utc_ms is None else at_utc_ms
        custody = self._books.custody
        stays = [stay.as_json() for stay in custody.at(fleet, node, at_ms)]
        if stays or custody.is_holder(fleet, node):
            return {"stays": stays, "is_known": True}
        return {"stays": [], "is_known": False, "holders": ["/".join(one) for one in custody.holders()]}

    def contradictions(self, *, since_utc_ms: int = 0, limit: int = LIMIT, kind: str | None = None) -> Answer:
        """See `Answers.contradictions`."""
        found = self._books.custody.contradictions(since_utc_ms=since_utc_ms, limit=limit, kind=kind)
        return {"contradictions": [one.as_json() for one in found]}

    def warnings(self) -> Answer:
        """See `Answers.warnings`."""
        return {"warnings": [one.as_json() for one in self._books.warnings.warnings()]}

    def swaps(self, *, since_utc_ms: int = 0, limit: int = LIMIT, fleet: str | None = None) -> Answer:
        """See `Answers.swaps`."""
        found = self._books.custody.swaps(since_utc_ms=since_utc_ms, limit=limit, fleet=fleet)
        return {"swaps": [swap.as_json() for swap in found]}
