"""Typing mistakes: which known word a word was meant to be."""

from collections.abc import Iterable

# Letters that a word has at least, so that one other letter is taken for a mistake, or two.
LETTERS_FOR_ONE, LETTERS_FOR_TWO = 5, 9
# Letters of a word that can have a mistake at all, and mistakes, at most.
SHORTEST, MOST = 3, 2


def intended(word: str, known: Iterable[str]) -> str | None:
    """The known word that a word differs from by a typing mistake; None if there is none, or if it is not clear.

    Args:
        word: in small letters; none of the known words.
        known: words, in small letters.
    """
    costs = {right: cost for right in known if (cost := _mistakes(word, right))}
    nearest = [right for right, cost in costs.items() if cost == min(costs.values())]
    return nearest[0] if len(nearest) == 1 else None


def _mistakes(word: str, right: str) -> int:
    """How many typing mistakes make a word of another one; 0: that is not what happened.

    The first letter is nearly always right. In short words only two exchanged letters, or one that is left out or
    doubled, are taken for a mistake: "gate" is not "date".
    """
    begins_alike = word[0] == right[0] or word[:2] == right[1::-1]
    if len(word) < SHORTEST or abs(len(word) - len(right)) > MOST or not begins_alike:
        return 0
    if _exchanged(word, right):
        return 1
    if len(right) < LETTERS_FOR_ONE:
        return int(len(right) >= SHORTEST and (_doubled(right, word) or _doubled(word, right)))
    mistakes = _distance(word, right)
    return mistakes if mistakes <= (MOST if len(right) >= LETTERS_FOR_TWO else 1) else 0


def _exchanged(word: str, right: str) -> bool:
    """Whether two neighbouring letters have changed places."""
    return any(word[:i] + word[i + 1] + word[i] + word[i + 2 :] == right for i in range(len(word) - 1))


def _doubled(longer: str, shorter: str) -> bool:
    """Whether one of two equal neighbouring letters has been left out."""
    return any(longer[:i] + longer[i + 1 :] == shorter for i in range(1, len(longer)) if longer[i] == longer[i - 1])


def _distance(a: str, b: str) -> int:
    """Optimal string alignment distance: https://en.wikipedia.org/wiki/Damerau%E2%80%93Levenshtein_distance."""
    before, last = list[int](), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
