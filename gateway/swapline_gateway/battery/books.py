"""All books over one store. The keeper, the command line and HTTP open the same ones."""

from functools import cached_property
from typing import TYPE_CHECKING

from .store import BatteryStore

if TYPE_CHECKING:
    from .custody_book import CustodyBook
    from .hour_book import HourBook
    from .passport_book import PassportBook
    from .warning_book import WarningBook


class Books:
    """Books that are made, and their files loaded, when they are first asked for. One `Books` belongs to one thread."""

    def __init__(self, store: BatteryStore, *, is_kept: bool = False) -> None:
        """`is_kept`: a keeper is at work on them (see `HourBook`)."""
        self.store = store
        self._is_kept = is_kept

    @cached_property
    def hours(self) -> "HourBook":
        """What each module did in each hour."""
        from .hour_book import HourBook  # noqa: PLC0415

        return HourBook(self.store, is_kept=self._is_kept)

    @cached_property
    def custody(self) -> "CustodyBook":
        """Who held which module."""
        from .custody_book import CustodyBook  # noqa: PLC0415

        return CustodyBook(self.store, self.hours)

    @cached_property
    def passports(self) -> "PassportBook":
        """How each module was treated."""
        from .passport_book import PassportBook  # noqa: PLC0415

        return PassportBook(self.store, self.hours)

    @cached_property
    def warnings(self) -> "WarningBook":
        """Which modules may fail next."""
        from .warning_book import WarningBook  # noqa: PLC0415

        return WarningBook(self.store, self.hours)
