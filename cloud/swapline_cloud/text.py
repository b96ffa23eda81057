"""Texts that people read on boards and in alerts, in English and in Simplified Chinese."""

from typing import NamedTuple

ENGLISH, CHINESE = "en", "zh"
LANGUAGES = (ENGLISH, CHINESE)


class Text(NamedTuple):
    """One text in each language."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """Return the text in `en` or `zh`."""
        return self.zh if language == CHINESE else self.en
