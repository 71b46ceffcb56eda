"""Prefix cache: sessions are kept, and a prompt that begins like an earlier one reads on from its session."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.errors import InputError, ModelError
from edge_agent.language import CHUNK, MAX_SESSIONS, LanguageEngine, Session
from edge_agent.system.units import format_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class CachedSession:
    """A session, and the tokens that it holds.

    Attributes:
        number: see `LanguageEngine.session`.
        tokens: that it has read.
        aligned: number of tokens, from the first, that were read in whole chunks and alone. Results are equal to the
            last bit only if tokens are read in the same chunks, in the same company.
    """

    session: Session
    number: int
    tokens: list[int] = field(default_factory=list)
    aligned: int = 0

    def common(self, tokens: Sequence[int]) -> int:
        """Length of the common prefix with the tokens that it has read."""
        pairs = zip(self.tokens, tokens, strict=False)
        return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(self.tokens), len(tokens)))

    def chunk(self, tokens: Sequence[int]) -> Sequence[int]:
        """What of a prompt is to be read next: up to the end of a chunk."""
        place = len(self.tokens)
        return tokens[place : place + CHUNK - place % CHUNK]

    def has_read(self, tokens: Sequence[int], *, alone: bool) -> None:
        """Notes what has been read, and whether in a batch of its own."""
        if alone and len(self.tokens) == self.aligned and len(tokens) == CHUNK:
            self.aligned += CHUNK
        self.tokens += tokens

    def logits(self) -> "NDArray[np.float32]":
        """See `Session.logits`."""
        return self.session.logits()

    def rewind(self, length: int) -> bool:
        """See `Session.rewind`."""
        if length < len(self.tokens):
            del self.tokens[length:]
            self.aligned = min(self.aligned, length // CHUNK * CHUNK)
            return self.session.rewind(length)
        return True


class PrefixCache:
    """Sessions, up to a total size; of those that nobody uses, the one not used for longest gives way.

    Args:
        engine: makes the sessions.
        max_size: bytes that all sessions together may take.

    Attributes:
        capacity: number of sessions, at most.

    Raises:
        ModelError: not even one session fits.
    """

    def __init__(self, engine: LanguageEngine, max_size: int) -> None:
        self._engine = engine
        self.capacity = min(max_size // engine.session_size, MAX_SESSIONS)
        self._idle: list[CachedSession] = []  # the one used last is the last one
        self._used: list[CachedSession] = []
        if not self.capacity:
            raise ModelError(
                f"{engine.context} tokens of context take {format_size(engine.session_size)}, and cache_size is "
                f"{format_size(max_size)}: raise cache_size, or lower context"
            )
        engine.reserve(self.capacity)

    @contextmanager
    def use(self, tokens: Sequence[int], *, exact: bool) -> Iterator[CachedSession]:
        """A session, for one user, that has read as much of a prompt as possible, and nothing else.

        It returns to the cache, unless the model fails meanwhile: then its state is not known.

        Args:
            tokens: of the prompt; at least one. The last of them is left to read: its logits are needed.
            exact: the logits after it must be equal to the last bit, whatever was read before.
        """
        session = self._choose(tokens)
        common = min(session.common(tokens), len(tokens) - 1)
        if exact:
            common = min(common, session.aligned) // CHUNK * CHUNK
        if not session.rewind(common):
            session = self._new(session.number)
        self._used.append(session)
        is_known = False
        try:
            yield session
            is_known = True
        except InputError:  # a fault of the request
            is_known = True
            raise
        finally:
            if session in self._used:  # unless the cache has been cleared
                self._used.remove(session)
                if is_known:
                    self._idle.append(session)

    def clear(self) -> None:
        """Drops all sessions; those in use must not be used any more."""
        self._idle.clear()
        self._used.clear()

    def _choose(self, tokens: Sequence[int]) -> CachedSession:
        """The idle session with the longest common prefix; below a chunk, a new or the least recently used one.

        Among these, one beside the sessions that are in use: they are read together fastest.
        """
        best = max(self._idle, key=lambda one: one.common(tokens), default=None)
        if best is None or best.common(tokens) < min(CHUNK, len(tokens) - 1):
            used = [one.number for one in self._used]
            taken = {one.number for one in self._idle} | set(used)

            def distance(number: int) -> int:
                return min((abs(number - other) for other in used), default=0)

            if free := [number for number in range(self.capacity) if number not in taken]:
                return self._new(min(free, key=distance))
            best = min(self._idle, key=lambda one: distance(one.number))
        self._idle.remove(best)
        return best

    def _new(self, number: int) -> CachedSession:
        return CachedSession(self._engine.session(number), number)
