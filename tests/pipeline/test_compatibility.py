"""Names in a pipeline's settings that nothing bears are refused before anything runs."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from edge_agent.config import loader
from edge_agent.errors import ConfigError
from edge_agent.models.model import Model
from edge_agent.models.statistics import StatisticsModel
from edge_agent.pipeline import compatibility
from edge_agent.preprocess.sensor import OfSensor
from edge_agent.settings.series import Input
from edge_agent.settings.statistics import STATISTICS
from edge_agent.timeseries.numbers import SeriesPreprocess

CAMERA = {"type": "camera"}
PROGRAM = {"type": "command", "argv": ["true"], "format": "csv"}


def model(task: str, *labels: str, preprocess: object = None) -> Mock:
    facts = {"task": task, "labels": labels, "preprocess": preprocess, "takes_pictures": preprocess is None}
    return Mock(spec=Model, keeps_state=False, **facts)


MODELS = {
    "objects": model("detection", "person", "bicycle", "car"),
    "breeds": model("classification", "terrier", "beagle"),
    "numbers": model("classification"),
    "value": model("regression"),
    "unnamed": model(
        "classification",
        "walk",
        preprocess=SeriesPreprocess((32, 2), True, "float32", 0, 0, input=Input(kind="series")),
    ),
    "moves": model(
        "classification",
        "walk",
        preprocess=SeriesPreprocess((32, 2), True, "float32", 0, 0, input=Input(kind="series", channels=("x", "y"))),
    ),
}


def problems(pipelines: dict[str, Any], folder: Path) -> list[str]:
    """What is wrong with the pipelines, without the places in the file."""
    file = folder / "agent.yaml"
    models = {name: {"path": "m.tflite"} for name in MODELS}
    file.write_text(yaml.safe_dump({"models": models, "pipelines": pipelines}))
    (folder / "m.tflite").touch()
    try:
        compatibility.check(loader.load(file), MODELS | {STATISTICS: StatisticsModel()})
    except ConfigError as error:
        return [problem.partition(": ")[2] for problem in error.problems]
    return []


def second(labels: list[str], **parent: Any) -> dict[str, Any]:
    source = {"type": "pipeline", "name": "yard", "labels": labels}
    return {
        "yard": {"source": CAMERA, "model": "objects"} | parent,
        "dogs": {"source": source, "model": "breeds"},
    }


@pytest.mark.parametrize(
    ("labels", "parent", "problem"),
    [
        (["Person"], {}, "yard finds no 'Person': did you mean 'person'?"),
        (["person", "bycicle"], {}, "yard finds no 'bycicle': did you mean 'bicycle'?"),
        (["lynx"], {}, "yard finds no 'lynx': there are person, bicycle, car"),
        (["car"], {"filters": {"labels": ["person"]}}, "the filters of yard let nothing through that is called 'car'"),
    ],
)
def test_a_label_that_the_other_pipeline_never_gives_is_refused(
    labels: list[str], parent: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    [found] = problems(second(labels, **parent), tmp_path)
    assert found.startswith("pipelines.dogs.source.labels: ")
    assert problem in found


def test_labels_that_the_other_pipeline_gives_are_accepted(tmp_path: Path) -> None:
    assert problems(second(["person", "car"]), tmp_path) == []
    assert problems(second(["car"], filters={"labels": ["car", "person"]}), tmp_path) == []
    assert problems(second([]), tmp_path) == []


@pytest.mark.parametrize("filters", [{"labels": ["Terrier"]}, {"min_confidence": {"Terrier": 0.5}}])
def test_a_label_that_the_model_does_not_have_is_refused(filters: dict[str, Any], tmp_path: Path) -> None:
    [found] = problems({"dogs": {"source": CAMERA, "model": "breeds", "filters": filters}}, tmp_path)
    assert f"pipelines.dogs.filters.{next(iter(filters))}: the model has no label 'Terrier'" in found
    assert "did you mean 'terrier'?" in found


def test_of_a_model_without_labels_no_name_is_refused(tmp_path: Path) -> None:
    assert problems({"dogs": {"source": CAMERA, "model": "numbers", "filters": {"labels": ["7"]}}}, tmp_path) == []


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        (["x", "z"], "moves takes the channels x, y, and here is no 'y': there are x, z"),
        (["X", "y"], "here is no 'x': did you mean 'X'?"),
        (["y", "z", "x"], ""),
        ([], ""),
    ],
)
def test_a_channel_that_the_source_does_not_give_is_refused(channels: list[str], problem: str, tmp_path: Path) -> None:
    source = PROGRAM | ({"channels": channels} if channels else {})
    found = problems({"moves": {"source": source, "model": "moves", "window": {}}}, tmp_path)
    assert len(found) == bool(problem)
    assert all(one.startswith("pipelines.moves.source.channels: ") and problem in one for one in found)


@pytest.mark.parametrize(
    ("least", "most", "refused"), [(0.5, 0.1, True), (900, 100, True), (0.1, 0.5, False), (0.1, 900, False)]
)
def test_areas_between_which_nothing_fits_are_refused(least: float, most: float, refused: bool, tmp_path: Path) -> None:
    filters = {"min_area": least, "max_area": most}
    found = problems({"yard": {"source": CAMERA, "model": "objects", "filters": filters}}, tmp_path)
    assert bool(found) == refused


def test_a_model_in_a_camera_and_its_source_need_each_other(tmp_path: Path) -> None:
    sides: dict[str, Any] = {"height": 8, "width": 8, "mean": (0.0,), "std": (1.0,), "dtype": "uint8"}
    network = OfSensor(resize="stretch", color="rgb", layout="nhwc", **sides, numbers=6)
    camera = {"type": "ai_camera", "model": "objects"}
    assert problems({"yard": {"source": camera}}, tmp_path) == [
        "pipelines.yard.source.model: objects does not run in the camera: state a .rpk file"
    ]
    in_camera = model("detection", "person", preprocess=network)
    in_camera.takes_pictures = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "objects", in_camera)
        assert problems({"yard": {"source": camera}}, tmp_path) == []
        [elsewhere] = problems({"yard": {"source": CAMERA, "model": "objects"}}, tmp_path)
        assert "runs in the AI Camera only" in elsewhere
        [regions] = problems({"yard": {"source": camera, "regions": {"door": [0, 0, 1, 1]}}}, tmp_path)
        assert "is not for the AI Camera" in regions


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"confidence": [0.1, 0.5]}, "confidence"),
        ({"margin": 0.1}, "margin"),
        ({"disagreement": 0.5}, "disagreement"),
        ({"flicker": 2}, "flicker"),
        ({"event": ["enter"]}, "event"),
        ({"mean_probability": [0, 0.5]}, "mean_probability"),
        ({"anomaly": 0.2, "event": ["alarm", "end"], "failed": True, "random": 0.1}, ""),
    ],
)
def test_rules_that_never_apply_to_readings_are_refused(rule: dict[str, Any], key: str, tmp_path: Path) -> None:
    cellar = {"source": PROGRAM, "model": {"type": STATISTICS}, "keep": {"when": rule}}
    found = problems({"cellar": cellar}, tmp_path)
    assert [one.split(": ")[0] for one in found] == ([f"pipelines.cellar.keep.when.{key}"] if key else [])


@pytest.mark.parametrize("key", ["keep", "record"])
@pytest.mark.parametrize(
    ("pipeline", "hiding", "problem"),
    [
        ({"source": CAMERA, "model": "objects"}, {"blur": {"labels": ["Person"]}}, "blur.labels: the model has no"),
        ({"source": CAMERA, "model": "breeds"}, {"blur": {"labels": ["beagle"]}}, "blur: breeds finds no boxes"),
        ({"source": PROGRAM, "model": "moves"}, {"mask": [[[0, 0], [1, 0], [1, 1]]]}, "mask: is for pictures"),
    ],
)
def test_what_can_not_be_hidden_is_refused(
    key: str, pipeline: dict[str, Any], hiding: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    [found] = problems({"yard": pipeline | {key: hiding}}, tmp_path)
    assert found.startswith(f"pipelines.yard.{key}.{problem}")
