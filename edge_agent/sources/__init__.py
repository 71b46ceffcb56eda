"""Sources: where samples come from. One file a source.

A source that iterates (a camera, a file) is run in a thread by `reader.Reader`; one that is called (MQTT) feeds the
queue itself.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError
from edge_agent.language.questions import PromptTemplate
from edge_agent.preprocess.regions import Rectangle
from edge_agent.settings.own_topics import OwnTopics
from edge_agent.sources.packet_ring import PacketRing
from edge_agent.sources.queue import SampleQueue

if TYPE_CHECKING:
    from edge_agent.mqtt.endpoint import Endpoint
    from edge_agent.sources.observer import ResultObserver

Trouble = Callable[[EdgeAgentError], None]

# Type of the source in the configuration -> the module that implements it, imported when a pipeline names it.
SOURCES = {
    "mqtt": "edge_agent.sources.mqtt",
    "camera": "edge_agent.sources.camera",
    "ai_camera": "edge_agent.sources.ai_camera",
    "video": "edge_agent.sources.video",
    "images": "edge_agent.sources.images",
    "pipeline": "edge_agent.sources.pipeline",
    "command": "edge_agent.sources.command",
    "serial": "edge_agent.sources.serial",
    "iio": "edge_agent.sources.iio",
    "microphone": "edge_agent.sources.microphone",
    "audio": "edge_agent.sources.audio",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a source may need to know of the agent around it.

    Attributes:
        folder: what relative paths are relative to.
        topic: what the topics of the pipeline begin with: prefix, device, pipeline.
        endpoint: the broker.
        mqtt: the broker's settings.
        cancel: called with the id of a request that is to be given up.
        prompt_template: of prompts about what other pipelines find; None: the pipeline has no language model.
        own_topics: on which the agent publishes.
        counters: of the pipeline.
        model_file: the file of the pipeline's model; None where it has none of its own.
        gate: what the pipeline says of motion.
        regions: of the pipeline; only motion inside them counts.
        state_topics: on which devices say their state, besides the source's own topic.
        hear: called with such a topic and what was said.
        packets: takes the packets of the source's stream; None: nobody needs them.
        observers_of: those who want to see the pictures and predictions of a pipeline, by its name; the list is shared.
    """

    folder: Path
    topic: str
    endpoint: "Endpoint"
    mqtt: settings.Mqtt
    cancel: Callable[[str], None] | None = None
    prompt_template: PromptTemplate | None = None
    own_topics: OwnTopics = field(default_factory=OwnTopics)
    counters: Counters = field(default_factory=Counters)
    model_file: Path | None = None
    gate: settings.Gate | None = None
    regions: Mapping[str, Rectangle] = field(default_factory=dict)
    state_topics: frozenset[str] = frozenset()
    hear: Callable[[str, bytes], None] = lambda _topic, _payload: None
    packets: PacketRing | None = None
    observers_of: "Callable[[str], list[ResultObserver]]" = field(default=lambda _: [])


class Source(Protocol):
    """Feeds samples into a pipeline's queue, from threads of its own."""

    live: bool
    """Whether the newest sample matters more than every sample."""
    capacity: int
    """Samples that may wait in memory."""

    @property
    def diagnosis(self) -> str:
        """Why no samples come though there should be some; empty: nothing is wrong. From any thread."""
        ...

    def start(self, queue: SampleQueue, trouble: Trouble) -> None:
        """Begins to feed.

        Args:
            queue: takes the samples; is closed by the source when a finite source has ended.
            trouble: called once each time the source has failed and is tried again.
        """
        ...

    def wait_ready(self, timeout: float) -> bool:
        """Waits until nothing that is sent from now on would be missed; returns whether that came in time.

        Args:
            timeout: seconds.
        """
        ...

    def stop(self) -> None:
        """Closes the queue and lets everything else end by itself; does not wait."""
        ...

    def close(self, deadline: float) -> None:
        """Called after `stop`, when every sample that was fed has been answered: frees the rest.

        Args:
            deadline: on the monotonic clock; what is not free then is left behind.
        """
        ...


def open_source(source: settings.Source, context: Context) -> Source:
    """The source that the settings describe; nothing is opened or connected yet."""
    module = importlib.import_module(SOURCES[source.type])
    return cast("Source", module.create(source, context))
