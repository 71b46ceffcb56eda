"""The discovery message for Home Assistant: an entity for each thing that a device's pipelines report. Performs no I/O.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, and for each platform
https://www.home-assistant.io/integrations/sensor.mqtt/, …/binary_sensor.mqtt/, …/image.mqtt/.

Templates are Jinja. They must render for every document of their topic, also with no predictions or with null.
Home Assistant shows `None` as unknown.
"""

import itertools
import json
import math
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from edge_agent import __version__, settings
from edge_agent.home_assistant.components import Component, binary, first, literal, number, value_of
from edge_agent.home_assistant.diagnostics import of_device, of_model, of_performance, of_updates, trouble
from edge_agent.home_assistant.events import MAX_PARTS, is_trigger, of_events
from edge_agent.home_assistant.ids import safe
from edge_agent.home_assistant.quantities import as_people_write, as_written, quantity
from edge_agent.pipeline.tasks import TASKS_WITH_CONFIDENCE
from edge_agent.postprocess.meter import unit_of
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.preprocess.prepare import units_of
from edge_agent.samples import NO_LABEL
from edge_agent.settings.monitoring import is_loopback, split_address

# A state has at most 255 characters, and what is recorded of attributes at most 16 KiB.
MAX_STATE = 255
MAX_TEXT = 4000
_COUNT = {"icon": "mdi:counter"}


class Model(Protocol):
    """The properties of a loaded model that are used here; see `models.model.Model`."""

    @property
    def task(self) -> str: ...  # noqa: D102 - see there

    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102 - see there

    @property
    def threshold(self) -> float | None: ...  # noqa: D102 - see there


def document(topic: str, options: settings.Settings, models: Mapping[str, Model]) -> dict[str, Any]:
    """The discovery message of a device.

    Args:
        topic: prefix of the device's topics.
        options: of the device.
        models: the loaded models, by name.
    """
    device = safe(options.device_id)
    components = dict(_components(topic, options, models))
    for name, component in components.items():
        if is_trigger(component):
            continue
        component["unique_id"] = f"edge-agent.{device}.{name}"
        component["name"] = as_people_write(component["name"])
    about = {
        "identifiers": [f"edge-agent.{device}"],
        "name": options.device_id,
        "manufacturer": "edge-agent",
        "model": "edge-agent",
        "sw_version": __version__,
    }
    if (page := options.http) is not None and not is_loopback(page.listen) and page.trusted_proxy is None:
        about["configuration_url"] = _page(page.listen)
    return {
        "device": about,
        "origin": {"name": "edge-agent", "sw_version": __version__},
        # A list, since a component that has one of its own may not inherit `availability_topic`.
        "availability": [{"topic": f"{topic}/status"}],
        "components": components,
    }


def _page(listen: str) -> str:
    """URL of the status page for other machines; by this machine's name if it listens on every address."""
    host, port = split_address(listen)
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        name = socket.gethostname()
        host = name if "." in name else f"{name}.local"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _components(topic: str, options: settings.Settings, models: Mapping[str, Model]) -> Iterator[tuple[str, Component]]:
    yield from of_device(f"{topic}/stats")
    for name, pipeline in options.pipelines.items():
        model = models[pipeline.model_name]
        delay = _delay(options.home_assistant.presence_delay, pipeline)
        findings = Findings(name, f"{topic}/{name}/result", "value_json.predictions", delay)
        # What a pipeline has found is not known while its source is away, though the device is online.
        both = [{"topic": f"{topic}/status"}, {"topic": f"{topic}/{name}/status"}]
        available = {"availability": both, "availability_mode": "all"}
        its = _of_results(findings, pipeline, model)
        yield from ((f"pipelines.{safe(name)}.{part}", component | available) for part, component in its)
        for zone in pipeline.filters.zones:
            yield f"pipelines.{safe(name)}.zones.{safe(zone)}", _zone(findings, zone) | available
        if pipeline.object_pictures is not None:
            best = {"platform": "image", "name": f"{name} object", "image_topic": f"{topic}/{name}/object"}
            yield f"pipelines.{safe(name)}.object", best | {"content_type": "image/jpeg"} | available
        for line, way in itertools.product(pipeline.lines, ("in", "out")):
            part = f"pipelines.{safe(name)}.lines.{safe(line)}.{way}"
            yield part, _crossings(f"{name} {line} {way}", findings.topic, line, way) | available
        for part, component in of_events(name, topic, pipeline, model.labels):
            yield f"pipelines.{safe(name)}.{part}", component | ({} if is_trigger(component) else available)
        yield f"pipelines.{safe(name)}.running", _running(name, topic)
        if model.task in TASKS_WITH_CONFIDENCE and pipeline.meter is None:
            yield f"pipelines.{safe(name)}.threshold", _threshold(name, topic)
        yield f"pipelines.{safe(name)}.trouble", trouble(name, f"{topic}/info")
        yield from of_performance(name, f"{topic}/stats")
        if pipeline.snapshot is not None:
            picture = {"platform": "image", "name": f"{name} snapshot", "image_topic": f"{topic}/{name}/snapshot"}
            yield f"pipelines.{safe(name)}.snapshot", picture | {"content_type": "image/jpeg"} | available
    for name in sorted(models):
        yield from of_model(name, topic)
    if options.update is not None:
        yield from of_updates(topic, options.update.models)


class Findings(NamedTuple):
    """A list of predictions in the results of a pipeline.

    Attributes:
        title: name of its entities, or the beginning of their names.
        topic: of the results.
        found: a Jinja expression for the list.
        delay: seconds without an object after which presence is off; None: off at once.
    """

    title: str
    topic: str
    found: str
    delay: float | None


def _of_results(all_of_them: Findings, options: settings.Pipeline, model: Model) -> Iterator[tuple[str, Component]]:
    """The entities of a pipeline's results, by its task; with regions, of each region."""
    if model.task == "text":
        yield "text", _text(all_of_them.title, all_of_them.topic)
        return
    if options.meter is not None:
        yield "meter", _meter(all_of_them, options.meter)
        return
    if not options.regions or len(options.regions) > MAX_PARTS:
        yield from _of_task(all_of_them, options, model)
        return
    for region in options.regions:
        found = f"({all_of_them.found} | selectattr('region', 'eq', {literal(region)}) | list)"
        its = all_of_them._replace(title=f"{all_of_them.title} {region}", found=found)
        for part, component in _of_task(its, options, model):
            yield f"regions.{safe(region)}.{part}", component


def _of_task(findings: Findings, options: settings.Pipeline, model: Model) -> Iterator[tuple[str, Component]]:
    """The entities for a list of predictions."""
    title, topic, found, _ = findings
    match model.task:
        case "classification" | "ocr" | "transcription":
            yield "label", _label(findings)
            yield "confidence", _confidence(findings)
        case "detection" | "pose" | "segmentation":
            yield from _objects(findings, options.filters.labels or model.labels)
        case "anomaly" if isinstance(options.model, settings.Statistics):
            yield from _readings(findings, options)
        case "anomaly":
            score = number(title, topic, value_of(found)) | {"icon": "mdi:sine-wave"}
            if options.anomaly is not None or model.threshold is not None:
                known = f"{{% set label = {first(found)}.label | default('') %}}"
                state = f"{known}{{{{ ('ON' if label == '{ANOMALY}' else 'OFF') if label else None }}}}"
                yield "problem", binary(f"{title} anomaly", topic, state, "problem")
                score |= {"enabled_by_default": False, "entity_category": "diagnostic"}  # it changes with each result
            yield "score", score
        case "regression":
            labels = model.labels
            if not 1 < len(labels) <= MAX_PARTS:
                yield "value", number(title, topic, value_of(found))
                return
            for place, label in enumerate(labels):
                its = f"({found} | selectattr('class_id', 'eq', {place}) | list)"
                yield f"values.{place}", number(f"{title} {label}", topic, value_of(its))


def _readings(findings: Findings, options: settings.Pipeline) -> Iterator[tuple[str, Component]]:
    """The readings that the built-in detector judges, where their names are known, and whether each is unusual."""
    title, topic, found, _ = findings
    units = units_of(options.source)
    names = tuple(units) or getattr(options.source, "channels", None) or ()
    state = f"{{{{ 'ON' if {found} | selectattr('label', 'eq', '{ANOMALY}') | list else 'OFF' }}}}"
    if not isinstance(names, tuple) or not 0 < len(names) <= MAX_PARTS:
        yield "problem", binary(f"{title} anomaly", topic, state, "problem")
        return
    for name in names:
        its = f"({found} | selectattr('channel', 'eq', {literal(name)}) | list)"
        # A message need not have all readings. Home Assistant ignores an empty state.
        reading = f"{{{{ {first(its)}.reading | default('') }}}}"
        component = number(f"{title} {as_written(name)}", topic, reading) | quantity(name, units.get(name, ""))
        yield f"readings.{safe(name)}.value", component
        unusual = f"{{{{ ('ON' if {first(its)}.label == '{ANOMALY}' else 'OFF') if {its} else '' }}}}"
        problem = binary(f"{title} {as_written(name)} anomaly", topic, unusual, "problem")
        # No score and no reading: what changes with each result would be recorded with each.
        known = ", ".join(f"'{key}': {first(its)}.{key} | default(None)" for key in ("reason", "expected"))
        facts = f"{{{{ {{{known}}} | tojson }}}}"
        attributes = {"json_attributes_topic": topic, "json_attributes_template": facts}
        yield f"readings.{safe(name)}.problem", problem | attributes


def _meter(findings: Findings, options: settings.Meter) -> Component:
    """The value of a meter; what was read, and why it was refused, as attributes."""
    title, topic, found, _ = findings
    return number(title, topic, value_of(found)) | {
        "device_class": options.kind,
        "unit_of_measurement": unit_of(options),
        "state_class": "total_increasing",
        "suggested_display_precision": options.decimals,
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {first(found)} | tojson }}}}",
    }


def _label(findings: Findings) -> Component:
    """The most confident label, or the number of its class."""
    title, topic, found, _ = findings
    label = "(one.label | default(one.class_id) | string)"
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{% set one = {found} | first | default('') %}}"
        f"{{{{ {label}[:{MAX_STATE}] if one else '{NO_LABEL}' }}}}",
        "icon": "mdi:tag-text",
    }


def _confidence(findings: Findings) -> Component:
    """Of the most confident label. It changes with each result, so it is off until somebody turns it on."""
    title, topic, found, _ = findings
    percent = f"{{% set one = {first(found)}.confidence | default(None) %}}{{{{ None if one is none else one * 100 }}}}"
    shown = {"unit_of_measurement": "%", "suggested_display_precision": 0, "icon": "mdi:percent"}
    off = {"enabled_by_default": False, "entity_category": "diagnostic"}
    return number(f"{title} confidence", topic, percent) | shown | off


def _objects(findings: Findings, labels: tuple[str, ...]) -> Iterator[tuple[str, Component]]:
    """The number of objects and whether there is one: for each label, or with too many labels for all together."""
    if not 0 < len(labels) <= MAX_PARTS:
        yield "count", number(findings.title, findings.topic, f"{{{{ {findings.found} | length }}}}") | _COUNT
        yield "presence", _presence(findings)
        return
    for label in dict.fromkeys(labels):
        found = f"({findings.found} | selectattr('label', 'eq', {literal(label)}) | list)"
        its = findings._replace(title=f"{findings.title} {label}", found=found)
        yield f"labels.{safe(label)}.count", number(its.title, its.topic, f"{{{{ {found} | length }}}}") | _COUNT
        yield f"labels.{safe(label)}.presence", _presence(its)


def _running(name: str, topic: str) -> Component:
    """A switch that pauses a pipeline."""
    paused = f"(value_json.pipelines[{literal(name)}] | default({{}})).paused | default(false)"
    return {
        "platform": "switch",
        "name": f"{name} running",
        "state_topic": f"{topic}/info",
        "value_template": f"{{{{ 'OFF' if {paused} else 'ON' }}}}",
        "command_topic": f"{topic}/cmd",
        "payload_on": json.dumps({"command": "pause", "pipeline": name, "paused": False}),
        "payload_off": json.dumps({"command": "pause", "pipeline": name, "paused": True}),
        "state_on": "ON",
        "state_off": "OFF",
        "entity_category": "config",
        "icon": "mdi:play-pause",
    }


def _threshold(name: str, topic: str) -> Component:
    """The least confidence of what a pipeline finds."""
    used = f"(value_json.pipelines[{literal(name)}] | default({{}})).min_confidence | default(None)"
    command = {"command": "threshold", "pipeline": name, "min_confidence": 0}
    before, after = json.dumps(command, ensure_ascii=False).rsplit("0", 1)
    return {
        "platform": "number",
        "name": f"{name} threshold",
        "state_topic": f"{topic}/info",
        "value_template": f"{{{{ {used} }}}}",
        "command_topic": f"{topic}/cmd",
        "command_template": f"{{{{ {literal(before)} }}}}{{{{ value }}}}{{{{ {literal(after)} }}}}",
        "min": 0,
        "max": 1,
        "step": 0.01,
        "entity_category": "config",
        "icon": "mdi:tune",
    }


def _crossings(title: str, topic: str, line: str, way: str) -> Component:
    """How many objects have crossed a line in a direction; it falls only where it begins again from 0."""
    total = f"((value_json.lines | default({{}})).get({literal(line)}, {{}}).get('{way}'))"
    return number(title, topic, f"{{{{ {total} }}}}") | {"state_class": "total_increasing", "icon": "mdi:counter"}


def _presence(findings: Findings) -> Component:
    """Whether there is an object. With a delay, Home Assistant turns it off by itself.

    The delay counts from the last result with an object. Home Assistant ignores an empty state.
    """
    title, topic, found, delay = findings
    gone = "'OFF'" if delay is None else "('' if this.state == 'on' else 'OFF')"
    component = binary(f"{title} presence", topic, f"{{{{ 'ON' if {found} else {gone} }}}}", "occupancy")
    return component if delay is None else component | {"off_delay": math.ceil(delay)}


def _zone(findings: Findings, zone: str) -> Component:
    """Whether there is an object in a zone."""
    inside = f"{findings.found} | map(attribute='zones', default=[]) | sum(start=[])"
    gone = "'OFF'" if findings.delay is None else "('' if this.state == 'on' else 'OFF')"
    state = f"{{{{ 'ON' if {literal(zone)} in ({inside}) else {gone} }}}}"
    component = binary(f"{findings.title} {zone}", findings.topic, state, "occupancy")
    return component if findings.delay is None else component | {"off_delay": math.ceil(findings.delay)}


def _delay(stated: float | None, options: settings.Pipeline) -> float | None:
    """Seconds without an object after which presence is off; see `Findings.delay`.

    The time during which results may be left out because nothing has changed is added.
    """
    if stated is None or (options.publish.on_change and options.publish.heartbeat is None):
        return None
    return (
        stated
        + (options.publish.heartbeat or options.publish.min_interval)
        + (options.gate.heartbeat if options.gate else 0)
    )


def _text(title: str, topic: str) -> Component:
    text = "(value_json.text | default('', true))"
    ended = "value_json.finish_reason | default(None)"
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{{{ {text}[:{MAX_STATE}] or None }}}}",
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {{'text': {text}[:{MAX_TEXT}], 'finish_reason': {ended}}} | tojson }}}}",
    }
