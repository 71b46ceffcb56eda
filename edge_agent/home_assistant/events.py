"""What happens in a pipeline, for Home Assistant: event entities, and triggers of the device for automations.

Sources: https://www.home-assistant.io/integrations/event.mqtt/ and …/device_trigger.mqtt/.
"""

from collections.abc import Iterator

from edge_agent import settings
from edge_agent.home_assistant.components import Component
from edge_agent.home_assistant.ids import safe

# With more labels, values or regions than this, a pipeline has no entity for each of them.
MAX_PARTS = 24
_SAID = "(value_json.predictions | first | default({})).label | default('')"


def of_events(
    name: str, topic: str, options: settings.Pipeline, labels: tuple[str, ...]
) -> Iterator[tuple[str, Component]]:
    """The event entities and triggers of a pipeline.

    Args:
        name: of the pipeline.
        topic: prefix of the device's topics.
        options: of the pipeline.
        labels: that its model gives.
    """
    if kinds := options.event_kinds:
        yield "events", _events(name, f"{topic}/{name}/event", kinds)
    wanted = tuple(label for label in labels if label in (options.filters.labels or labels))
    if len(wanted) > MAX_PARTS:
        return
    if isinstance(options.model, settings.Speech) and wanted:
        yield "heard", _heard(name, f"{topic}/{name}/result", wanted)
        yield from _triggers(f"{name} heard", f"{topic}/{name}/result", _SAID, wanted)
    elif options.smoothing is not None:
        started = "value_json.label if value_json.event == 'start' else ''"
        yield from _triggers(f"{name} started", f"{topic}/{name}/event", started, wanted)


def is_trigger(component: Component) -> bool:
    """Whether it is a trigger, which is no entity: it has no name, and is always available."""
    return bool(component["platform"] == "device_automation")


def _events(name: str, topic: str, kinds: list[str]) -> Component:
    """The latest event of a pipeline; what it is about, as attributes."""
    return {
        "platform": "event",
        "name": f"{name} event",
        "state_topic": topic,
        "event_types": kinds,
        "value_template": "{{ dict(value_json, event_type=value_json.event) | tojson }}",
        "icon": "mdi:bell-ring",
    }


def _heard(name: str, topic: str, phrases: tuple[str, ...]) -> Component:
    """The phrase that was said last. Home Assistant ignores an empty event."""
    return {
        "platform": "event",
        "name": f"{name} heard",
        "state_topic": topic,
        "event_types": list(phrases),
        "value_template": f"{{% set said = {_SAID} %}}{{{{ ({{'event_type': said}} | tojson) if said else '' }}}}",
        "icon": "mdi:account-voice",
    }


def _triggers(kind: str, topic: str, said: str, labels: tuple[str, ...]) -> Iterator[tuple[str, Component]]:
    """A trigger for each label.

    Args:
        kind: of trigger, as a person chooses it.
        topic: of the documents.
        said: a Jinja expression for the label that one is about, or an empty text.
        labels: as they are.
    """
    for label in labels:
        trigger = {"automation_type": "trigger", "topic": topic, "type": kind, "subtype": label, "payload": label}
        value = f"{{{{ {said} }}}}"
        yield f"triggers.{safe(label)}", {"platform": "device_automation", "value_template": value} | trigger
