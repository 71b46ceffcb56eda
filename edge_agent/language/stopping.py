"""Stop sequences: texts at which an answer ends."""

from collections.abc import Sequence


class StopSequences:
    """Looks for stop sequences in an answer that comes in pieces; the answer ends before the first.

    Args:
        texts: the stop sequences; none is empty.

    Attributes:
        found: whether one has been found.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """Takes a piece; returns the text that now surely belongs to the answer."""
        text = self._held + piece
        places = [place for stop in self._texts if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, stop) for stop in self._texts), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """The text that was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of a text that is the beginning of a stop sequence."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
