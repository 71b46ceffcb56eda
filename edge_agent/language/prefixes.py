"""What a model has read before is not read again: sessions are kept, and go on where a new prompt begins alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_agent.errors import ModelError
from edge_agent.language import CHUNK, MAX_SESSIONS, LanguageEngine, Session
from edge_agent.system.units import format_size


@dataclass(slots=True, eq=False)
class CachedSession:
    """A session, and what it holds.

    Attributes:
        tokens: that it has read.
        aligned: how many of them, from the first, were read in whole chunks. Numbers come out the same to the last bit
            only if tokens are read in the same groups.
    """

    session: Session
    tokens: list[int] = field(default_factory=list)
    aligned: int = 0

    def common(self, tokens: Sequence[int]) -> int:
        """How many of the tokens are there already."""
        pairs = zip(self.tokens, tokens, strict=False)
        return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(self.tokens), len(tokens)))

    def extend(self, tokens: Sequence[int]) -> None:
        """Reads on."""
        self.session.extend(tokens)
        before = len(self.tokens)
        self.tokens += tokens
        if before == self.aligned and len(tokens) == CHUNK:
            self.aligned += CHUNK

    def rewind(self, length: int) -> bool:
        """Forgets all but the first `length` tokens; see `Session.rewind`."""
        if length < len(self.tokens):
            del self.tokens[length:]
            self.aligned = min(self.aligned, length // CHUNK * CHUNK)
            return self.session.rewind(length)
        return True


class PrefixCache:
    """Sessions within a bound on their bytes.

    Args:
        engine: where they are made.
        max_size: bytes that they may take together.

    Raises:
        ModelError: not even one fits in.
    """

    def __init__(self, engine: LanguageEngine, max_size: int) -> None:
        self._engine = engine
        self._capacity = min(max_size // engine.session_size, MAX_SESSIONS)
        self._kept: list[CachedSession] = []  # that used last is the last one
        if not self._capacity:
            raise ModelError(
                f"{engine.context} tokens of context take {format_size(engine.session_size)}, and cache_size is "
                f"{format_size(max_size)}: raise cache_size, or lower context"
            )

    def read(self, tokens: Sequence[int], *, exact: bool, going_on: Callable[[], bool]) -> tuple[CachedSession, int]:
        """A session that has read the tokens.

        Args:
            tokens: of the prompt; at least one.
            exact: the outcome must not depend on what was read before, not even in the last bit.
            going_on: asked before every chunk; when it says no, the session has read only a part.

        Returns:
            The session, and how many tokens it did not have to read.
        """
        kept = self._choose(tokens)
        # The last token is always read: what follows it is the output of reading it.
        common = min(kept.common(tokens), len(tokens) - 1)
        if exact:
            common = min(common, kept.aligned) // CHUNK * CHUNK
        if not kept.rewind(common):
            self._kept.remove(kept)
            kept, common = CachedSession(self._engine.session()), 0
            self._kept.append(kept)
        while len(kept.tokens) < len(tokens) and going_on():
            place = len(kept.tokens)
            kept.extend(tokens[place : place + CHUNK - place % CHUNK])
        return kept, common

    def clear(self) -> None:
        """Lets go of everything; after a failure it is not known what sessions hold."""
        self._kept.clear()

    def _choose(self, tokens: Sequence[int]) -> CachedSession:
        """That with the most tokens in common; where none has a chunk, a new one or that which was not used longest."""
        best = max(self._kept, key=lambda kept: kept.common(tokens), default=None)
        if best is None or best.common(tokens) < min(CHUNK, len(tokens) - 1):
            best = CachedSession(self._engine.session()) if len(self._kept) < self._capacity else self._kept[0]
        if best in self._kept:
            self._kept.remove(best)
        self._kept.append(best)
        return best
