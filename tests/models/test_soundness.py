import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.errors import InputError, ModelError
from edge_agent.models.model import load_unqualified
from edge_agent.models.resolve import resolve_model
from edge_agent.models.soundness import check, impossible
from edge_agent.models.stages import SoleStream
from edge_agent.samples import Prediction, Sample
from tests.models.model_bytes import message, node, value_info

FLOAT = 1
PICTURE, SMALL = (0.0, 0.0, 640.0, 480.0), (10.0, 10.0, 20.0, 20.0)
SIZE = (640, 480)


def classifier(folder: Path, *nodes: bytes, output: str = "sigmoid") -> Any:
    """A loaded classifier of pictures of 4 x 4, of these nodes from `image` to `scores`."""
    graph = message(
        *((1, one) for one in nodes),
        (2, "test"),
        (11, value_info("image", FLOAT, 1, 1, 4, 4)),
        (12, value_info("scores", FLOAT, 1, 16)),
    )
    path = folder / "model.onnx"
    path.write_bytes(message((1, 7), (7, graph), (8, message((1, ""), (2, 13)))))
    options = {"path": path, "labels": "none", "preprocess": {"normalize": "unit"}, "output": output}
    return load_unqualified("it", resolve_model(settings.Model.model_validate(options), folder))


def test_a_model_that_answers_the_same_each_time_passes(tmp_path: Path) -> None:
    check(classifier(tmp_path, node("Flatten", ("image",), ("flat",)), node("Sigmoid", ("flat",), ("scores",))))


def test_a_model_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    noise = (
        node("RandomNormalLike", ("image",), ("noise",)),
        node("Add", ("image", "noise"), ("sum",)),
        node("Flatten", ("sum",), ("flat",)),
        node("Sigmoid", ("flat",), ("scores",)),
    )
    with pytest.raises(ModelError, match="another answer each time for the same input"):
        check(classifier(tmp_path, *noise))


def test_a_classifier_that_is_sure_of_every_class_is_refused(tmp_path: Path) -> None:
    ones = (node("Flatten", ("image",), ("flat",)), node("Exp", ("flat",), ("scores",)))
    with pytest.raises(ModelError, match="each of its 16 classes has the score"):
        check(classifier(tmp_path, *ones))


def found(count: int, confidence: float, box: tuple[float, float, float, float] | None) -> list[Prediction]:
    return [Prediction("it", 0, confidence, box=box)] * count


@pytest.mark.parametrize(
    ("predictions", "task", "problem"),
    [
        (found(100, 1.0, SMALL), "detection", "100 objects with the score 1.0"),
        (found(1000, 0.6, PICTURE), "detection", "1000 objects as large as the picture"),
        (found(1000, 0.6, PICTURE), "pose", "1000 objects as large as the picture"),
        (found(10, 1.0, SMALL), "detection", ""),
        (found(1000, 0.6, SMALL), "detection", ""),
        (found(3, 1.0, None), "classification", "each of its 3 classes"),
        (found(1, 1.0, None), "classification", ""),
        (found(2, 1.0, None) + found(1, 0.2, None), "classification", ""),
        ([Prediction(None, None, None, vector=(1.0,))], "embedding", ""),
        ([], "detection", ""),
    ],
)
def test_impossible_answers_to_noise(predictions: list[Prediction], task: str, problem: str) -> None:
    said = impossible(predictions, task, SIZE)
    assert problem in said
    assert bool(said) == bool(problem)


def test_a_state_inside_of_a_file_belongs_to_the_first_stream() -> None:
    def sample(topic: str) -> Sample:
        return Sample(b"", time.time(), time.monotonic(), {"topic": topic})

    stream = SoleStream()
    stream.admit(sample("kitchen"))
    stream.admit(sample("kitchen"))
    with pytest.raises(InputError, match="kitchen came first: take each topic in a pipeline of its own"):
        stream.admit(sample("hall"))
    stream.admit(sample("kitchen"))
