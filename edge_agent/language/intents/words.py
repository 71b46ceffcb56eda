"""A request as words: small letters, contractions written out, typing mistakes corrected."""

import re
from collections.abc import Collection

from edge_agent.language.intents.lexicon import CONTRACTIONS, ENDINGS
from edge_agent.language.intents.typos import intended

# Words of a request, at most, and letters of a word; the recognizer refuses longer requests.
MAX_WORDS = 80
MAX_LETTERS = 24
SEPARATORS = (",", ".", ";", ":", "!", "?", "&")
UNKNOWN = "?"
_APOSTROPHE = "\u2019"
_FRACTION = re.compile(r"(?<![\d/.])(?:(\d{1,4})\s)?(1/2|1/4|3/4)(?![\d/])|(?:(?<!\d)(\d{1,4})\s?)?([¼½¾])")
_QUARTERS = {"1/4": 1, "1/2": 2, "3/4": 3, "¼": 1, "½": 2, "¾": 3}
_SPOKEN = {1: "a quarter of", 2: "half", 3: "three quarters of"}
# A number with what follows it ("8pm"), a word with what follows its apostrophe (or a comma in its place), or a mark.
_WORD = re.compile(r"-?\d+(?:[.:]\d+)?[^\W\d_]*|[^\W\d_]+(?:[',][^\W\d_]+)?|[%°,.;:!?&]")


def words_of(text: str, known: Collection[str]) -> list[str]:
    """The words, numbers and punctuation marks of a request, as far as a few more than `MAX_WORDS`.

    Args:
        text: the request.
        known: words that need no correction, and to which others are corrected.
    """
    found = list[str]()
    plain = _FRACTION.sub(_spoken, text.lower().replace(_APOSTROPHE, "'"))
    for match in _WORD.finditer(plain):
        found += _written_out(match[0], known)
        if len(found) > MAX_WORDS:
            break
    return found


def _spoken(fraction: re.Match[str]) -> str:
    """`1 1/2` is 1.5, `1/2` is half."""
    whole, quarters = fraction[1] or fraction[3], _QUARTERS[fraction[2] or fraction[4]]
    return f"{int(whole) + quarters / 4:g} " if whole else f"{_SPOKEN[quarters]} "


def _written_out(word: str, known: Collection[str]) -> list[str]:
    if len(word) > MAX_LETTERS:
        return [UNKNOWN]
    if word.lstrip("-")[0].isdigit():
        digits = word.rstrip("".join(filter(str.isalpha, word)))
        # 8pm is two words, but a 3d printer has one.
        letters = word[len(digits) :]
        return [word] if not letters or word in known else [digits, "min" if letters == "m" else letters]
    if word.endswith(",t"):
        word = word.replace(",", "'")
    first, comma, second = word.partition(",")
    if comma and second:
        return [*_written_out(first, known), comma, *_written_out(second, known)]
    return _one_word(word, known)


def _one_word(word: str, known: Collection[str]) -> list[str]:
    stem, mark, ending = word.partition("'")
    if word not in CONTRACTIONS and mark and ending in ENDINGS:
        return [*_one_word(stem, known), ENDINGS[ending]]
    word = word if word in CONTRACTIONS else stem + ending
    if word in known:
        return [word]
    if word in CONTRACTIONS or not word[0].isalpha():
        right: str | None = word
    else:
        right = intended(word, {*known, *CONTRACTIONS})
    return list(CONTRACTIONS.get(right or word, (right or word,)))
