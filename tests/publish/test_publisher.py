"""What reaches the outbox, whatever the sample and the clock are."""

import json
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.counters import Counters, Settlement
from edge_agent.errors import InputError
from edge_agent.mqtt.delivery import Delivery
from edge_agent.postprocess.smoothing import LabelInterval
from edge_agent.publish import publisher as publisher_module
from edge_agent.publish.publisher import Device, Publisher
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.system.clock import Clock

MACAW = Prediction("macaw", 89, 0.99)
# The year 11000; clocks that lost their battery have come back with anything.
BEYOND_DATES = 285e9


class Recorded:
    """A publisher, and an outbox that keeps what it gets."""

    def __init__(self, **publish: Any) -> None:
        self.results: list[Delivery] = []
        self.notices: list[dict[str, Any]] = []
        self.counters = Counters()
        options = settings.Pipeline.model_validate(
            {"source": {"type": "mqtt", "topic": "in"}, "model": "m", "publish": publish}
        )
        device = Device("porch-pi", "edge/porch-pi", "boot", Clock())
        outbox: Any = SimpleNamespace(put=self.results.append, notify=self._notify)
        self.publisher = Publisher(device, "lab", options, "classification", self.counters, self.counters, outbox)

    def _notify(self, _topic: str, payload: str, **_: Any) -> None:
        self.notices.append(json.loads(payload))

    def publish(self, sample: Sample, *predictions: Prediction) -> int | None:
        model = SimpleNamespace(identity={"name": "m", "version": "1", "sha256": "0"}, task="classification")
        item: Any = SimpleNamespace(
            sample=sample,
            timing=Timing(),
            model=model,
            prepared=SimpleNamespace(facts=sample.origin),
            lines=None,
            crossed=False,
        )
        seq = self.publisher.publish(item, predictions)
        sample.settlement.infer()
        return seq


def taken(recorded: Recorded, at: float) -> Sample:
    sample = Sample(b"", at, time.monotonic(), {"topic": "in"})
    sample.settlement.capture(recorded.counters)
    return sample


def test_a_clock_beyond_all_dates_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: BEYOND_DATES)
    recorded = Recorded()
    sample = taken(recorded, time.time())
    assert recorded.publish(sample, MACAW) == 1
    recorded.publisher.report(InputError("no picture"), sample)
    recorded.publisher.events(sample, [LabelInterval("start", sample.captured, 0.0, "macaw", 89, 0.99, "in")])
    result, event = recorded.results
    assert json.loads(result.payload())["captured_at"] == "9999-12-31T23:59:59.999Z"
    assert json.loads(event.payload())["at"] == "9999-12-31T23:59:59.999Z"
    assert [notice["at"] for notice in recorded.notices] == ["9999-12-31T23:59:59.999Z"]
    sample.settlement.done()


def test_what_fails_before_a_result_is_made_leaves_no_result_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise LookupError("made up")

    recorded = Recorded(topic="out/{label}")
    monkeypatch.setattr(publisher_module, "topic_of", broken)
    sample = taken(recorded, time.time())
    with pytest.raises(LookupError):
        recorded.publish(sample, MACAW)
    assert recorded.results == []
    assert recorded.counters.as_dict()["queued"] == 0
    sample.settlement.give_up("failed")


def test_a_result_that_is_withheld_ends_its_sample_at_once() -> None:
    acknowledged: list[str] = []
    recorded = Recorded(on_change=True)
    for number in ("first", "second"):
        settlement = Settlement(partial(acknowledged.append, number))
        settlement.capture(recorded.counters)
        recorded.publish(Sample(b"", 0.0, time.monotonic(), {"topic": "in"}, settlement=settlement), MACAW)
    assert acknowledged == ["second"], "the first waits for its result"
    [result] = recorded.results
    assert result.settlement is not None
    result.settlement.done()


@pytest.mark.parametrize(("calibrated", "published"), [(0.5, [True, True]), (0.97, [True, False])])
def test_the_confidence_of_the_version_that_serves_counts(calibrated: float, published: list[bool]) -> None:
    recorded = Recorded(on_change=True, hysteresis=0.02)
    model: Any = SimpleNamespace(task="classification", min_confidence=calibrated)
    recorded.publisher.switch(model)
    results: list[list[Prediction]] = [[], [replace(MACAW, confidence=0.98)]]
    assert [recorded.publish(taken(recorded, 0.0), *found) is not None for found in results] == published
    for delivery in recorded.results:
        assert delivery.settlement is not None
        delivery.settlement.done()
