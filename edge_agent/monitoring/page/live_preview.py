"""Live pictures of the status page: drawn only while a browser asks for them, and once for all browsers."""

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from edge_agent import settings
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.publish.snapshots import Snapshots

# Interval and size of the pictures.
LIVE = settings.Snapshot(interval=0.25, max_side=960, max_size=120_000)
# Seconds without a request after which no more pictures are drawn.
PATIENCE = 5.0


class Picture(NamedTuple):
    """A JPEG with the predictions drawn into it, and its number; later ones have higher numbers."""

    number: int
    jpeg: bytes


@dataclass(slots=True)
class _Channel:
    """One pipeline: the observer that draws, the time of the last request, and the latest picture."""

    snapshots: Snapshots
    requested: float
    picture: Picture | None = None


class LivePreview:
    """Observes the pipelines whose pictures are being requested.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent
        self._channels: dict[tuple[str, bool], _Channel] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def latest(self, pipeline: str, *, plain: bool = False) -> Picture | None:
        """The latest picture; None if there has been none since the first request. Never waits for one.

        Args:
            pipeline: its name.
            plain: without anything drawn in.

        Raises:
            KeyError: there is no such pipeline.
        """
        options = self._agent.options_of(pipeline)
        observers = self._agent.observers_of(pipeline)
        key = pipeline, plain
        with self._lock:
            channel = self._channels.get(key)
            if channel is None or channel.snapshots not in observers:
                snapshots = Snapshots(options, LIVE, partial(self._show, key), plain=plain)
                channel = self._channels[key] = _Channel(
                    snapshots, time.monotonic(), None if channel is None else channel.picture
                )
                observers.append(snapshots)
            channel.requested = time.monotonic()
            return channel.picture

    def _show(self, key: tuple[str, bool], jpeg: bytes) -> None:
        """Takes a picture, in the pipeline's thread; stops observing if there were no requests for a while."""
        with self._lock:
            channel = self._channels.get(key)
            if channel is None:
                return
            channel.picture = Picture(next(self._numbers), jpeg)
            if time.monotonic() - channel.requested > PATIENCE:
                del self._channels[key]
                with contextlib.suppress(ValueError):
                    self._agent.observers_of(key[0]).remove(channel.snapshots)
