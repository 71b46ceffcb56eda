"""What Home Assistant is told, and what its templates make of what the agent publishes."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.counters import Counters
from edge_agent.home_assistant.entities import document
from edge_agent.home_assistant.events import MAX_PARTS
from edge_agent.home_assistant.ids import safe
from edge_agent.settings import Settings

PICTURES = {"type": "mqtt", "topic": "in"}


@dataclass(frozen=True)
class Model:
    task: str
    labels: tuple[str, ...] = ()
    threshold: float | None = None


class Complaining(Undefined):
    """Home Assistant logs a warning where a template uses what is not there."""

    def _complain(self) -> Any:
        raise AssertionError(f"{self._undefined_name!r} is not there")

    __str__ = __iter__ = __bool__ = _complain


def said(
    model: Model,
    pipeline: str = "porch",
    device: str = "porch-pi",
    update: Any = None,
    http: Any = None,
    presence_delay: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The discovery message of a device with one pipeline."""
    options_of_device = Settings.model_validate(
        {
            "device_id": device,
            "models": {"seen": {"path": "model.tflite"}},
            "pipelines": {pipeline: {"source": PICTURES, "model": "seen"} | options},
            "update": update,
            "http": http,
            "home_assistant": {"enabled": True, "presence_delay": presence_delay},
        }
    )
    return document(f"edge/{device}", options_of_device, {"seen": model})


def rendered(template: str, payload: Any, before: str = "unknown") -> str:
    environment = ImmutableSandboxedEnvironment(undefined=Complaining)
    return environment.from_string(template).render(value_json=json.loads(json.dumps(payload)), this={"state": before})


def state(message: dict[str, Any], name: str, payload: Any, before: str = "unknown") -> str:
    return rendered(message["components"][name]["value_template"], payload, before)


def result(*predictions: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {"predictions": list(predictions), **further}


def of_results(message: dict[str, Any]) -> set[str]:
    """The names of the entities that show what a pipeline has found."""
    return {name for name, one in message["components"].items() if "entity_category" not in one}


CAT = {"label": "cat", "class_id": 1, "confidence": 0.91, "box": [1, 2, 3, 4]}
DOG = {"label": "dog", "class_id": 2, "confidence": 0.6, "box": [1, 2, 3, 4]}


def test_the_message_names_the_device_its_origin_and_where_it_says_that_it_is_there() -> None:
    message = said(Model("classification"))
    assert message["device"]["name"] == "porch-pi"
    assert message["origin"]["name"] == "edge-agent"
    assert message["availability"] == [{"topic": "edge/porch-pi/status"}]
    ids = [component["unique_id"] for component in message["components"].values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", None),
        ("192.168.1.7:8080", "http://192.168.1.7:8080"),
        ("[fd00::7]:80", "http://[fd00::7]:80"),
        ("0.0.0.0:8080", "http://house.local:8080"),
    ],
)
def test_the_device_is_linked_to_its_status_page_where_others_reach_it(
    listen: str, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "house")
    message = said(Model("classification"), http={"listen": listen, "token_file": "token"})
    assert message["device"].get("configuration_url") == url


def test_what_a_pipeline_has_found_is_unavailable_while_the_device_or_the_pipeline_is() -> None:
    message = said(Model("detection", ("cat",)), snapshot={}, regions={"door": [0, 0, 1, 0.5]})
    both = [{"topic": "edge/porch-pi/status"}, {"topic": "edge/porch-pi/porch/status"}]
    found = {
        name: (one["availability"], one["availability_mode"])
        for name, one in message["components"].items()
        if "availability" in one
    }
    assert set(found) == of_results(message)
    assert "pipelines.porch.snapshot" in found
    assert "pipelines.porch.regions.door.labels.cat.presence" in found
    assert all(available == (both, "all") for available in found.values())


@pytest.mark.parametrize(
    ("info", "shown", "reason"),
    [
        ({"pipelines": {"porch": {"problem": "no camera"}}}, "ON", "no camera"),
        ({"pipelines": {"porch": {"problem": ""}}}, "OFF", ""),
        ({"pipelines": {"porch": {}}}, "OFF", ""),
        ({"pipelines": {}}, "OFF", ""),
    ],
)
def test_the_problem_of_a_pipeline_is_a_diagnostic_entity(info: Any, shown: str, reason: str) -> None:
    message = said(Model("classification"))
    trouble = message["components"]["pipelines.porch.trouble"]
    assert (trouble["device_class"], trouble["entity_category"]) == ("problem", "diagnostic")
    assert state(message, "pipelines.porch.trouble", info) == shown
    assert json.loads(rendered(trouble["json_attributes_template"], info)) == {"problem": reason}


def test_a_classifier_shows_the_most_confident_label() -> None:
    message = said(Model("classification", ("cat", "dog")))
    label = "pipelines.porch.label"
    assert of_results(message) == {label}
    assert message["components"][label]["state_topic"] == "edge/porch-pi/porch/result"
    assert state(message, label, result(CAT, DOG)) == "cat"
    assert state(message, label, result()) == "none"
    assert state(message, label, result({"class_id": 7, "confidence": 0.5})) == "7"
    # What changes with each result is not recorded unless somebody wants it.
    assert "json_attributes_topic" not in message["components"][label]
    confidence = "pipelines.porch.confidence"
    assert message["components"][confidence]["enabled_by_default"] is False
    assert (state(message, confidence, result(CAT)), state(message, confidence, result())) == ("91.0", "None")


def test_each_region_has_an_entity_of_its_own() -> None:
    message = said(Model("classification"), regions={"left": [0, 0, 0.5, 1], 'the "right" one': [0.5, 0, 1, 1]})
    left, right = sorted(of_results(message))
    payload = result(CAT | {"region": "left"}, DOG | {"region": 'the "right" one'})
    assert (state(message, left, payload), state(message, right, payload)) == ("cat", "dog")
    assert state(message, right, result(CAT | {"region": "left"})) == "none"
    assert state(message, left, result(CAT)) == "none"


def test_a_detector_counts_the_objects_of_each_label() -> None:
    message = said(Model("detection", ("cat", "dog")))
    payload = result(CAT, CAT)
    states = {name: state(message, f"pipelines.porch.labels.{name}", payload) for name in ("cat.count", "dog.count")}
    assert states == {"cat.count": "2", "dog.count": "0"}
    assert state(message, "pipelines.porch.labels.cat.presence", payload) == "ON"
    assert state(message, "pipelines.porch.labels.dog.presence", payload) == "OFF"
    assert {state(message, name, result()) for name in of_results(message)} == {"0", "OFF"}


@pytest.mark.parametrize("labels", [(), tuple(map(str, range(MAX_PARTS + 1)))], ids=["none", "too many"])
def test_a_detector_of_no_or_many_labels_counts_them_all(labels: tuple[str, ...]) -> None:
    message = said(Model("detection", labels))
    assert of_results(message) == {"pipelines.porch.count", "pipelines.porch.presence"}
    assert state(message, "pipelines.porch.count", result(CAT, DOG)) == "2"
    assert state(message, "pipelines.porch.presence", result(CAT, DOG)) == "ON"
    assert state(message, "pipelines.porch.presence", result()) == "OFF"


def test_of_many_labels_those_of_the_filter_have_entities() -> None:
    many = ("person", *map(str, range(100)))
    message = said(Model("detection", many), filters={"labels": ["person"]})
    parts = {"pipelines.porch.labels.person.count", "pipelines.porch.labels.person.presence"}
    assert of_results(message) == parts


def test_crossings_of_a_line_are_totals_that_only_rise() -> None:
    line = {"from": [0, 0.5], "to": [1, 0.5]}
    message = said(Model("detection", ("person",)), tracking={}, lines={"door's": line})
    names = {name for name in message["components"] if ".lines." in name}
    assert [message["components"][name]["name"] for name in sorted(names)] == ["Porch door's in", "Porch door's out"]
    into, out = sorted(names)
    assert message["components"][into]["state_class"] == "total_increasing"
    assert message["components"][into]["state_topic"] == "edge/porch-pi/porch/result"
    counted = result(CAT, lines={"door's": {"in": 7, "out": 0}})
    assert (state(message, into, counted), state(message, out, counted)) == ("7", "0")
    assert state(message, into, result()) == "None"


def test_with_a_delay_a_presence_is_not_ended_by_a_result_but_by_home_assistant() -> None:
    presence = "pipelines.porch.presence"
    message = said(Model("detection"), presence_delay="2500ms")
    assert message["components"][presence]["off_delay"] == 3
    assert state(message, presence, result(CAT)) == "ON"
    assert [state(message, presence, result(), before) for before in ("unknown", "off", "on")] == ["OFF", "OFF", ""]


@pytest.mark.parametrize(
    ("options", "delay"),
    [
        ({"gate": {"type": "motion", "heartbeat": "10s"}}, 15),
        ({"publish": {"min_interval": "2s"}}, 7),
        ({"publish": {"on_change": True, "heartbeat": "60s"}}, 65),
        ({"publish": {"on_change": True, "heartbeat": "60s"}, "gate": {"type": "motion", "heartbeat": "10s"}}, 75),
        ({"publish": {"on_change": True}}, None),
    ],
    ids=["gate", "interval", "heartbeat", "gate and heartbeat", "without heartbeat"],
)
def test_a_silence_about_what_has_not_changed_does_not_end_a_presence(options: Any, delay: int | None) -> None:
    message = said(Model("detection"), presence_delay="5s", **options)
    assert message["components"]["pipelines.porch.presence"].get("off_delay") == delay
    assert state(message, "pipelines.porch.presence", result(), "on") == ("OFF" if delay is None else "")


def test_an_anomaly_is_a_problem_once_it_is_known_what_one_is() -> None:
    message = said(Model("anomaly", threshold=0.5))
    score, problem = "pipelines.porch.score", "pipelines.porch.problem"
    assert of_results(message) == {problem}
    assert message["components"][score]["enabled_by_default"] is False
    assert state(message, score, result({"value": 0.7})) == "0.7"
    verdicts: list[dict[str, Any]] = [
        {"value": 0.7, "label": "anomaly"},
        {"value": 0.1, "label": "normal"},
        {"value": 0.1},
    ]
    assert [state(message, problem, result(one)) for one in verdicts] == ["ON", "OFF", "None"]
    assert (state(message, score, result()), state(message, problem, result())) == ("None", "None")
    assert of_results(said(Model("anomaly"))) == {score}


def test_each_value_of_a_regression_has_an_entity() -> None:
    message = said(Model("regression", ("yaw", "pitch")))
    payload = result({"label": "yaw", "class_id": 0, "value": 3.5}, {"label": "pitch", "class_id": 1, "value": -1.0})
    assert [state(message, f"pipelines.porch.values.{number}", payload) for number in (0, 1)] == ["3.5", "-1.0"]
    assert state(said(Model("regression")), "pipelines.porch.value", result({"class_id": 0, "value": 4})) == "4"
    assert state(said(Model("regression")), "pipelines.porch.value", result()) == "None"


def test_a_text_is_cut_to_what_a_state_may_hold() -> None:
    message = said(Model("text"))
    text = "pipelines.porch.text"
    assert of_results(message) == {text}
    long = {"text": "Ü" * 300, "finish_reason": "stop"}
    assert state(message, text, long) == "Ü" * 255
    assert state(message, text, {"text": ""}) == "None"
    attributes = rendered(message["components"][text]["json_attributes_template"], long)
    assert json.loads(attributes) == long


def test_snapshots_are_an_image() -> None:
    component = said(Model("detection"), snapshot={})["components"]["pipelines.porch.snapshot"]
    assert (component["platform"], component["image_topic"]) == ("image", "edge/porch-pi/porch/snapshot")
    assert "pipelines.porch.snapshot" not in said(Model("detection"))["components"]


def test_diagnostics_are_read_from_what_the_agent_says_of_itself() -> None:
    message = said(Model("detection"))
    counters = Counters()
    for _ in range(3):
        counters.capture()
        counters.produce()
    counters.discard("expired")
    stats = {
        "thermal": {"temperature_c": 61.3, "throttled": False},
        "pipelines": {"porch": counters.as_dict(), "porch/event": counters.as_dict()},
        "performance": {"porch": {"inferred_per_s": 9.5, "inference_ms": None}},
    }
    expected = {
        "device.temperature": "61.3",
        "device.throttled": "OFF",
        "device.waiting": "4",
        "device.lost": "2",
        "pipelines.porch.rate": "9.5",
        "pipelines.porch.inference": "None",
        "pipelines.porch.queue": "3",
    }
    components = message["components"]
    of_stats = {name for name, one in components.items() if one["state_topic"] == "edge/porch-pi/stats"}
    assert {name: state(message, name, stats) for name in of_stats} == expected
    nothing = stats | {"thermal": {"temperature_c": None, "throttled": None}, "pipelines": {}, "performance": {}}
    unknown = {name: state(message, name, nothing) for name in of_stats}
    assert unknown == dict.fromkeys(expected, "None") | {"device.waiting": "0", "device.lost": "0"}
    assert state(message, "models.seen.version", {"models": {"seen": {"version": "3"}}}) == "3"
    assert state(message, "models.seen.accelerator", {"models": {"seen": {"in_use": "edgetpu"}}}) == "edgetpu"
    assert state(message, "models.seen.accelerator", {"models": {}}) == "None"


def test_a_model_that_is_updated_shows_how_far_that_is() -> None:
    update = {"url": "http://updates.lan", "root": "root.json", "models": {"seen": "stable"}}
    message = said(Model("detection"), update=update)
    assert state(message, "models.seen.update", {"models": {"seen": {"step": "shadow"}}}) == "shadow"
    assert state(message, "models.seen.update", {"models": {}}) == "None"
    attributes = message["components"]["models.seen.update"]["json_attributes_template"]
    refused = {"step": "refused", "version": "stable/3", "reason": "it failed at 3 of 20 inputs"}
    said_why = json.loads(rendered(attributes, {"models": {"seen": refused}}))
    assert said_why == {"version": "stable/3", "reason": "it failed at 3 of 20 inputs"}
    assert json.loads(rendered(attributes, {"models": {}})) == {"version": "", "reason": ""}
    failed = {"error": "the list has expired", "models": {}}
    assert state(message, "device.update_trouble", failed) == "ON"
    assert state(message, "device.update_trouble", {"error": None, "models": {}}) == "OFF"
    why = message["components"]["device.update_trouble"]["json_attributes_template"]
    assert json.loads(rendered(why, failed)) == {"problem": "the list has expired"}
    button = message["components"]["device.update"]
    assert (button["platform"], button["command_topic"]) == ("button", "edge/porch-pi/cmd")
    assert json.loads(button["payload_press"]) == {"command": "update"}
    available = message["components"]["models.seen.available"]
    assert state(message, "models.seen.available", {"models": {"seen": {"version": "2"}}}) == "2"
    newest = [
        rendered(available["latest_version_template"], {"models": {"seen": {"step": step, "version": "stable/3"}}})
        for step in ("trying", "committed", "refused")
    ]
    assert newest == ["3", "3", ""]  # Home Assistant ignores an empty version
    assert "device.update" not in said(Model("detection"))["components"]


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/+#"), min_size=1, max_size=64)


@settings(max_examples=30, deadline=None)
@given(NAMES)
def test_any_name_may_stand_in_a_topic_an_id_and_a_template(name: str) -> None:
    name = "x" + name[:63]
    message = said(Model("detection", (name,)), name, name)
    assert re.fullmatch("[a-zA-Z0-9_-]+", safe(name))
    queue = f"pipelines.{safe(name)}.queue"
    assert state(message, queue, {"pipelines": {name: {"in_progress": 5}}}) == "5"
    count = f"pipelines.{safe(name)}.labels.{safe(name)}.count"
    assert state(message, count, result({"label": name}, {"label": f"{name}!"})) == "1"


def test_names_that_are_mapped_do_not_collide() -> None:
    names = ["a b", "a_b", "a.b", "a/b", "ä", "a" * 65, "a" * 66, "a", "A", "", safe("a b"), safe(safe("a b"))]
    assert len({safe(name) for name in names}) == len(names)
    assert safe("porch-pi_2") == "porch-pi_2"


def test_readings_of_a_sensor_have_their_units_and_whether_they_are_usual() -> None:
    source = {"type": "mqtt", "topic": "tele/plug/SENSOR", "fields": {"ENERGY.Power": "W", "humidity": "%"}}
    options = Settings.model_validate(
        {
            "pipelines": {"plug": {"source": source, "model": {"type": "statistics"}}},
            "home_assistant": {"enabled": True},
        }
    )
    message = document("edge/porch-pi", options, {"statistics": Model("anomaly", threshold=1.0)})
    name = "pipelines.plug.readings.ENERGY_Power-" + safe("ENERGY.Power").rpartition("-")[2]
    value, problem = message["components"][f"{name}.value"], message["components"][f"{name}.problem"]
    assert (value["name"], value["unit_of_measurement"], value["device_class"]) == ("Plug energy power", "W", "power")
    assert message["components"]["pipelines.plug.readings.humidity.value"]["device_class"] == "humidity"
    power = {"channel": "ENERGY.Power", "reading": 9.0, "unit": "W"}
    usual = result(power | {"label": "normal", "value": 0.1, "expected": [8, 10]})
    assert state(message, f"{name}.value", usual) == "9.0"
    assert state(message, f"{name}.problem", usual) == "OFF"
    assert state(message, f"{name}.problem", result(power | {"label": "anomaly", "value": 3.1})) == "ON"
    assert json.loads(rendered(problem["json_attributes_template"], usual))["expected"] == [8, 10]
    # One that is not in a message keeps its state: Home Assistant ignores an empty one.
    assert state(message, "pipelines.plug.readings.humidity.value", usual) == ""
    assert state(message, "pipelines.plug.readings.humidity.problem", usual) == ""
    assert state(message, f"{name}.problem", result(power | {"learning": True})) == "OFF"


def test_a_pipeline_is_paused_by_a_switch_and_its_threshold_is_a_number() -> None:
    message = said(Model("detection", ("cat",)), 'the "porch"')
    its = "pipelines." + safe('the "porch"')
    switch, number = message["components"][f"{its}.running"], message["components"][f"{its}.threshold"]
    info = {"pipelines": {'the "porch"': {"paused": True, "min_confidence": 0.25}}}
    assert (state(message, f"{its}.running", info), state(message, f"{its}.running", {"pipelines": {}})) == (
        "OFF",
        "ON",
    )
    assert state(message, f"{its}.threshold", info) == "0.25"
    command = {"command": "pause", "pipeline": 'the "porch"', "paused": True}
    assert (json.loads(switch["payload_off"]), switch["command_topic"]) == (command, "edge/porch-pi/cmd")
    environment = ImmutableSandboxedEnvironment(undefined=Complaining)
    sent = environment.from_string(number["command_template"]).render(value=0.4)
    assert json.loads(sent) == {"command": "threshold", "pipeline": 'the "porch"', "min_confidence": 0.4}
    assert "availability" not in switch  # a pipeline that is paused has to be resumed
    assert f"{its}.threshold" not in said(Model("anomaly"), 'the "porch"')["components"]


def test_each_zone_is_an_occupancy_sensor_and_the_latest_object_an_image() -> None:
    path = [[0, 0.5], [1, 0.5], [1, 1]]
    message = said(
        Model("detection", ("cat",)), tracking={}, object_pictures={}, filters={"zones": {"path": path, "it's": path}}
    )
    zone, other = "pipelines.porch.zones.path", "pipelines.porch.zones." + safe("it's")
    component = message["components"][zone]
    assert (component["name"], component["device_class"]) == ("Porch path", "occupancy")
    payload = result(CAT | {"zones": ["path"]}, DOG | {"zones": []})
    assert (state(message, zone, payload), state(message, other, payload)) == ("ON", "OFF")
    assert (state(message, zone, result()), state(message, zone, result(CAT))) == ("OFF", "OFF")
    image = message["components"]["pipelines.porch.object"]
    assert (image["platform"], image["image_topic"]) == ("image", "edge/porch-pi/porch/object")
    events = message["components"]["pipelines.porch.events"]
    assert events["event_types"] == ["enter", "leave"]
    shown = json.loads(rendered(events["value_template"], {"event": "enter", "track_id": 7}))
    assert shown == {"event": "enter", "event_type": "enter", "track_id": 7}
