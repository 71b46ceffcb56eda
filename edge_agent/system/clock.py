"""Whether the clock of this device is synchronised."""

import ctypes
import time
from collections.abc import Callable

_TIME_ERROR = 5
_TIMEX_SIZE = 256  # larger than struct timex on every platform; only the zeroed first field is read by the call
_CHECK_EVERY = 10.0


class Clock:
    """Asks the kernel whether the clock is synchronised, at most every ten seconds."""

    def __init__(self) -> None:
        try:
            self._adjtimex: Callable[[object], int] | None = ctypes.CDLL(None).adjtimex
        except (OSError, AttributeError):
            self._adjtimex = None
        self._synced = False
        self._checked = -_CHECK_EVERY

    def synced(self) -> bool:
        """Whether a time service synchronises the clock: adjtimex(2) is not TIME_ERROR. False if unknown."""
        now = time.monotonic()
        if self._adjtimex is not None and now - self._checked >= _CHECK_EVERY:
            state = self._adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
            self._synced = 0 <= state < _TIME_ERROR
            self._checked = now
        return self._synced
