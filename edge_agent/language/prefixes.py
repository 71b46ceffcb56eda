"""Prefix cache: sessions are kept, and a prompt that begins like an earlier one reads on from its session."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.language import CHUNK, MAX_SESSIONS, LanguageEngine, Session
from edge_agent.system.units import format_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class CachedSession:
    """A session, and the tokens that it holds.

    Attributes:
        tokens: that it has read.
        aligned: number of tokens, from the first, that were read in whole chunks. Results are equal to the last bit
            only if tokens are read in the same chunks.
    """

    session: Session
    tokens: list[int] = field(default_factory=list)
    aligned: int = 0

    def common(self, tokens: Sequence[int]) -> int:
        """Length of the common prefix with the tokens that it has read."""
        pairs = zip(self.tokens, tokens, strict=False)
        return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(self.tokens), len(tokens)))

    def extend(self, tokens: Sequence[int]) -> None:
        """See `Session.extend`."""
        self.session.extend(tokens)
        before = len(self.tokens)
        self.tokens += tokens
        if before == self.aligned and len(tokens) == CHUNK:
            self.aligned += CHUNK

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
    """Sessions, up to a total size; the one not used for longest gives way.

    Args:
        engine: makes the sessions.
        max_size: bytes that all sessions together may take.

    Raises:
        ModelError: not even one session fits.
    """

    def __init__(self, engine: LanguageEngine, max_size: int) -> None:
        self._engine = engine
        self._capacity = min(max_size // engine.session_size, MAX_SESSIONS)
        self._sessions: list[CachedSession] = []  # the one used last is the last one
        if not self._capacity:
            raise ModelError(
                f"{engine.context} tokens of context take {format_size(engine.session_size)}, and cache_size is "
                f"{format_size(max_size)}: raise cache_size, or lower context"
            )

    def read(self, tokens: Sequence[int], *, exact: bool, proceed: Callable[[], bool]) -> tuple[CachedSession, int]:
        """A session that has read the tokens.

        Args:
            tokens: of the prompt; at least one.
            exact: the logits must be equal to the last bit, whatever was read before.
            proceed: called before every chunk; after False the session has read only a part of the prompt.

        Returns:
            The session, and the number of tokens that it had read before.
        """
        session = self._choose(tokens)
        # The last token is always read: its logits are needed.
        common = min(session.common(tokens), len(tokens) - 1)
        if exact:
            common = min(common, session.aligned) // CHUNK * CHUNK
        if not session.rewind(common):
            self._sessions.remove(session)
            session, common = CachedSession(self._engine.session()), 0
            self._sessions.append(session)
        while len(session.tokens) < len(tokens) and proceed():
            place = len(session.tokens)
            session.extend(tokens[place : place + CHUNK - place % CHUNK])
        return session, common

    def clear(self) -> None:
        """Drops all sessions."""
        self._sessions.clear()

    def _choose(self, tokens: Sequence[int]) -> CachedSession:
        """The session with the longest common prefix; below a chunk, a new or the least recently used one."""
        best = max(self._sessions, key=lambda one: one.common(tokens), default=None)
        if best is None or best.common(tokens) < min(CHUNK, len(tokens) - 1):
            best = CachedSession(self._engine.session()) if len(self._sessions) < self._capacity else self._sessions[0]
        if best in self._sessions:
            self._sessions.remove(best)
        self._sessions.append(best)
        return best
