"""Reading a file without mapping it: a mapped file that shrinks ends the process, one that is read gives an error."""

import os
from collections.abc import Callable
from functools import lru_cache

from edge_agent.modelfile.facts import DamagedError

_BLOCK = 1 << 16
_BLOCKS_KEPT = 16


class View:
    """A part of an open file; its bytes are read when they are asked for, block by block.

    Args:
        block: reads a block of the file, by its number.
        start: where the part begins in the file.
        length: in bytes.
    """

    __slots__ = ("_block", "_length", "_start")

    def __init__(self, block: Callable[[int], bytes], start: int, length: int) -> None:
        self._block, self._start, self._length = block, start, length

    @classmethod
    def of(cls, descriptor: int, length: int) -> "View":
        """All of a file, which must stay open."""

        @lru_cache(_BLOCKS_KEPT)
        def block(number: int) -> bytes:
            return os.pread(descriptor, _BLOCK, number * _BLOCK)

        return cls(block, 0, length)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> "View":
        """A part of this part; nothing is read."""
        start, stop, _ = part.indices(self._length)
        return View(self._block, self._start + start, max(0, stop - start))

    def __bytes__(self) -> bytes:
        """The bytes.

        Raises:
            DamagedError: the file has become shorter.
        """
        end = self._start + self._length
        blocks = range(self._start // _BLOCK, -(-end // _BLOCK))
        content = b"".join(self._block(number) for number in blocks) if len(blocks) != 1 else self._block(blocks[0])
        content = content[self._start % _BLOCK :][: self._length]
        if len(content) < self._length:
            raise DamagedError("it has become shorter while it was read")
        return content

    def __contains__(self, needle: bytes) -> bool:
        """Whether these bytes are among the content, which is not held in memory as a whole."""
        overlap = len(needle) - 1
        return any(
            needle in bytes(self[start : start + _BLOCK + overlap]) for start in range(0, max(1, self._length), _BLOCK)
        )
