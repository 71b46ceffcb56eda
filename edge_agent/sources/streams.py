"""From the bytes of a stream to samples, whatever its format."""

import time
from collections.abc import Iterable, Iterator, Mapping
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

    max_bytes_per_second: float
    """Bytes a second that anything real stays below; a live stream is read no faster."""

    def feed(self, data: bytes) -> "Iterator[bytes | NDArray[np.uint8] | Series | InputError]":
        """What is complete with these bytes; an error for what can't be used."""
        ...

    def end(self) -> Iterator[InputError]:
        """The stream has ended: says what was left incomplete."""
        ...


class SampleBuilder:
    """Makes samples of what a stream gives, from its opening to its end.

    Args:
        origin: facts about where the stream comes from; pictures get their number added.
        broken: whether it is opened again, so that readings are missing before the first.
    """

    def __init__(self, origin: Mapping[str, Any], *, broken: bool) -> None:
        self._origin = origin
        self._gap = broken
        self._frames = 0
        self._unsaid = 0
        self._complained = -COMPLAIN_EVERY

    def __call__(self, found: "Iterable[bytes | NDArray[np.uint8] | Series | InputError]") -> Iterator[Sample]:
        """The samples, taken now; of errors that come thick and fast only some, which say how many there were."""
        for data in found:
            now = time.monotonic()
            if isinstance(data, InputError):
                self._gap = True
                self._unsaid += 1
                if now - self._complained < COMPLAIN_EVERY:
                    continue
                more = f" (and {self._unsaid - 1} more since the last such message)" if self._unsaid > 1 else ""
                self._unsaid, self._complained = 0, now
                yield self._sample(InputError(f"{data}{more}"), now)
            elif isinstance(data, Series):
                yield self._sample(replace(data, gap=data.gap or self._gap), now)
                self._gap = False
            else:
                self._frames += 1
                yield self._sample(data, now, frame=self._frames)

    def _sample(self, data: "bytes | NDArray[np.uint8] | Series | InputError", now: float, **facts: Any) -> Sample:
        return Sample(data, captured_at=time.time(), captured=now, origin={**self._origin, **facts})
