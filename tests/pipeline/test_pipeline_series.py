"""Pipelines of readings: samples that go through the model together, its state, learned thresholds, hiccups."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.counters import Counters, imbalance
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.models import model as models
from edge_agent.models.bound_io import MOST_TOGETHER
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.stages import WorkItem
from edge_agent.pipeline.admission import MAX_WAITING_WINDOWS
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.series import Input
from edge_agent.sources.queue import SampleQueue
from tests.broker import wait_until
from tests.sink import NullSink
from tests.timeseries.small_models import adding_up, autoencoder, clipping_autoencoder

LENGTH = 4


class Tap:
    """A source that the test turns on and off."""

    capacity = 128
    diagnosis = ""

    def __init__(self, *, live: bool = False) -> None:
        self.live = live
        self.ready = threading.Event()

    def start(self, queue: SampleQueue, trouble: Any) -> None:  # noqa: ARG002 - nothing goes wrong here
        self.queue = queue
        self.ready.set()

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return True

    def stop(self) -> None:
        self.queue.close()

    def close(self, deadline: float) -> None: ...


class Stage(NullSink):
    """A pipeline over a tap, and all that it says.

    Attributes:
        gate: while it is cleared, no result gets out.
    """

    def __init__(self, model: Model, *, live: bool = False, state_folder: Path | None = None, **options: Any) -> None:
        self.tap, self.counters, self.gate = Tap(live=live), Counters(), threading.Event()
        self.gate.set()
        self.results: list[tuple[Any, list[Prediction]]] = []
        self.errors: list[tuple[Any, str]] = []
        source = {"type": "serial", "port": "x", "format": "csv"} if live else {"type": "mqtt", "topic": "x"}
        self.pipeline = Pipeline(
            "stage",
            settings.Pipeline.model_validate({"source": source, "model": "m"} | options),
            self.tap,
            model,
            self.counters,
            self,
            state_folder=state_folder,
        )

    def send(self, data: bytes | Series, number: Any = None, **origin: Any) -> None:
        now = time.monotonic()
        self.tap.queue.put(Sample(data, time.time(), now, {"number": number} | origin))

    def finish(self) -> dict[str, Any]:
        self.tap.queue.close()
        wait_until(lambda: self.pipeline.ended, 20, f"all is worked on: {self.counters.as_dict()}")
        counts = self.counters.as_dict()
        assert not imbalance(counts)
        return counts

    def __enter__(self) -> Self:
        self.pipeline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.pipeline.stop()
        self.pipeline.finish(time.monotonic() + 10)

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> int:
        number, facts = self.counters.produce(), item.prepared.facts
        self.gate.wait()
        assert facts.get("number") == item.sample.origin["number"]
        self.results.append((facts.get("number"), list(predictions)))
        assert item.timing.inference >= 0
        self.counters.acknowledge()
        item.sample.settlement.done()
        return number

    def report(self, error: EdgeAgentError, sample: Sample | None) -> None:
        self.errors.append((None if sample is None else sample.origin.get("number"), str(error)))


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    loaded = autoencoder(tmp_path, LENGTH)
    yield loaded
    loaded.close()


def far_off(number: int) -> bytes:
    """An input whose score is the square of its number."""
    return json.dumps([1 + number, -1 - number, 1 + number, -1 - number]).encode()


def test_what_has_queued_up_goes_through_together_and_each_gets_its_own_result_in_order(model: Model) -> None:
    sizes: list[int] = []
    infer = model.infer

    def counted(tensor: Any, state: Any = None) -> Any:
        sizes.append(len(tensor))
        return infer(tensor, state)

    model.infer = counted  # type: ignore[method-assign]  # listened to
    assert model.together == MOST_TOGETHER
    with Stage(model) as stage:
        stage.gate.clear()
        for number in range(100):
            stage.send(far_off(number) if number % 7 != 3 else b"[1, 2]", number)
        stage.gate.set()
        counts = stage.finish()
    good = [number for number in range(100) if number % 7 != 3]
    assert [number for number, _ in stage.results] == good
    assert [one.value for _, [one] in stage.results] == [number**2 for number in good]
    assert sorted(number for number, _ in stage.errors) == [number for number in range(100) if number % 7 == 3]
    assert (counts["inferred"], counts["dropped"]["invalid"]) == (len(good), 100 - len(good))
    assert max(sizes) > 10
    assert sum(sizes) == len(good)


def test_one_by_one_nothing_waits_for_others(model: Model) -> None:
    with Stage(model) as stage:
        for number in range(5):
            stage.send(far_off(number), number)
            wait_until(lambda: len(stage.results) == number + 1, 5, "its result")  # noqa: B023 - called in its turn


def test_what_fails_together_is_tried_one_by_one(model: Model) -> None:
    infer = model.infer

    def fragile(tensor: Any, state: Any = None) -> Any:
        if (tensor == 6).any():
            raise ModelError("inference failed: five")
        return infer(tensor, state)

    model.infer = fragile  # type: ignore[method-assign]  # broken on purpose
    with Stage(model) as stage:
        stage.gate.clear()
        for number in range(20):
            stage.send(far_off(number), number)
        stage.gate.set()
        counts = stage.finish()
    assert [number for number, _ in stage.results] == [number for number in range(20) if number != 5]
    assert stage.errors == [(5, "inference failed: five")]
    assert counts["dropped"]["failed"] == 1


def test_a_model_for_one_at_a_time_takes_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    path.write_bytes(clipping_autoencoder(LENGTH, batch=1))
    options = settings.Model(path=path)
    assert models.load_unqualified("one", resolve_model(options, tmp_path)).together == 1


@pytest.fixture
def sums(tmp_path: Path) -> Model:
    path = tmp_path / "sums.onnx"
    path.write_bytes(adding_up(2))
    (tmp_path / "labels.txt").write_text("much\n")
    stated = Input.model_validate({"kind": "series", "state": {"sum": "next sum"}, "constants": {"factor": 0.5}})
    options = settings.Model(path=path, labels=tmp_path / "labels.txt", input=stated)
    return models.load_unqualified("sums", resolve_model(options, tmp_path))


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_a_state_is_carried_from_window_to_window_of_each_stream_and_reset_by_a_gap(sums: Model) -> None:
    assert (sums.stateful, sums.together) == (True, 1)
    row = np.array([[1.0], [1.0]], np.float32)
    with Stage(sums, window={}) as stage:
        for topic, gap in (("a", False), ("b", False), ("a", False), ("a", True), ("b", False)):
            stage.send(Series(row, rate=2.0, gap=gap), topic, topic=topic)
        stage.finish()
    found = [(topic, round(one.confidence or 0, 4)) for topic, [one] in stage.results]
    steps = [("a", 1), ("b", 1), ("a", 2), ("a", 1), ("b", 2)]
    assert found == [(topic, round(sigmoid(total), 4)) for topic, total in steps]


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"state": {"total": "next sum"}}, "input.state: expected one of factor, readings, sum, found 'total'"),
        ({"state": {"sum": "sum"}}, "input.state: expected one of next sum, scores, found 'sum'"),
        ({"constants": {"speed": 1}}, "input.constants: expected one of factor, readings, sum, found 'speed'"),
        ({"state": {"sum": "next sum"}}, "not a model of readings: expected one input"),
    ],
)
def test_a_state_that_is_not_there_is_named(stated: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "sums.onnx"
    path.write_bytes(adding_up(2))
    options = settings.Model(path=path, input=Input.model_validate({"kind": "series"} | stated))
    with pytest.raises(ModelError, match=says):
        models.load_unqualified("sums", resolve_model(options, tmp_path))


def test_a_live_stream_loses_no_window_while_inference_hesitates(model: Model) -> None:
    with Stage(model, live=True) as stage:
        stage.gate.clear()
        for number in range(MAX_WAITING_WINDOWS):
            stage.send(Series(np.full((LENGTH, 1), number, np.float32), rate=100.0), number)
        stage.gate.set()
        counts = stage.finish()
    assert counts["inferred"] == MAX_WAITING_WINDOWS
    assert [number for number, _ in stage.results] == list(range(MAX_WAITING_WINDOWS))


def test_a_threshold_is_learned_and_then_judges(model: Model, tmp_path: Path) -> None:
    for expected in (None, "normal"):
        with Stage(model, state_folder=tmp_path, anomaly={"learn": 20}) as stage:
            for number in range(20):
                stage.send(far_off(number % 2), number)
            stage.send(far_off(9), "far")
            stage.finish()
        assert {one.label for _, [one] in stage.results[:20]} == {expected}
        assert stage.results[20][1][0].label == "anomaly"


def test_only_anomalies_are_told_where_only_they_are_wanted(model: Model) -> None:
    with Stage(model, anomaly={"threshold": 10}, filters={"labels": ["anomaly"]}) as stage:
        for number in (1, 5, 2):
            stage.send(far_off(number), number)
        stage.finish()
    assert [[one.value for one in found] for _, found in stage.results] == [[], [25], []]


def test_the_same_road_answers_a_single_question(model: Model) -> None:
    answer = Predictor(model, None, None).ask(
        Sample(far_off(3), time.time(), time.monotonic(), {"path": "window.json"})
    )
    assert [one.value for one in answer.predictions] == [9]
    assert answer.facts == {"path": "window.json"}
