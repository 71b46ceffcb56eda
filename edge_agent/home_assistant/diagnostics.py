"""The entities that show how a device is: off until somebody turns them on, but for what is wrong and what is lost.

Home Assistant records every change of a state that is on, and these change with each `stats`.
"""

import json
from collections.abc import Iterable, Iterator

from edge_agent.home_assistant.components import Component, binary, diagnostic, literal, number
from edge_agent.home_assistant.ids import safe

MAX_TEXT = 4000


def of_device(stats: str) -> Iterator[tuple[str, Component]]:
    """Temperature, throttling, waiting and lost results.

    Args:
        stats: topic of the counters.
    """
    counted = "value_json.pipelines.values()"
    yield (
        "device.temperature",
        _off(number("Temperature", stats, "{{ value_json.thermal.temperature_c }}"))
        | {"device_class": "temperature", "unit_of_measurement": "°C", "suggested_display_precision": 1},
    )
    hot = "{% set hot = value_json.thermal.throttled %}{{ None if hot is none else 'ON' if hot else 'OFF' }}"
    yield "device.throttled", diagnostic(binary("Throttled", stats, hot, "problem"))
    waiting = f"{{{{ {counted} | map(attribute='queued') | sum }}}}"
    yield "device.waiting", _off(number("Results waiting", stats, waiting)) | {"icon": "mdi:tray-full"}
    lost = (
        "{% set ns = namespace(lost=0) %}"
        f"{{% for counts in {counted} %}}{{% set ns.lost = ns.lost + counts.discarded.values() | sum %}}{{% endfor %}}"
        "{{ ns.lost }}"
    )
    further = {"state_class": "total_increasing", "icon": "mdi:tray-alert"}
    yield "device.lost", diagnostic(number("Results lost", stats, lost)) | further


def of_performance(name: str, stats: str) -> Iterator[tuple[str, Component]]:
    """How fast a pipeline is, and what waits for it. Until it is first counted, nothing is known."""
    its = f"pipelines.{safe(name)}"
    speed = f"(value_json.performance[{literal(name)}] | default({{}}))"
    counts = f"(value_json.pipelines[{literal(name)}] | default({{}}))"
    table: tuple[tuple[str, str, str, Component], ...] = (
        ("rate", "rate", f"{speed}.inferred_per_s", {"unit_of_measurement": "1/s", "icon": "mdi:speedometer"}),
        ("inference", "inference time", f"{speed}.inference_ms", {"unit_of_measurement": "ms", "icon": "mdi:timer"}),
        ("queue", "queue", f"{counts}.in_progress", {"icon": "mdi:tray-full"}),
    )
    for part, title, shown, further in table:
        template = f"{{{{ {shown} | default(None) }}}}"
        yield f"{its}.{part}", _off(number(f"{name} {title}", stats, template)) | further


def trouble(name: str, info: str) -> Component:
    """Whether a pipeline does not work; why, as an attribute."""
    problem = f"(value_json.pipelines[{literal(name)}] | default({{}})).problem"
    component = binary(f"{name} problem", info, f"{{{{ 'ON' if {problem} | default('') else 'OFF' }}}}", "problem")
    reason = f"{{{{ {{'problem': ({problem} | default('', true))[:{MAX_TEXT}]}} | tojson }}}}"
    return diagnostic(component) | {"json_attributes_topic": info, "json_attributes_template": reason}


def of_model(name: str, topic: str) -> Iterator[tuple[str, Component]]:
    """The version of a model, and the accelerator in use."""
    facts = f"(value_json.models[{literal(name)}] | default({{}}))"
    for part, title, what, shown in (
        ("accelerator", "accelerator", "accelerator", "in_use"),
        ("version", "version", "info", "version"),
    ):
        component = {
            "platform": "sensor",
            "name": f"{name} {title}",
            "state_topic": f"{topic}/{what}",
            "value_template": f"{{{{ {facts}.{shown} | default(None) }}}}",
            "icon": "mdi:chip" if part == "accelerator" else "mdi:tag",
        }
        yield f"models.{safe(name)}.{part}", _off(component)


def _off(component: Component) -> Component:
    """A diagnostic that is off until somebody turns it on; without statistics, since it is noise."""
    kept = {key: value for key, value in component.items() if key != "state_class"}
    return diagnostic(kept) | {"enabled_by_default": False}


def of_updates(topic: str, updated: Iterable[str]) -> Iterator[tuple[str, Component]]:
    """The step of each model's latest update and why, whether checks fail and why, and a button that checks now."""
    for name in updated:
        facts = f"(value_json.models[{literal(name)}] | default({{}}))"
        component = {
            "platform": "sensor",
            "name": f"{name} update",
            "state_topic": f"{topic}/update",
            "value_template": f"{{{{ {facts}.step | default(None) }}}}",
            "json_attributes_topic": f"{topic}/update",
            "json_attributes_template": (
                f"{{{{ {{'version': {facts}.version | default('', true), "
                f"'reason': ({facts}.reason | default('', true))[:{MAX_TEXT}]}} | tojson }}}}"
            ),
        }
        yield f"models.{safe(name)}.update", diagnostic(component)
        yield f"models.{safe(name)}.available", _available(name, topic, facts)
    failing = "{{ 'ON' if value_json.error | default('') else 'OFF' }}"
    failed = binary("Update problem", f"{topic}/update", failing, "problem")
    why = f"{{{{ {{'problem': (value_json.error | default('', true))[:{MAX_TEXT}]}} | tojson }}}}"
    attributes = {"json_attributes_topic": f"{topic}/update", "json_attributes_template": why}
    yield "device.update_trouble", diagnostic(failed) | attributes
    button = {"platform": "button", "name": "Look for updates", "command_topic": f"{topic}/cmd"}
    yield "device.update", button | {"payload_press": json.dumps({"command": "update"}), "entity_category": "config"}


# Steps of an update whose version is not the one in use, and may come to be.
_COMING = ("downloading", "verified", "trying", "shadow", "undecided")
_IN_USE = ("activated", "probation", "committed")


def _available(name: str, topic: str, facts: str) -> Component:
    """The version in use, and a newer one while it is tried. Home Assistant ignores an empty version."""
    newest = f"({facts}.version | default('', true)).rpartition('/')[2]"
    known = f"{facts}.step | default('') in {list(_COMING + _IN_USE)}"
    return {
        "platform": "update",
        "name": f"{name} model",
        "state_topic": f"{topic}/info",
        "value_template": f"{{{{ {facts}.version | default('') }}}}",
        "latest_version_topic": f"{topic}/update",
        "latest_version_template": f"{{{{ {newest} if {known} else '' }}}}",
        "command_topic": f"{topic}/cmd",
        "payload_install": json.dumps({"command": "update"}),
        "entity_category": "config",
    }
