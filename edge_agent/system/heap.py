"""The C library's memory: little of it held without use. Only glibc has these functions; elsewhere nothing happens."""

import ctypes
import gc

# From malloc.h, https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_ARENA_MAX = -8


def share() -> None:
    """One heap for all threads. By default each thread gets one of its own, and in each of them there is unused room.

    To be called before there are threads. What threads do here at length (decode, resize, infer) allocates little.
    """
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Gives unused memory back to the system, as after a start, which needs more than what comes later."""
    gc.collect()
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return getattr(library, name, None)
