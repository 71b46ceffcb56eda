"""Live pictures: drawn only while somebody looks, each of them once, whoever looks."""

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from edge_agent import settings
from edge_agent.monitoring.page.agent_status import AgentStatus
from edge_agent.publish.snapshots import Snapshots

# Pictures a second and their size, for all who look together.
LIVE = settings.Snapshot(interval=0.25, max_side=640, max_size=60_000)
# Nobody looks any more when nobody has asked for so long, in seconds.
PATIENCE = 5.0


class Picture(NamedTuple):
    """A picture with what was found in it; numbers grow."""

    number: int
    jpeg: bytes


@dataclass(slots=True)
class _Wall:
    """What hangs there for one pipeline: its latest picture, and when somebody last asked for it."""

    snapshots: Snapshots
    asked: float
    picture: Picture | None = None


class LivePreview:
    """Follows the pipelines that somebody looks at.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent
        self._walls: dict[str, _Wall] = {}
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()

    def latest(self, pipeline: str) -> Picture | None:
        """The latest picture, if there has been one since somebody began to look; never waits for one.

        Raises:
            KeyError: there is no such pipeline.
        """
        options = self._agent.options_of(pipeline)
        observers = self._agent.observers_of(pipeline)
        with self._guard:
            wall = self._walls.get(pipeline)
            if wall is None or wall.snapshots not in observers:
                snapshots = Snapshots(options, LIVE, partial(self._hang, pipeline))
                wall = self._walls[pipeline] = _Wall(
                    snapshots, time.monotonic(), None if wall is None else wall.picture
                )
                observers.append(snapshots)
            wall.asked = time.monotonic()
            return wall.picture

    def _hang(self, pipeline: str, jpeg: bytes) -> None:
        """Takes a picture, in the pipeline's thread; the last one, if nobody looks any more."""
        with self._guard:
            wall = self._walls.get(pipeline)
            if wall is None:
                return
            wall.picture = Picture(next(self._numbers), jpeg)
            if time.monotonic() - wall.asked > PATIENCE:
                del self._walls[pipeline]
                with contextlib.suppress(ValueError):
                    self._agent.observers_of(pipeline).remove(wall.snapshots)
