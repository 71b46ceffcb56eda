"""Limits unused memory in the C library's heap. Only glibc has these functions; elsewhere nothing happens."""

import ctypes
import gc

# From malloc.h, https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_ARENA_MAX = -8


def share() -> None:
    """Makes all threads share one heap (arena): by default each has its own, with unused memory in each.

    To be called before there are threads. The long operations of threads (decode, resize, infer) allocate little.
    """
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Returns unused memory to the system, for example after the start, which needs more than normal operation."""
    gc.collect()
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> "ctypes._NamedFuncPointer | None":
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return getattr(library, name, None)
