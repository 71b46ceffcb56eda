"""What the page remembers: events with their pictures, the last hour's figures, the last minute's readings."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.monitoring.page import events, history, live_series
from edge_agent.monitoring.page.events import GAP, MOST_EVENTS
from edge_agent.monitoring.page.history import POINTS, History
from edge_agent.monitoring.page.live_series import PATIENCE
from edge_agent.samples import Prediction, Sample, Series, Timing
from edge_agent.sources.observer import Observation, Work
from tests.clock import Clock
from tests.images import decode_image
from tests.monitoring.page.kit import Client, StillAgent, write_config

FRAME = np.full((480, 640, 3), 128, np.uint8)
PERSON = Prediction("person", 0, 0.9, box=(100, 100, 200, 400))
TRACKED: dict[str, Any] = {"tracking": {}}


def observation(
    data: Any, at: float, predictions: Sequence[Prediction] = (), happened: Sequence[dict[str, Any]] = ()
) -> Observation:
    work = Work({}, "", "detection", None, {}, Timing(), predictions, happened)
    return Observation("porch", 1, Sample(data, at, at, {}), predictions, None, may_block=False, work=work)


class Site:
    """An agent whose pipeline `porch` can be made to see things, and its page."""

    def __init__(self, folder: Path, memory: int = 1_000_000, **options: Any) -> None:
        self.agent = StillAgent(write_config(folder, porch=options))
        self.client = Client(self.agent, events_memory=memory)
        self.client.recent.attach()

    def see(
        self, at: float, *predictions: Prediction, data: Any = FRAME, happened: Sequence[dict[str, Any]] = ()
    ) -> None:
        for observer in list(self.agent.observers_of("porch")):
            observer.on_result(observation(data, at, predictions, happened))

    def events(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/events.json?{query}").json["events"]
        return found


def happening(kind: str, track: int = 1, **facts: Any) -> dict[str, Any]:
    return {"event": kind, "track_id": track, "label": "person", "class_id": 0, "confidence": 0.8, **facts}


def test_an_object_that_comes_stays_and_leaves_is_one_event_with_its_picture(tmp_path: Path) -> None:
    site = Site(tmp_path, **TRACKED)
    site.see(100.0, PERSON, happened=[happening("enter", zone="door", seconds=0.0)])
    [event] = site.events()
    assert (event["label"], event["zone"], event["at"], event["seconds"]) == ("person", "door", 100.0, None)
    picture = site.client.get(f"/events/picture/{event['number']}")
    assert decode_image(picture.body).shape == (480, 640, 3)
    site.see(109.0, PERSON, happened=[happening("dwell", zone="door", seconds=9.0)])
    site.see(112.0, happened=[happening("leave", zone="door", seconds=12.0)])
    [event] = site.events()
    assert (event["kind"], event["seconds"]) == ("enter", 12.0)


def test_a_pipeline_without_events_shows_what_it_sees_again_after_a_while(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for at in (0.0, 1.0, GAP, GAP + 1):
        site.see(at, PERSON)
    site.see(2 * GAP + 2, PERSON)
    assert [(one["kind"], one["at"], one["seconds"]) for one in site.events()] == [
        ("seen", 2 * GAP + 2, None),
        ("seen", 0.0, GAP + 1),
    ]


def test_events_are_found_by_pipeline_label_zone_and_time(tmp_path: Path) -> None:
    site = Site(tmp_path, **TRACKED)
    for number in range(150):
        zone = "door" if number % 3 else "yard"
        site.see(float(number), happened=[happening("enter", number, zone=zone)])
    assert len(site.events()) == 100
    assert len(site.events("zone=yard")) == 50
    assert len(site.events("since=10&until=19")) == 10
    assert site.events("label=dog") == site.events("pipeline=lab") == []
    oldest = site.events()[-1]["number"]
    assert len(site.events(f"before={oldest}")) == 50


def test_memory_for_events_and_their_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PICTURE_EVERY", 0.0)
    site = Site(tmp_path, memory=20_000, **TRACKED)
    for number in range(MOST_EVENTS + 5):
        site.see(float(number), happened=[happening("enter", number)], data=FRAME if number % 100 == 0 else b"none")
    log = site.client.recent.events
    assert sum(map(len, log._pictures.values())) <= 20_000
    assert len(log._events) == len(log._open) == MOST_EVENTS
    assert site.client.get("/events/picture/1").status == 404
    for number in range(1000):
        site.see(1e6 + number * 900.0, happened=[happening("enter", number, label=f"label {number}")])
    assert len(log._parts) <= 97


def test_the_timeline_counts_the_last_day_by_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.now = 1e9
    monkeypatch.setattr(clock, "time", clock.monotonic, raising=False)
    monkeypatch.setattr(events, "time", clock)
    site = Site(tmp_path, **TRACKED)
    for at in (1e9 - 90_000, 1e9 - 3600, 1e9 - 1, 1e9 - 1):
        site.see(at, happened=[happening("enter", int(at), zone="door")])
    site.see(1e9, happened=[happening("enter", 7, label="cat")])
    found = site.client.get("/timeline.json").json
    assert len(found["labels"]["person"]) == 96
    assert {label: sum(row) for label, row in found["labels"].items()} == {"person": 3, "cat": 1}
    assert site.client.get("/timeline.json?pipeline=lab").json["labels"] == {}


@pytest.mark.parametrize("number", ["0", "-1", "x", "99", "1%2f2", "%d9%a1"])
def test_there_is_no_picture_of_what_has_not_happened(number: str, tmp_path: Path) -> None:
    assert Site(tmp_path).client.get(f"/events/picture/{number}").status == 404


def status(inferred: int, on_disk: int = 0) -> dict[str, Any]:
    counts = {"inferred": inferred, "dropped": {"stale": 2 * inferred}}
    return {
        "thermal": {"temperature_c": 50.5},
        "outbox": {"on_disk": on_disk},
        "counters": {"porch": counts, "porch/event": counts},
        "pipelines": {"porch": {}},
    }


def test_figures_are_those_of_the_last_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)
    monkeypatch.setattr(clock, "process_time", time.process_time, raising=False)
    figures = History()
    for number in range(POINTS + 10):
        clock.now += 10
        figures.observe("porch", Timing(1, 2, 3, 4))
        figures.observe("porch", Timing(3, 2, 3, 4))
        figures.tick(status(20 * number, number))
    found = figures.as_dict()
    porch, device = found["pipelines"]["porch"], found["device"]
    assert found["pipelines"].keys() == {"porch"}
    assert {len(row) for row in (*porch.values(), *device.values())} == {POINTS}
    assert (porch["rate"][-1], porch["dropped"][-1], porch["queue"][-1], porch["inference"][-1]) == (2, 4, 2, 3)
    assert (device["outbox"][-1], device["temperature_c"][-1]) == (POINTS + 9, 50.5)
    assert device["memory_mb"][-1] > 1
    figures.tick(status(0) | {"pipelines": {}})
    assert figures.as_dict()["pipelines"] == {}


def test_an_hour_without_inputs_has_gaps_where_there_was_nothing_to_time() -> None:
    figures = History()
    figures.tick(status(0))
    porch = figures.as_dict()["pipelines"]["porch"]
    assert (porch["rate"], porch["inference"]) == ([0.0], [None])


def test_readings_are_gathered_only_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(live_series, "time", clock)
    site = Site(tmp_path)
    before = len(site.agent.observers_of("porch"))

    def window(value: float) -> Series:
        return Series(np.full((20, 1), value, np.float32), ("x",), rate=20.0)

    def latest() -> dict[str, Any]:
        found: dict[str, Any] = site.client.get("/series/porch").json
        return found

    assert latest()["results"] == []
    clock.now += 1
    site.see(clock.now, Prediction("idle", 0, 0.7), data=window(3))
    clock.now += 0.5
    site.see(clock.now, Prediction("run", 1, 0.6), data=window(5))  # half of it was in the window before
    found = latest()
    assert found["channels"] == ["x"]
    drawn = [value for value in found["high"][0] if value is not None]
    assert (drawn.count(5), 7 <= len(drawn) <= 9, len(found["high"][0])) == (3, True, 300)
    assert [(one["label"], one["score"], one["from"]) for one in found["results"]] == [
        ("idle", 0.7, 1.5),
        ("run", 0.6, 1.0),
    ]
    clock.now += PATIENCE + 1
    site.see(clock.now, data=window(1))
    assert len(site.agent.observers_of("porch")) == before
    assert site.client.get("/series/nobody").status == 404
