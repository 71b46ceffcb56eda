"""Free memory, and limits on the memory of a process."""

import contextlib
import re
import resource
from pathlib import Path

from edge_agent.system.text import read_attribute

# The share of free memory that models may take.
SHARE_OF_FREE_MEMORY = 0.8
# The most that one model may take in a process of its own, and what libraries and intermediate tensors take besides the
# weights.
MAX_OF_MODEL = 4 * 2**30
LIBRARIES = 500_000_000
# Maximum size of the files that a limited process writes, its standard error among them.
MAX_CHATTER = 1_000_000


def for_models() -> int | None:
    """Bytes that models may take now; None if the system does not report free memory."""
    free = re.search(r"MemAvailable: *(\d+) kB", read_attribute(Path("/proc/meminfo")))
    return int(int(free[1]) * 1024 * SHARE_OF_FREE_MEMORY) if free else None


def for_tensors(stated: int | None) -> int | None:
    """Bytes that the tensors of all models in this process may take besides the weights; None: not known.

    Args:
        stated: bytes for all models; None: not stated.
    """
    total = re.search(r"MemTotal: *(\d+) kB", read_attribute(Path("/proc/meminfo")))
    bounds = [] if total is None else [int(int(total[1]) * 1024 * SHARE_OF_FREE_MEMORY)]
    bounds += [] if stated is None else [stated + LIBRARIES]
    return min(bounds, default=None)


def for_one_model(stated: int | None) -> int:
    """Bytes that a model may take in a process of its own, with the runtime's libraries.

    Args:
        stated: bytes for all models; None: not stated.
    """
    return MAX_OF_MODEL if stated is None else min(MAX_OF_MODEL, stated + LIBRARIES)


def limit(most: int) -> int:
    """Limits the memory that this process takes from now on, and the files that it writes. For worker processes.

    Args:
        most: bytes; the limit is lower if less is free.

    Returns:
        The limit in bytes.
    """
    bound = limit_data(most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_CHATTER, resource.getrlimit(resource.RLIMIT_DATA)[0]))
    return bound


def limit_data(most: int) -> int:
    """Limits the memory that this process takes from now on. For worker processes.

    Args:
        most: bytes; the limit is lower if less is free.

    Returns:
        The limit in bytes.
    """
    free = for_models()
    bound = most if free is None else min(most, free)
    taken = re.search(r"VmData:\s*(\d+) kB", read_attribute(Path("/proc/self/status")))
    ceiling = bound + (int(taken[1]) * 1024 if taken else 0)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))
    with contextlib.suppress(OSError):  # not everywhere allowed
        # If memory runs out nevertheless, the kernel ends this process and not its parent.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return bound


def taken() -> int:
    """Bytes of memory that this process takes (PSS); of pages that it shares, its share."""
    found = re.search(r"^Pss: *(\d+) kB", read_attribute(Path("/proc/self/smaps_rollup")), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
