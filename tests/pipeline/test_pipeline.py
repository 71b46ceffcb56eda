import dataclasses
import itertools
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from edge_agent import settings
from edge_agent.counters import Settlement
from edge_agent.errors import InputError, ModelError
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.shipped import shipped
from edge_agent.pipeline import frame_timing
from edge_agent.pipeline.ordering import Ticket, TicketLock
from edge_agent.pipeline.pipeline import WORKERS, workers_for
from edge_agent.samples import Sample
from edge_agent.sources.queue import SampleQueue
from tests.broker import PATIENCE, wait_until
from tests.clock import Clock
from tests.images import decode_image
from tests.pipeline.conftest import GOLDEN, no_engine_is_free
from tests.settlements import ended
from tests.sources import stage as stage_module
from tests.sources.stage import DIGITS, Stage, digits_model

CLIP = yaml.safe_load(shipped("clips/meter.yaml").read_text())


def test_what_comes_out_is_predictions_facts_of_the_input_and_times(golden: Stage) -> None:
    with golden as stage:
        stage.wait_until_ended()
    manifest = yaml.safe_load((DIGITS / "model.yaml").read_text())
    expected = {Path(sample["input"]).name: sample["label"] for sample in manifest["golden"]}
    for sample, (predictions, facts, timing) in zip(stage.results, stage.outcomes, strict=True):
        path = Path(sample.origin["path"])
        height, width = decode_image(path.read_bytes()).shape[:2]
        assert facts == {"width": width, "height": height, "path": str(path)}
        assert predictions[0].label == expected[path.name]
        confidences = [float(one.confidence or 0) for one in predictions]
        assert confidences == sorted(confidences, reverse=True)
        assert len(predictions) == 5
        assert all(value >= 0 for value in dataclasses.astuple(timing))
        assert timing.inference > 0
    assert len(stage.results) == len(expected)


def test_results_leave_in_the_order_in_which_the_samples_came(model: Model, tmp_path: Path) -> None:
    # Large and small by turns, and every fifth one no image: the second worker is through with its own first.
    noise = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    names = [f"{number:02}.png" for number in range(40)]
    cv2.imwrite(str(tmp_path / "large.jpg"), noise)
    for number, name in enumerate(names):
        source = tmp_path / "large.jpg" if number % 2 else GOLDEN[0]
        shutil.copy(source, tmp_path / name)
        if number % 5 == 3:
            (tmp_path / name).write_bytes(b"no image")
    with Stage({"type": "images", "path": "??.png"}, model, tmp_path) as stage:
        stage.wait_until_ended()
    assert [Path(s.origin["path"]).name for s in stage.results] == [n for i, n in enumerate(names) if i % 5 != 3]
    assert [Path(s.origin["path"]).name for s, _ in stage.given_up] == [n for i, n in enumerate(names) if i % 5 == 3]
    assert stage.imbalances == []


class Alternating:
    """Has every second inference end after the one behind it, and counts those that run at the same time.

    Args:
        model: the model.
        seconds: for which it waits for the one behind it.
    """

    def __init__(self, model: Model, seconds: float = 1.0) -> None:
        self._infer, self._seconds = model.infer_each, seconds
        self._lock, self._count, self._inside, self.most_inside = threading.Lock(), 0, 0, 0
        self._next_has_ended = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            self._count += 1
            first = self._count % 2 == 1
            self._inside += 1
            self.most_inside = max(self.most_inside, self._inside)
        if first:
            self._next_has_ended.wait(self._seconds)
            self._next_has_ended.clear()
        outputs = self._infer(*arguments)
        if not first:
            self._next_has_ended.set()
        with self._lock:
            self._inside -= 1
        return outputs


def test_with_two_engines_two_inferences_run_at_the_same_time_and_results_keep_their_order(tmp_path: Path) -> None:
    model = digits_model(engines=2)
    model.infer_each = alternating = Alternating(model)  # type: ignore[method-assign,assignment]  # to end out of order
    with Stage({"type": "images", "path": str(DIGITS / "golden")}, model, tmp_path) as stage:
        stage.wait_until_ended()
    assert alternating.most_inside == 2
    assert [Path(sample.origin["path"]) for sample in stage.results] == GOLDEN
    assert stage.imbalances == []


def test_of_inputs_under_suspicion_one_is_in_the_model_at_a_time(tmp_path: Path) -> None:
    model = digits_model(engines=2)
    model.infer_each = alternating = Alternating(model, 0.02)  # type: ignore[method-assign,assignment]  # to overlap
    stage = Stage({"type": "images", "path": str(DIGITS / "golden")}, model, tmp_path)
    stage.pipeline._poison.is_suspect = lambda sample: True  # type: ignore[method-assign]  # noqa: ARG005 - as if all came again
    with stage:
        stage.wait_until_ended()
    assert alternating.most_inside == 1
    assert [Path(sample.origin["path"]) for sample in stage.results] == GOLDEN


def test_a_running_pipeline_changes_to_a_model_with_more_engines_and_uses_them(
    golden: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    other = digits_model(engines=4)
    golden.gate.clear()
    with golden as stage:
        stage.wait_for(lambda stage: stage.counts()["produced"] == 1, "one is through the model")
        stage.pipeline.switch(other)
        # One more worker than engines, each with a sample, and two in the queue.
        stage.wait_for(lambda stage: stage.counts()["captured"] == workers_for(4) + 2, "the others wait")
        stage.gate.set()
        stage.wait_until_ended()
    assert workers_for(4) == 5
    assert [Path(sample.origin["path"]) for sample in stage.results] == GOLDEN
    assert stage.imbalances == []


def test_of_two_engines_one_that_hangs_is_seen(tmp_path: Path) -> None:
    model, hangs, begun = digits_model(engines=2), threading.Event(), threading.Event()
    infer = model.infer_each

    def infer_each(*arguments: Any) -> Any:
        if not begun.is_set():
            begun.set()
            hangs.wait(20)
        return infer(*arguments)

    model.infer_each = infer_each  # type: ignore[method-assign,assignment]  # to make the first one hang
    with Stage({"type": "images", "path": str(DIGITS / "golden")}, model, tmp_path) as stage:
        wait_until(lambda: stage.pipeline.busy_for() > 0.1, 10, "the pipeline seems to hang")
        # The one that hangs may be the second.
        assert stage.counts()["inferred"] <= 1, "results wait for the one before them"
        hangs.set()
        stage.wait_until_ended()
    assert [Path(sample.origin["path"]) for sample in stage.results] == GOLDEN


def test_while_one_sample_waits_to_get_out_the_next_one_is_prepared(golden: Stage) -> None:
    golden.gate.clear()
    with golden as stage:
        stage.wait_for(lambda stage: stage.counts()["produced"] == 1, "one is through the model")
        # Both workers have one, and the queue of a finite source two more.
        stage.wait_for(lambda stage: stage.counts()["captured"] == WORKERS + 2, "the others wait")
        stage.gate.set()
        stage.wait_until_ended()


def test_a_model_is_changed_between_two_samples_of_which_none_is_lost_or_done_twice(golden: Stage) -> None:
    other = digits_model()
    golden.gate.clear()
    with golden as stage:
        # One waits to get out, and one behind it: they stay with the model that they began with.
        stage.wait_for(lambda stage: stage.counts()["captured"] == WORKERS + 2, "the others wait")
        stage.pipeline.switch(other)
        stage.gate.set()
        stage.wait_until_ended()
    before = len([model for model in stage.models if model is not other])
    assert 1 <= before <= WORKERS
    assert stage.models[before:] == [other] * (len(GOLDEN) - before)
    assert [Path(sample.origin["path"]) for sample in stage.results] == GOLDEN
    assert stage.counts()["inferred"] == len(GOLDEN)
    assert stage.imbalances == []


def break_inference(model: Model) -> None:
    infer = model.infer

    def broken(tensors: Sequence[Any], state: Any) -> Any:
        return [infer(tensors[0][:, :7, :5], state)]  # no size for this model

    model.infer_each = broken  # type: ignore[method-assign,assignment]  # broken on purpose


def break_decoding(model: Model) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    model.decode = broken  # type: ignore[assignment]  # broken on purpose


@pytest.mark.parametrize(
    ("damage", "kind", "sentence"),
    [
        (break_inference, ModelError, "inference failed: "),
        (break_decoding, Exception, "internal error: ZeroDivisionError('a defect')"),
    ],
)
def test_whatever_goes_wrong_with_a_sample_is_counted_and_reported_and_the_next_one_comes(
    damage: Any, kind: type[Exception], sentence: str, golden: Stage, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    damage(model)
    with caplog.at_level(logging.CRITICAL), golden as stage:
        stage.wait_until_ended()
    counts = stage.counts()
    assert counts["dropped"]["failed"] == counts["captured"] == len(GOLDEN)
    assert len(stage.given_up) == len(GOLDEN)
    assert all(isinstance(error, kind) and str(error).startswith(sentence) for _, error in stage.given_up)
    assert stage.imbalances == []


def test_a_model_that_has_failed_once_serves_the_next_sample(golden: Stage, model: Model) -> None:
    with pytest.raises(ModelError):
        model.infer(np.zeros((1, 7, 5, 1), np.int8))
    with golden as stage:
        stage.wait_until_ended()
    assert len(stage.results) == len(GOLDEN)


def ticket() -> Ticket:
    """The first one of a lock that nobody else uses."""
    drawn = TicketLock().draw(lambda: [Sample(b"", 0.0, 0.0, {})])
    assert drawn is not None
    return drawn[0]


def test_only_what_cannot_be_used_is_settled_at_once(model: Model, tmp_path: Path) -> None:
    settled: list[str] = []

    def sample(name: str, data: bytes | InputError) -> Sample:
        settlement = Settlement(partial(settled.append, name))
        settlement.capture(stage.counters)
        return Sample(data, time.time(), time.monotonic(), {"name": name}, settlement=settlement)

    with Stage({"type": "images", "path": str(GOLDEN[0])}, model, tmp_path) as stage:
        stage.wait_until_ended()
        stage.gate.clear()
        for name, data in (("bad", b"no image"), ("unread", InputError("can't be read"))):
            stage.pipeline.process([sample(name, data)], ticket())
        assert settled == ["bad", "unread"]
        answering = threading.Thread(
            target=stage.pipeline.process, args=([sample("good", GOLDEN[0].read_bytes())], ticket())
        )
        answering.start()
        stage.wait_for(lambda stage: stage.counts()["produced"] == 2, "the good one is through the model")
        assert settled == ["bad", "unread"]
        stage.gate.set()
        answering.join(10)
    assert settled == ["bad", "unread", "good"]


def test_what_fails_after_a_result_is_published_does_not_end_its_sample_again(
    golden: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    postprocess = golden.pipeline._stages.postprocess
    monkeypatch.setattr(golden.pipeline._stages, "postprocess", lambda *given: (postprocess(*given)[0], ["an event"]))
    monkeypatch.setattr(golden, "events", lambda *_: json.dumps(object()))
    with caplog.at_level(logging.CRITICAL), golden as stage:
        stage.wait_until_ended()
    assert stage.given_up == []
    assert len(stage.results) == stage.counts()["inferred"] == len(GOLDEN)


def test_a_model_that_hangs_is_seen_and_a_broker_that_hangs_is_not_taken_for_it(golden: Stage, model: Model) -> None:
    with golden as stage:
        with no_engine_is_free(model):
            wait_until(lambda: stage.pipeline.busy_for() > 0.1, 10, "the model seems to hang")
        stage.gate.clear()
        before = stage.counts()["produced"]
        stage.wait_for(lambda stage: stage.counts()["produced"] > before, "a result can't get out")
        wait_until(lambda: stage.pipeline.busy_for() == 0, 10, "nobody is busy")
        stage.gate.set()
        stage.wait_until_ended()
        assert stage.pipeline.busy_for() == 0


class Camera:
    """A live source whose frames come when the test says so."""

    live, capacity, diagnosis = True, 1, ""
    queue: SampleQueue

    def start(self, queue: SampleQueue, _trouble: Any) -> None:
        self.queue = queue

    def wait_ready(self, _timeout: float) -> bool:
        return True

    def stop(self) -> None:
        self.queue.close()

    def close(self, deadline: float) -> None: ...

    def show(self, number: int) -> None:
        self.queue.put(Sample(np.zeros((28, 28, 3), np.uint8), time.time(), time.monotonic(), {"frame": number}))


def test_of_a_live_source_the_newest_frame_is_next_when_a_slow_model_is_free(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_the_model(stage: Stage) -> bool:
        return stage.pipeline._admission._scheduler._began != []

    camera, clock = Camera(), Clock()
    monkeypatch.setattr(frame_timing, "time", clock)
    monkeypatch.setattr(stage_module, "open_source", lambda _source, _context: camera)
    with Stage({"type": "camera"}, model, tmp_path) as stage:
        with no_engine_is_free(model):
            camera.show(1)
            stage.wait_for(in_the_model, "the first frame is in the model")
            clock.now += 100  # from now on it is known to be slow
        stage.wait_for_results(1)
        with no_engine_is_free(model):
            camera.show(2)
            stage.wait_for(in_the_model, "the second frame is in the model")
            for number in (3, 4, 5):
                camera.show(number)
            # A worker that had taken one of them would have to wait with it, while newer ones come.
            stage.wait_for(lambda stage: stage.counts()["dropped"]["superseded"] == 2, "two give way to newer ones")
        stage.wait_for_results(3)
    assert [sample.origin["frame"] for sample in stage.results] == [1, 2, 5]


def test_after_stop_what_was_taken_is_finished_until_the_deadline(golden: Stage) -> None:
    with golden as stage:
        stage.gate.clear()
        stage.wait_for(lambda stage: stage.counts()["captured"] == WORKERS + 2, "some are taken")
        stage.pipeline.stop()
        finishing = threading.Thread(target=stage.pipeline.finish, args=(time.monotonic() + 10,))
        finishing.start()
        stage.gate.set()
        finishing.join(10)
        assert stage.pipeline.ended
    assert len(stage.results) == WORKERS + 2


def test_after_the_deadline_what_was_not_begun_is_given_up_and_counted(golden: Stage) -> None:
    with golden as stage:
        stage.gate.clear()
        stage.wait_for(lambda stage: stage.counts()["captured"] == WORKERS + 2, "some are taken")
        stage.pipeline.stop()
        began = time.monotonic()
        stage.pipeline.finish(began + 0.2)
        assert 0.2 <= time.monotonic() - began < 2 * PATIENCE
        stage.gate.set()
        stage.wait_until_ended()
    assert len(stage.results) == WORKERS
    assert stage.counts()["dropped"]["superseded"] == 2
    assert stage.given_up == []
    assert stage.imbalances == []


def test_two_pipelines_share_a_model_and_each_gets_its_own_answers(model: Model, tmp_path: Path) -> None:
    clip = {"type": "video", "url": str(shipped("clips/meter.mp4")), "fps": "max"}
    regions = CLIP["regions"]
    with (
        Stage({"type": "images", "path": str(DIGITS / "golden")}, model, tmp_path) as images,
        Stage(clip, model, tmp_path, regions=regions, top_k=1) as video,
    ):
        images.wait_until_ended()
        video.wait_until_ended()
    labels = [predictions[0].label for predictions, _, _ in images.outcomes]
    assert labels == [path.name.split("_")[0] for path in GOLDEN]
    check_readings(video)


def check_readings(stage: Stage) -> None:
    """The clip's truth, for the frames in which no wheel is between two digits."""
    for truth in CLIP["truth"]:
        if truth["reading"] is None:
            continue
        first, last = truth["frames"]
        for predictions, _, _ in stage.outcomes[first : last + 1]:
            assert "".join(str(one.label) for one in predictions) == truth["reading"]


LABELS = {"labels": str(DIGITS / "labels.txt")}
GREY = {"color": "gray", "normalize": {"mean": 0, "std": 255}}


@pytest.fixture(params=["digits.tflite", "digits.onnx"])
def file(request: pytest.FixtureRequest) -> settings.Model:
    """The bundled model on either runtime."""
    return settings.Model.model_validate(LABELS | {"path": str(DIGITS / request.param), "preprocess": GREY})


def frames() -> Iterator[Any]:
    capture = cv2.VideoCapture(str(shipped("clips/meter.mp4")))
    while True:
        ok, frame = capture.read()
        if not ok:
            capture.release()
            return
        yield frame


def test_regions_at_once_and_one_by_one_give_the_same_answers(file: settings.Model) -> None:
    batch = len(CLIP["regions"])
    at_once = models.load("digits", file, Path.cwd(), batch)
    assert at_once.engine.at_once, "the bundled model takes a batch"
    one_by_one = models.load("digits", file, Path.cwd(), batch)
    one_by_one.engine.engine.at_once = False
    for frame in itertools.islice(frames(), 0, None, 9):
        crops = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in CLIP["regions"].values()]
        tensor = at_once.preprocess(crops)
        for [together], [apart] in [(at_once.infer(tensor), one_by_one.infer(tensor))]:
            assert together.shape == apart.shape == (batch, 11)
            assert together == pytest.approx(apart, abs=1e-5 if together.dtype == np.float32 else 1)


def test_every_region_gets_predictions_with_its_name(file: settings.Model, tmp_path: Path) -> None:
    width, height = CLIP["size"]
    fractions = {
        name: [x1 / width, y1 / height, x2 / width, y2 / height] for name, (x1, y1, x2, y2) in CLIP["regions"].items()
    }
    model = models.load("digits", file, Path.cwd(), len(fractions))
    clip = {"type": "video", "url": str(shipped("clips/meter.mp4")), "fps": "max"}
    with Stage(clip, model, tmp_path, regions=fractions, top_k=2) as stage:
        stage.wait_until_ended()
    names = [name for name in CLIP["regions"] for _ in range(2)]
    for predictions, facts, _ in stage.outcomes:
        assert [one.region for one in predictions] == names
        assert (facts["width"], facts["height"]) == (width, height)
        del predictions[1::2]
    check_readings(stage)


def test_a_region_outside_the_frame_makes_the_input_unusable(model: Model, tmp_path: Path) -> None:
    clip = {"type": "video", "url": str(shipped("clips/meter.mp4")), "fps": "max"}
    regions = CLIP["regions"] | {"far": [300, 0, 400, 50]}
    with Stage(clip, model, tmp_path, regions=regions) as stage:
        stage.wait_until_ended()
    assert stage.counts()["dropped"]["invalid"] == CLIP["frames"]
    assert {str(error) for _, error in stage.given_up} == {
        "region 'far' reaches to (400, 50), the frame has only 320 x 180 pixels"
    }


def test_what_escapes_one_worker_does_not_make_the_other_one_wait(
    golden: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: escaped.append(arguments.exc_type))
    begin = golden.pipeline._stages.begin

    def broken(samples: Sequence[Sample]) -> Any:
        if samples[0].origin["path"] == str(GOLDEN[0]):
            ended(samples)  # in the daemon, the process ends now, and a broker delivers the sample again
            raise SystemError("before any sample's failure is caught")
        return begin(samples)

    monkeypatch.setattr(golden.pipeline._stages, "begin", broken)
    with golden as stage:
        stage.wait_for_results(len(GOLDEN) - 1)
    assert escaped == [SystemError]
