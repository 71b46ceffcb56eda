"""A quiet house is quiet in Home Assistant's database, too.

Source of what is recorded: https://www.home-assistant.io/integrations/recorder/; a row for each change of a state or of
its attributes. A message that changes neither leaves none. A picture and an event are a change each.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent import settings
from edge_agent.home_assistant.entities import document
from edge_agent.publish.snapshots import Snapshots
from edge_agent.samples import Prediction, Sample
from edge_agent.settings import Settings
from edge_agent.sources.observer import Observation
from tests.home_assistant.test_entities import Model

ROWS_A_DAY = 5000
SECONDS = 3600  # of the day are simulated; there is a visitor in them
VISIT = range(1800, 1830)
CAMERA = {"type": "camera"}
SENSOR = {"type": "mqtt", "topic": "zigbee2mqtt/cellar", "fields": {"temperature": "degC", "humidity": "%"}}
PIPELINES: dict[str, dict[str, Any]] = {
    "yard": {"source": CAMERA, "model": "people", "filters": {"labels": ["person"]}, "tracking": {}, "snapshot": {}},
    "porch": {"source": CAMERA, "model": "photos"},
    "pump": {"source": {"type": "mqtt", "topic": "pump"}, "model": "vibration"},
    "hall": {"source": {"type": "microphone"}, "model": "sounds", "smoothing": {}},
    "meter": {
        "source": CAMERA | {"every": "10m"},
        "model": "digits",
        "meter": {"kind": "water", "box": [0, 0, 60, 10], "digits": 6},
    },
    "cellar": {"source": SENSOR, "model": {"type": "statistics"}},
}
MODELS = {
    "people": Model("detection", ("person", "dog")),
    "photos": Model("classification", ("cat", "dog")),
    "vibration": Model("anomaly", threshold=0.5),
    "sounds": Model("classification", ("silence", "speech")),
    "digits": Model("classification"),
    "statistics": Model("anomaly", threshold=1.0),
}


def messages(random_: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a device publishes, second after second: topic, document. Confidences and temperatures are never still."""
    for second in range(SECONDS):
        person = {"label": "person", "class_id": 0, "confidence": random_.random(), "track_id": 1}
        yield "yard/result", {"predictions": [person] if second in VISIT else []}
        if second in (VISIT.start, VISIT.stop):
            yield "yard/event", {"event": "enter" if second == VISIT.start else "leave", **person}
        cat = {"label": "cat", "class_id": 0, "confidence": round(random_.uniform(0.8, 0.99), 4)}
        yield "porch/result", {"predictions": [cat]}
        yield "pump/result", {"predictions": [{"value": random_.random() / 3, "label": "normal"}]}
        yield "hall/result", {"predictions": [{"label": "silence", "class_id": 0, "confidence": random_.random()}]}
        if second % 600 == 0:
            read = {"value": 123.0 + second // 600, "unit": "m³", "digits": "000123", "carried": 0, "confidence": 0.99}
            yield "meter/result", {"predictions": [read]}
        if second % 300 == 0:
            warm = {"channel": "temperature", "reading": 4.2 + round(random_.gauss(0, 0.1), 1), "label": "normal"}
            yield "cellar/result", {"predictions": [warm | {"value": random_.random(), "expected": [3.9, 5.1]}]}
        if second % 10 == 0:
            yield "stats", stats(random_)


def stats(random_: random.Random) -> dict[str, Any]:
    speed = {name: {"inferred_per_s": random_.random(), "inference_ms": random_.random()} for name in PIPELINES}
    return {
        "thermal": {"temperature_c": round(random_.gauss(60, 1), 1), "throttled": False},
        "pipelines": {name: {"queued": random_.randint(0, 2), "discarded": {"expired": 0}} for name in PIPELINES},
        "performance": speed,
    }


def test_six_pipelines_in_a_quiet_house_make_at_most_5000_rows_a_day() -> None:
    models = {name: {"path": "model.tflite"} for name in MODELS if name != "statistics"}
    house = {"home_assistant": {"enabled": True}, "models": models, "pipelines": PIPELINES}
    options = Settings.model_validate(house)
    components = document("edge/pi", options, MODELS)["components"]
    on = {name: one for name, one in components.items() if one.get("enabled_by_default", True)}
    environment = ImmutableSandboxedEnvironment()
    listening: dict[str, list[tuple[str, Template, Template | None]]] = defaultdict(list)
    for name, one in on.items():
        if "state_topic" in one:
            further = one.get("json_attributes_template")
            attributes = None if further is None else environment.from_string(further)
            listening[one["state_topic"]].append((name, environment.from_string(one["value_template"]), attributes))
    rows, last = defaultdict[str, int](int), dict[str, tuple[str, str]]()
    for topic, payload in messages(random.Random(1)):
        for name, template, attributes in listening[f"edge/pi/{topic}"]:
            before = last.get(name, ("unknown", ""))
            shown = template.render(value_json=payload, this={"state": before[0]})
            now = (shown or before[0], attributes.render(value_json=payload) if attributes else "")
            rows[name] += now != before
            last[name] = now
    rows["pipelines.yard.snapshot"] = pictures(options.pipelines["yard"])
    a_day = {name: count * 86400 // SECONDS for name, count in rows.items() if count}
    assert sum(a_day.values()) <= ROWS_A_DAY, a_day
    assert rows["pipelines.yard.labels.person.presence"] == 3  # off, on, off
    diagnostics = [name for name, one in on.items() if one.get("entity_category") == "diagnostic"]
    assert {name.rpartition(".")[2] for name in diagnostics} == {"throttled", "lost", "trouble"}


def pictures(pipeline: settings.Pipeline) -> int:
    """The number of pictures in the same time, one frame a second."""
    assert pipeline.snapshot is not None
    shown: list[bytes] = []
    observer, frame = Snapshots(pipeline, pipeline.snapshot, shown.append), np.zeros((96, 96, 3), np.uint8)
    for second in range(SECONDS):
        found = [Prediction("person", 0, 0.9)] if second in VISIT else []
        sample = Sample(frame, second, second, {})
        if observer.needs_image(sample):
            observer.on_result(Observation("yard", None, sample, found, frame, may_block=False))
    return len(shown)
