"""When the counters are published: at each interval while something comes of the inputs, seldom otherwise.

An idle device would send more bytes of `stats` than of anything else.
"""

from collections.abc import Mapping
from typing import Any

# Intervals between two publications while nothing changes.
UNCHANGED = 30
# Counters of a pipeline that tell what has come of its inputs, and drops that say that something is wrong.
_TELLING = ("out_of_range", "produced", "acknowledged", "queued", "discarded", "restarts")
_TELLING_DROPS = ("invalid", "failed", "refused")


class StatsPace:
    """Decides at each interval.

    A still scene is none of these changes: frames that lead to no result are counted, and published seldom. When inputs
    begin or stop to go through a model, that is one. After a change, the next interval is published as well, so that
    rates show that it was the last.
    """

    def __init__(self) -> None:
        self._published: Any = None
        self._inferred: Mapping[str, int] = {}
        self._left = 0  # intervals that need no publication
        self._was_change = False

    def reset(self) -> None:
        """The next interval is published: there is a new connection, or another configuration."""
        self._published = None

    def is_due(self, pipelines: Mapping[str, Mapping[str, Any]], others: Any) -> bool:
        """Whether the counters are to be published now; called once an interval.

        Args:
            pipelines: the counters of each.
            others: what else is published on a change, but for what changes all the time.
        """
        inferred = {name: counts.get("inferred", 0) for name, counts in pipelines.items()}
        active = {name: count != self._inferred.get(name) for name, count in inferred.items()}
        self._inferred = inferred
        telling = ({name: _telling(counts) for name, counts in pipelines.items()}, active, others)
        changed = telling != self._published
        if changed or self._was_change or not self._left:
            self._published, self._was_change, self._left = telling, changed, UNCHANGED
            return True
        self._left -= 1
        return False


def _telling(counts: Mapping[str, Any]) -> tuple[Any, ...]:
    dropped = counts.get("dropped", {})
    return (*(counts.get(key) for key in _TELLING), *(dropped.get(reason) for reason in _TELLING_DROPS))
