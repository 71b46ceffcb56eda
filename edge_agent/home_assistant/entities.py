"""The discovery message for Home Assistant: an entity for each thing that a device's pipelines report. Performs no I/O.

Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, and for each platform
https://www.home-assistant.io/integrations/sensor.mqtt/, …/binary_sensor.mqtt/, …/image.mqtt/.

Templates are Jinja. They must render for every document of their topic, also with no predictions or with null.
Home Assistant shows `None` as unknown.
"""

import hashlib
import itertools
import json
import math
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from edge_agent import __version__, settings
from edge_agent.home_assistant.quantities import as_written, quantity
from edge_agent.postprocess.meter import unit_of
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.preprocess.prepare import units_of
from edge_agent.samples import NO_LABEL
from edge_agent.settings.monitoring import is_loopback, split_address

# With more labels, values or regions than this, a pipeline has no entity for each of them.
MAX_PARTS = 24
MAX_ID = 64
# A state has at most 255 characters, and what is recorded of attributes at most 16 KiB.
MAX_STATE = 255
MAX_TEXT = 4000
MAX_OTHERS = 5

Component = dict[str, Any]


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
        component["unique_id"] = f"edge-agent.{device}.{name}"
    about = {
        "identifiers": [f"edge-agent.{device}"],
        "name": options.device_id,
        "manufacturer": "edge-agent",
        "model": "edge-agent",
        "sw_version": __version__,
    }
    if options.http is not None and not is_loopback(options.http.listen):
        about["configuration_url"] = _page(options.http.listen)
    return {
        "device": about,
        "origin": {"name": "edge-agent", "sw_version": __version__},
        # A list, since a component that has one of its own may not inherit `availability_topic`.
        "availability": [{"topic": f"{topic}/status"}],
        "components": components,
    }


def safe(name: str) -> str:
    """A name for discovery topics and ids: letters, digits, `_` and `-`. Different names stay different.

    A name that has to be changed, or looks as if it had been, ends in a part of its hash.
    """
    mapped = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:MAX_ID]
    if mapped == name and not re.search(r"-[0-9a-f]{12}$", name):
        return name
    return f"{mapped}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def _page(listen: str) -> str:
    """URL of the status page for other machines; by this machine's name if it listens on every address."""
    host, port = split_address(listen)
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        name = socket.gethostname()
        host = name if "." in name else f"{name}.local"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _components(topic: str, options: settings.Settings, models: Mapping[str, Model]) -> Iterator[tuple[str, Component]]:
    yield from _of_device(f"{topic}/stats")
    for name, pipeline in options.pipelines.items():
        model = models[pipeline.model_name]
        delay = _delay(options.home_assistant.presence_delay, pipeline)
        findings = Findings(name, f"{topic}/{name}/result", "value_json.predictions", delay)
        # What a pipeline has found is not known while its source is away, though the device is online.
        both = [{"topic": f"{topic}/status"}, {"topic": f"{topic}/{name}/status"}]
        available = {"availability": both, "availability_mode": "all"}
        its = _of_results(findings, pipeline, model)
        yield from ((f"pipelines.{safe(name)}.{part}", component | available) for part, component in its)
        for line, way in itertools.product(pipeline.lines, ("in", "out")):
            part = f"pipelines.{safe(name)}.lines.{safe(line)}.{way}"
            yield part, _crossings(f"{name} {line} {way}", findings.topic, line, way) | available
        yield f"pipelines.{safe(name)}.trouble", _trouble(name, f"{topic}/info")
        yield from _of_performance(name, f"{topic}/stats")
        if pipeline.snapshot is not None:
            picture = {"platform": "image", "name": f"{name} snapshot", "image_topic": f"{topic}/{name}/snapshot"}
            yield f"pipelines.{safe(name)}.snapshot", picture | {"content_type": "image/jpeg"} | available
    for name in sorted(models):
        yield from _of_model(name, topic)
    if options.update is not None:
        yield from _of_updates(topic, options.update.models)


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
        found = f"({all_of_them.found} | selectattr('region', 'eq', {_literal(region)}) | list)"
        its = all_of_them._replace(title=f"{all_of_them.title} {region}", found=found)
        for part, component in _of_task(its, options, model):
            yield f"regions.{safe(region)}.{part}", component


def _of_task(findings: Findings, options: settings.Pipeline, model: Model) -> Iterator[tuple[str, Component]]:
    """The entities for a list of predictions."""
    title, topic, found, _ = findings
    match model.task:
        case "classification" | "ocr":
            yield "label", _label(findings)
        case "detection" | "pose" | "segmentation":
            yield from _objects(findings, options.filters.labels or model.labels)
        case "anomaly" if isinstance(options.model, settings.Statistics):
            yield from _readings(findings, options)
        case "anomaly":
            yield "score", _number(title, topic, _value(found))
            if options.anomaly is not None or model.threshold is not None:
                known = f"{{% set label = {_first(found)}.label | default('') %}}"
                state = f"{known}{{{{ ('ON' if label == '{ANOMALY}' else 'OFF') if label else None }}}}"
                yield "problem", _binary(f"{title} anomaly", topic, state, "problem")
        case "regression":
            labels = model.labels
            if not 1 < len(labels) <= MAX_PARTS:
                yield "value", _number(title, topic, _value(found))
                return
            for number, label in enumerate(labels):
                its = f"({found} | selectattr('class_id', 'eq', {number}) | list)"
                yield f"values.{number}", _number(f"{title} {label}", topic, _value(its))


def _readings(findings: Findings, options: settings.Pipeline) -> Iterator[tuple[str, Component]]:
    """The readings that the built-in detector judges, where their names are known, and whether each is unusual."""
    title, topic, found, _ = findings
    units = units_of(options.source)
    names = tuple(units) or getattr(options.source, "channels", None) or ()
    state = f"{{{{ 'ON' if {found} | selectattr('label', 'eq', '{ANOMALY}') | list else 'OFF' }}}}"
    if not isinstance(names, tuple) or not 0 < len(names) <= MAX_PARTS:
        yield "problem", _binary(f"{title} anomaly", topic, state, "problem")
        return
    for name in names:
        its = f"({found} | selectattr('channel', 'eq', {_literal(name)}) | list)"
        # A message need not have all readings. Home Assistant ignores an empty state.
        reading = f"{{{{ {_first(its)}.reading | default('') }}}}"
        component = _number(f"{title} {as_written(name)}", topic, reading) | quantity(name, units.get(name, ""))
        yield f"readings.{safe(name)}.value", component
        unusual = f"{{{{ ('ON' if {_first(its)}.label == '{ANOMALY}' else 'OFF') if {its} else '' }}}}"
        problem = _binary(f"{title} {as_written(name)} anomaly", topic, unusual, "problem")
        facts = f"{{{{ {_first(its)} | tojson }}}}"
        attributes = {"json_attributes_topic": topic, "json_attributes_template": facts}
        yield f"readings.{safe(name)}.problem", problem | attributes


def _meter(findings: Findings, options: settings.Meter) -> Component:
    """The value of a meter; what was read, and why it was refused, as attributes."""
    title, topic, found, _ = findings
    return _number(title, topic, _value(found)) | {
        "device_class": options.kind,
        "unit_of_measurement": unit_of(options),
        "state_class": "total_increasing",
        "suggested_display_precision": options.decimals,
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {_first(found)} | tojson }}}}",
    }


def _label(findings: Findings) -> Component:
    """The most confident label, or the number of its class; its confidence and the next predictions as attributes."""
    title, topic, found, _ = findings
    label = "(one.label | default(one.class_id) | string)"
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": f"{{% set one = {found} | first | default('') %}}"
        f"{{{{ {label}[:{MAX_STATE}] if one else '{NO_LABEL}' }}}}",
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {{'confidence': {_first(found)}.confidence | default(None),"
        f" 'predictions': {found}[:{MAX_OTHERS}]}} | tojson }}}}",
    }


def _objects(findings: Findings, labels: tuple[str, ...]) -> Iterator[tuple[str, Component]]:
    """The number of objects and whether there is one: for each label, or with too many labels for all together."""
    if not 0 < len(labels) <= MAX_PARTS:
        yield "count", _number(findings.title, findings.topic, f"{{{{ {findings.found} | length }}}}")
        yield "presence", _presence(findings)
        return
    for label in dict.fromkeys(labels):
        found = f"({findings.found} | selectattr('label', 'eq', {_literal(label)}) | list)"
        its = findings._replace(title=f"{findings.title} {label}", found=found)
        yield f"labels.{safe(label)}.count", _number(its.title, its.topic, f"{{{{ {found} | length }}}}")
        yield f"labels.{safe(label)}.presence", _presence(its)


def _crossings(title: str, topic: str, line: str, way: str) -> Component:
    """How many objects have crossed a line in a direction; it falls only where it begins again from 0."""
    total = f"((value_json.lines | default({{}})).get({_literal(line)}, {{}}).get('{way}'))"
    return _number(title, topic, f"{{{{ {total} }}}}") | {"state_class": "total_increasing", "icon": "mdi:counter"}


def _presence(findings: Findings) -> Component:
    """Whether there is an object. With a delay, Home Assistant turns it off by itself.

    The delay counts from the last result with an object. Home Assistant ignores an empty state.
    """
    title, topic, found, delay = findings
    gone = "'OFF'" if delay is None else "('' if this.state == 'on' else 'OFF')"
    component = _binary(f"{title} presence", topic, f"{{{{ 'ON' if {found} else {gone} }}}}", "occupancy")
    return component if delay is None else component | {"off_delay": math.ceil(delay)}


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


def _of_device(stats: str) -> Iterator[tuple[str, Component]]:
    counted = "value_json.pipelines.values()"
    yield (
        "device.temperature",
        _diagnostic(_number("Temperature", stats, "{{ value_json.thermal.temperature_c }}"))
        | {"device_class": "temperature", "unit_of_measurement": "°C", "suggested_display_precision": 1},
    )
    hot = "{% set hot = value_json.thermal.throttled %}{{ None if hot is none else 'ON' if hot else 'OFF' }}"
    yield "device.throttled", _diagnostic(_binary("Throttled", stats, hot, "problem"))
    waiting = f"{{{{ {counted} | map(attribute='queued') | sum }}}}"
    yield "device.waiting", _diagnostic(_number("Results waiting", stats, waiting))
    lost = (
        "{% set ns = namespace(lost=0) %}"
        f"{{% for counts in {counted} %}}{{% set ns.lost = ns.lost + counts.discarded.values() | sum %}}{{% endfor %}}"
        "{{ ns.lost }}"
    )
    yield (
        "device.lost",
        _diagnostic(_number("Results lost", stats, lost)) | {"state_class": "total_increasing"},
    )


def _of_performance(name: str, stats: str) -> Iterator[tuple[str, Component]]:
    """How fast a pipeline is, and what waits for it. Until it is first counted, nothing is known."""
    its = f"pipelines.{safe(name)}"
    speed = f"(value_json.performance[{_literal(name)}] | default({{}}))"
    counts = f"(value_json.pipelines[{_literal(name)}] | default({{}}))"
    table: tuple[tuple[str, str, str, Component], ...] = (
        ("rate", "rate", f"{speed}.inferred_per_s", {"unit_of_measurement": "1/s"}),
        ("inference", "inference time", f"{speed}.inference_ms", {"unit_of_measurement": "ms"}),
        ("queue", "queue", f"{counts}.in_progress", {}),
    )
    for part, title, value, further in table:
        template = f"{{{{ {value} | default(None) }}}}"
        yield f"{its}.{part}", _diagnostic(_number(f"{name} {title}", stats, template)) | further


def _trouble(name: str, info: str) -> Component:
    """Whether a pipeline does not work; why, as an attribute."""
    problem = f"(value_json.pipelines[{_literal(name)}] | default({{}})).problem"
    component = _binary(f"{name} problem", info, f"{{{{ 'ON' if {problem} | default('') else 'OFF' }}}}", "problem")
    reason = f"{{{{ {{'problem': ({problem} | default('', true))[:{MAX_TEXT}]}} | tojson }}}}"
    return _diagnostic(component) | {"json_attributes_topic": info, "json_attributes_template": reason}


def _of_model(name: str, topic: str) -> Iterator[tuple[str, Component]]:
    facts = f"(value_json.models[{_literal(name)}] | default({{}}))"
    for part, title, what, value in (
        ("accelerator", "accelerator", "accelerator", "in_use"),
        ("version", "version", "info", "version"),
    ):
        component = {
            "platform": "sensor",
            "name": f"{name} {title}",
            "state_topic": f"{topic}/{what}",
            "value_template": f"{{{{ {facts}.{value} | default(None) }}}}",
        }
        yield f"models.{safe(name)}.{part}", _diagnostic(component)


def _of_updates(topic: str, updated: Iterable[str]) -> Iterator[tuple[str, Component]]:
    """The step of each model's latest update and why, whether checks fail and why, and a button that checks now."""
    for name in updated:
        facts = f"(value_json.models[{_literal(name)}] | default({{}}))"
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
        yield f"models.{safe(name)}.update", _diagnostic(component)
    failing = "{{ 'ON' if value_json.error | default('') else 'OFF' }}"
    failed = _binary("Update problem", f"{topic}/update", failing, "problem")
    why = f"{{{{ {{'problem': (value_json.error | default('', true))[:{MAX_TEXT}]}} | tojson }}}}"
    attributes = {"json_attributes_topic": f"{topic}/update", "json_attributes_template": why}
    yield "device.update_trouble", _diagnostic(failed) | attributes
    button = {"platform": "button", "name": "Look for updates", "command_topic": f"{topic}/cmd"}
    yield "device.update", button | {"payload_press": json.dumps({"command": "update"}), "entity_category": "config"}


def _number(title: str, topic: str, template: str) -> Component:
    return {
        "platform": "sensor",
        "name": title,
        "state_topic": topic,
        "value_template": template,
        "state_class": "measurement",
    }


def _binary(title: str, topic: str, template: str, device_class: str) -> Component:
    return {
        "platform": "binary_sensor",
        "name": title,
        "state_topic": topic,
        "value_template": template,
        "device_class": device_class,
    }


def _diagnostic(component: Component) -> Component:
    return component | {"entity_category": "diagnostic"}


def _first(found: str) -> str:
    return f"({found} | first | default({{}}))"


def _value(found: str) -> str:
    return f"{{{{ {_first(found)}.value | default(None) }}}}"


def _literal(text: str) -> str:
    """A string literal in a template: Jinja understands the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)
