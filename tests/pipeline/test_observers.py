"""What looks at the results of a pipeline."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.counters import Dropped
from edge_agent.errors import EdgeAgentError
from edge_agent.models.model import Model
from edge_agent.samples import Sample
from edge_agent.sources.observer import Observation
from tests.pipeline.conftest import GOLDEN
from tests.sources.stage import Stage


class Observer:
    """Looks at results, and at the pictures of those frames whose number it wants."""

    def __init__(self, *wanted: int) -> None:
        self.wanted = wanted
        self.seen: list[Observation] = []
        self.failures: list[tuple[Sample, Dropped]] = []
        self.ends = 0

    def needs_image(self, sample: Sample) -> bool:
        return Path(sample.origin["path"]).stem in [GOLDEN[number].stem for number in self.wanted]

    def on_result(self, observation: Observation) -> None:
        self.seen.append(observation)

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        assert str(error)
        self.failures.append((sample, reason))

    def on_end(self) -> None:
        self.ends += 1


def test_only_a_sample_whose_pixels_an_observer_needs_is_decoded_whole(tmp_path: Path, model: Model) -> None:
    # Ten times as large as they are, so that it pays to decode them at a reduced size.
    for path in GOLDEN:
        large = np.asarray(cv2.imread(str(path))).repeat(10, axis=0).repeat(10, axis=1)
        cv2.imwrite(str(tmp_path / f"{path.stem}.jpg"), large)
    observer = Observer(1, 3)
    stage = Stage({"type": "images", "path": str(tmp_path)}, model, tmp_path)
    stage.pipeline.observers.append(observer)
    with stage:
        stage.wait_until_ended()
    assert [number for number, seen in enumerate(observer.seen) if seen.image is not None] == [1, 3]
    assert len(observer.seen) == len(GOLDEN)


def test_an_observer_sees_every_result_in_order_and_the_end_once(golden: Stage) -> None:
    observer = Observer()
    golden.pipeline.observers.append(observer)
    with golden as stage:
        stage.wait_until_ended()
    assert [Path(seen.sample.origin["path"]) for seen in observer.seen] == GOLDEN
    assert [list(seen.predictions) for seen in observer.seen] == [predictions for predictions, _, _ in stage.outcomes]
    assert observer.ends == 1


def test_a_defect_in_an_observer_costs_no_result(golden: Stage, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = Observer(), Observer()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    broken.on_result = fail  # type: ignore[method-assign,assignment]  # broken on purpose
    golden.pipeline.observers.extend([broken, sound])
    with caplog.at_level(logging.CRITICAL), golden as stage:
        stage.wait_until_ended()
    assert len(stage.results) == len(sound.seen) == len(GOLDEN)


def test_an_observer_learns_what_has_failed_and_why(tmp_path: Path, model: Model) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    observer = Observer()
    stage = Stage({"type": "images", "path": str(tmp_path / "images")}, model, tmp_path)
    stage.pipeline.observers.append(observer)
    with stage:
        stage.wait_until_ended()
    [(sample, reason)] = observer.failures
    assert (sample.data, reason) == (b"no picture", "invalid")
