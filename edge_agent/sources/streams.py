"""Turns the bytes of a stream into samples, whatever its format."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The first error of a stream is passed on at once, further ones at most once in this many seconds, with their number.
REPORT_EVERY = 10.0


class StreamFormat(Protocol):
    """Parses images or readings from a stream of bytes, which may arrive in pieces of any size."""

    max_bytes_per_second: float
    """An upper limit for real devices. A live stream is not read faster than this."""

    def feed(self, data: bytes) -> "Iterator[bytes | NDArray[np.uint8] | Series | InputError]":
        """What these bytes complete: encoded images, frames (height, width, 3) uint8 BGR, or readings; or errors."""
        ...

    def end(self) -> Iterator[InputError]:
        """Called at the end of the stream: an error if something was left incomplete."""
        ...


class SampleBuilder:
    """Makes samples from what a stream format yields, from the opening of the stream to its end.

    Args:
        origin: published with each sample; images get their number added.
        broken: whether the stream is opened again, so that readings are missing before the first one.
    """

    def __init__(self, origin: Mapping[str, Any], *, broken: bool) -> None:
        self._origin = origin
        self._gap = broken
        self._frames = 0
        self._suppressed = 0
        self._reported_at = -REPORT_EVERY

    def __call__(self, found: "Iterable[bytes | NDArray[np.uint8] | Series | InputError]") -> Iterator[Sample]:
        """The samples, timestamped now. Of frequent errors, only some are passed on, with their number."""
        for data in found:
            now = time.monotonic()
            if isinstance(data, InputError):
                self._gap = True
                self._suppressed += 1
                if now - self._reported_at < REPORT_EVERY:
                    continue
                more = f" (and {self._suppressed - 1} more since the last such message)" if self._suppressed > 1 else ""
                self._suppressed, self._reported_at = 0, now
                yield self._sample(InputError(f"{data}{more}"), now)
            elif isinstance(data, Series):
                yield self._sample(replace(data, gap=data.gap or self._gap), now)
                self._gap = False
            else:
                self._frames += 1
                yield self._sample(data, now, frame=self._frames)

    def _sample(self, data: "bytes | NDArray[np.uint8] | Series | InputError", now: float, **facts: Any) -> Sample:
        return Sample(data, captured_at=time.time(), captured=now, origin={**self._origin, **facts})
