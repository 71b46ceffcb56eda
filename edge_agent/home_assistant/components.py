"""The parts of which entities of Home Assistant are made."""

import json
from typing import Any

Component = dict[str, Any]


def number(title: str, topic: str, template: str) -> Component:
    """A sensor of a number."""
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": template,
        "state_class": "measurement",
    }


def binary(title: str, topic: str, template: str, device_class: str) -> Component:
    """A sensor that is on or off."""
    return {
        "platform": "binary_sensor",
        "name": title,
        "state_topic": topic,
        "value_template": template,
        "device_class": device_class,
    }


def diagnostic(component: Component) -> Component:
    """The same among the diagnostics of the device."""
    return component | {"entity_category": "diagnostic"}


def first(found: str) -> str:
    """A Jinja expression: the first of a list, or an empty mapping."""
    return f"({found} | first | default({{}}))"


def value_of(found: str) -> str:
    """A template: the value of the first prediction of a list."""
    return f"{{{{ {first(found)}.value | default(None) }}}}"


def literal(text: str) -> str:
    """A string literal in a template: Jinja understands the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)
