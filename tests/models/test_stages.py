import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.models.model import Model
from edge_agent.models.stages import Stages
from edge_agent.postprocess.tracking import Event
from edge_agent.samples import Prediction, Sample
from tests.sources.stage import digits_model


@pytest.fixture(scope="module")
def model() -> Model:
    return digits_model()


def seen(model: Model, frames: list[tuple[float, bool]], **tracking: float) -> list[tuple[Event, Sample]]:
    """What happens to somebody in a clip that is read at once; of a frame: its second, and whether they are there."""
    options = settings.Pipeline.model_validate(
        {"source": {"type": "video", "url": "clip.mp4", "fps": "max"}, "model": "digits", "tracking": tracking}
    )
    stages, found = Stages("door", options, model), []
    for played, there in frames:
        image = np.zeros((48, 64, 3), np.uint8)
        sample = Sample(image, time.time(), time.monotonic(), {"position_s": played % 10}, played=played)
        [item] = stages.begin([sample])
        stages.prepare(item, needs_image=False)
        people = [Prediction("person", 0, 0.9, box=(10, 10, 20, 40))] if there else []
        _, events = stages.postprocess(item, people)
        found += [(event, sample) for event in events if isinstance(event, Event)]
    return found


def test_objects_of_a_clip_come_and_go_in_the_time_of_the_clip_however_fast_it_is_read(model: Model) -> None:
    frames = [(step / 2, 2 <= step < 20) for step in range(40)]
    events = seen(model, frames, dwell=5, lost_after=2)
    assert [event.kind for event, _ in events] == ["enter", "dwell", "leave"]
    assert [event.seconds for event, _ in events] == pytest.approx([0, 5, 8.5])
    # They were seen a second to the last time, as the picture that shows it says.
    ago = [sample.captured - event.time for event, sample in events]
    assert ago == pytest.approx([0.5, 0, 2.5])


def test_in_a_clip_that_starts_again_its_objects_go_on_in_time(model: Model) -> None:
    [(enter, _), (leave, _)] = seen(model, [(step / 2, step < 50) for step in range(60)], lost_after=2)
    assert (enter.kind, leave.kind) == ("enter", "leave")
    assert leave.seconds == pytest.approx(24.5)


def test_crossings_of_lines_are_events_and_totals_that_go_on_after_a_restart(model: Model, tmp_path: Path) -> None:
    options = settings.Pipeline.model_validate(
        {
            "source": {"type": "video", "url": "clip.mp4", "fps": "max"},
            "model": "digits",
            "tracking": {},
            "lines": {"door": {"from": [0, 0.5], "to": [1, 0.5]}},
        }
    )
    for visits in (1, 2):
        stages, crossed = Stages("door", options, model, state_folder=tmp_path), []
        for step in range(20):
            image = np.zeros((480, 640, 3), np.uint8)
            [item] = stages.begin([Sample(image, time.time(), time.monotonic(), {}, played=step / 10)])
            stages.prepare(item, needs_image=False)
            walker = Prediction("person", 0, 0.9, box=(300, 20 * step, 340, 20 * step + 100))
            crossed += [event.as_dict() for event in stages.postprocess(item, [walker])[1] if event.kind == "cross"]
        assert [(one["line"], one["direction"], one["in"]) for one in crossed] == [("door", "in", visits)]
        assert stages.line_totals == item.lines == {"door": {"in": visits, "out": 0}}
        stages.save()


def test_events_of_labels_that_are_filtered_out_are_not_published(model: Model) -> None:
    options = settings.Pipeline.model_validate(
        {
            "source": {"type": "mqtt", "topic": "in"},
            "model": "digits",
            "filters": {"labels": ["7"]},
            "smoothing": {"over": 1},
        }
    )
    stages, started = Stages("hall", options, model), []
    for label in ("3", "7"):
        sample = Sample(np.zeros((28, 28, 3), np.uint8), time.time(), time.monotonic(), {})
        [item] = stages.begin([sample])
        stages.prepare(item, needs_image=False)
        _, events = stages.postprocess(item, [Prediction(label, int(label), 0.9)])
        started += [event.as_dict()["label"] for event in events]
    assert started == ["7"]
