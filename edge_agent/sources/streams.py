"""From the bytes of a stream to samples, whatever its format."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What can't be used is counted and told at once, and then no more often than this, with how much there was.
COMPLAIN_EVERY = 10.0


class StreamFormat(Protocol):
    """Finds pictures or readings in a stream of bytes, which may be cut anywhere."""

    most: float
    """Bytes a second that anything real stays below; a live stream is read no faster."""

    def feed(self, data: bytes) -> "Iterator[bytes | NDArray[np.uint8] | Series | InputError]":
        """What is complete with these bytes; an error for what can't be used."""
        ...

    def end(self) -> Iterator[InputError]:
        """The stream has ended: says what was left incomplete."""
        ...


class Stream:
    """Makes samples of a stream, from its opening to its end.

    Args:
        stream_format: of the bytes; a fresh one.
        origin: facts about where the stream comes from; pictures get their number added.
        broken: whether it is opened again, so that readings are missing before the first.
    """

    def __init__(self, stream_format: StreamFormat, origin: Mapping[str, Any], *, broken: bool) -> None:
        self._format = stream_format
        self._origin = origin
        self._gap = broken
        self._frames = 0
        self._unsaid = 0
        self._complained = -COMPLAIN_EVERY

    def feed(self, data: bytes) -> Iterator[Sample]:
        """The samples that are complete with these bytes."""
        yield from self._samples(self._format.feed(data))

    def end(self) -> Iterator[Sample]:
        """The stream has ended."""
        yield from self._samples(self._format.end())

    def _samples(self, found: "Iterator[bytes | NDArray[np.uint8] | Series | InputError]") -> Iterator[Sample]:
        for data in found:
            now, origin = time.monotonic(), self._origin
            if isinstance(data, InputError):
                self._gap = True
                self._unsaid += 1
                if now - self._complained < COMPLAIN_EVERY:
                    continue
                if self._unsaid > 1:
                    data = InputError(f"{data} (and {self._unsaid - 1} more since the last such message)")  # noqa: PLW2901 - the same error, told for several
                self._unsaid, self._complained = 0, now
            elif isinstance(data, Series):
                data = replace(data, gap=data.gap or self._gap)  # noqa: PLW2901 - the same readings
                self._gap = False
            else:
                self._frames += 1
                origin = {**origin, "frame": self._frames}
            yield Sample(data, captured_at=time.time(), captured=now, origin=origin)
