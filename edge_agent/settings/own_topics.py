"""The topics on which an agent publishes: an input source that matches one of them would take its own results."""

from collections.abc import Iterable, Iterator

from edge_agent.settings import Settings
from edge_agent.settings.tools import topics_of
from edge_agent.settings.topics import ANY_LABEL, overlap

_OF_DEVICE = ("status", "info", "stats", "accelerator", "update", "cmd/reply")
_OF_PIPELINE = ("result", "result/stream", "error", "event", "snapshot", "object", "status", "share")


def own_topics(options: Settings) -> Iterator[str]:
    """Topics on which the agent publishes; in those of `publish.topic`, `{label}` stands for any label."""
    yield from _built_in(options)
    yield from further_topics(options).values()
    actions = (action for pipeline in options.pipelines.values() for action in pipeline.actions)
    yield from (action.publish.topic for action in actions if action.publish is not None)
    tools = (tool for pipeline in options.pipelines.values() for tool in pipeline.text.tools.values())
    yield from (topic for tool in tools for topic in topics_of(tool, tool.mqtt.topic))


def further_topics(options: Settings) -> dict[str, str]:
    """The topics of `publish.topic`, by pipeline; see `own_topics`."""
    return {
        name: template.replace("{device_id}", options.device_id).replace("{pipeline}", name)
        for name, pipeline in options.pipelines.items()
        if (template := pipeline.publish.topic) is not None
    }


def built_in_topic(options: Settings, topic: str) -> str:
    """The topic of the agent's own documents that a topic of `publish.topic` is, or may become; empty: none."""
    return next((built_in for built_in in _built_in(options) if overlap(built_in, topic)), "")


def _built_in(options: Settings) -> Iterator[str]:
    device = f"{options.mqtt.topic_prefix}/{options.device_id}"
    yield from (f"{device}/{name}/{kind}" for name in options.pipelines for kind in _OF_PIPELINE)
    yield from (f"{device}/{kind}" for kind in _OF_DEVICE)
    if options.home_assistant.enabled:
        yield f"{options.home_assistant.prefix}/device/{ANY_LABEL}/config"


def own_topic(options: Settings, topic_filter: str) -> str:
    """The first of the agent's own topics that a topic filter matches; empty: none."""
    return next((topic for topic in own_topics(options) if overlap(topic_filter, topic)), "")


class OwnTopics:
    """Which topics an agent publishes on, for many questions.

    Args:
        topics: see `own_topics`.
    """

    def __init__(self, topics: Iterable[str] = ()) -> None:
        known = set(topics)
        self._templates = [topic for topic in known if ANY_LABEL in topic]
        self._exact = known.difference(self._templates)

    def __contains__(self, topic: str) -> bool:
        return topic in self._exact or any(overlap(topic, template) for template in self._templates)
