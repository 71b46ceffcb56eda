"""The settings of what recognizes speech: phrases, without a model file, or whatever is said."""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from edge_agent.settings.base import Frozen

MAX_WORDS = 12
MAX_WORD = 40
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz'-")
# fmt: off
_PHONES = frozenset({
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
})
# fmt: on


class Speech(Frozen):
    """Listens for phrases of English, or writes down whatever is said. One of `phrases` and `path`."""

    type: Literal["speech"]
    """Recognition of speech, from any speaker."""
    phrases: tuple[str, ...] = Field((), max_length=100)
    """What it listens for, up to 12 words each. Longer phrases are distinguished more surely than single words."""
    pronunciations: dict[str, str] = Field({}, max_length=100)
    """Of words of `phrases` that its dictionary lacks, as phones of CMUdict: `{zigbee: Z IH G B IY}`."""
    path: Path | None = None
    """Speech to text: folder of a Moonshine model, or its name in the registry, as `moonshine-tiny-en`."""

    @field_validator("phrases")
    @classmethod
    def _words_of_letters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        phrases = tuple(" ".join(phrase.lower().split()) for phrase in value)
        for phrase in phrases:
            if not phrase or not _LETTERS.issuperset(phrase.replace(" ", "")):
                raise ValueError(f"{phrase!r}: expected words of English letters; write numbers as words")
            if len(phrase.split()) > MAX_WORDS:
                raise ValueError(f"{phrase!r}: a phrase must have at most {MAX_WORDS} words")
        if len(set(phrases)) < len(phrases):
            raise ValueError("each phrase must be stated once")
        return phrases

    @field_validator("pronunciations")
    @classmethod
    def _phones(cls, value: dict[str, str]) -> dict[str, str]:
        for word, phones in value.items():
            if not word or not _LETTERS.issuperset(word.lower()) or len(word) > MAX_WORD:
                raise ValueError(f"{word!r}: expected one word of English letters")
            unknown = [phone for phone in phones.split() if phone not in _PHONES]
            if unknown or not 0 < len(phones.split()) <= MAX_WORD:
                raise ValueError(f"{word}: expected phones such as AH or ZH, found {', '.join(unknown) or 'none'}")
        return {word.lower(): phones for word, phones in value.items()}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.phrases) == (self.path is not None):
            raise ValueError("must have either `phrases`, which it listens for, or the `path` of a model")
        if self.pronunciations and not self.phrases:
            raise ValueError("`pronunciations` are those of words in `phrases`")
        return self

    @property
    def name(self) -> str:
        """By which it is known among models; pipelines that listen for the same share one."""
        stated = repr((self.phrases, sorted(self.pronunciations.items()), self.path))
        return f"speech-{hashlib.sha256(stated.encode()).hexdigest()[:8]}"
