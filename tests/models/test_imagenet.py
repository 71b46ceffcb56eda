"""Classifiers with ImageNet's classes, without any setting: shown what they were evaluated on."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.modelfile import inspect
from edge_agent.models.io_spec import Stated, derive
from edge_agent.models.model import Model, load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.stages import Stages
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess, fit
from edge_agent.preprocess.placement import place
from edge_agent.samples import Sample

MOBILENET = "classify_tflite/mobilenet_v2_1.0_224_quant.tflite"


def load(data_dir: Path, name: str, **stated: object) -> Model:
    path = data_dir / name
    options = settings.Model.model_validate({"path": path, **stated})
    return load_unqualified("tried", resolve_model(options, path.parent))


def test_mobilenet_is_right_about_as_many_photographs_as_published(data_dir: Path) -> None:
    model = load(data_dir, MOBILENET, labels=data_dir / "labels/coral_imagenet_labels.txt")
    predictor = Predictor(model, 1, 0.0)
    folder = data_dir / "imagenet_100"
    with (folder / "classes.tsv").open() as file:
        _, *rows = csv.reader(file, delimiter="\t")
    right = 0
    for number, name in rows:
        (top,) = predictor.ask(read_file(folder / name)).predictions
        right += top.class_id == int(number) + 1  # class 0 is the background
    assert len(rows) == 100
    assert right >= 87


@pytest.mark.parametrize(
    ("stated", "resize", "crop", "unasked"),
    [
        ({}, "center_crop", 0.875, True),
        ({"labels": "IMAGENET"}, "center_crop", 0.875, True),
        ({"labels": "OTHERS"}, "stretch", 1.0, False),
        ({"preprocess": {"resize": "stretch"}}, "stretch", 1.0, False),
        ({"preprocess": {"resize": "center_crop"}}, "center_crop", 1.0, False),
        ({"preprocess": {"crop": 0.9}}, "center_crop", 0.9, False),
    ],
)
def test_the_middle_is_the_default_where_classes_are_those_of_imagenet(
    stated: dict[str, object], resize: str, crop: float, unasked: bool, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "others.txt").write_text("".join(f"part {number}x\n" for number in range(1001)))
    paths = {"IMAGENET": data_dir / "labels/coral_imagenet_labels.txt", "OTHERS": tmp_path / "others.txt"}
    labels = paths.get(str(stated.get("labels")), "none")
    options = settings.Model.model_validate({"path": data_dir / MOBILENET, **stated, "labels": labels})
    source = resolve_model(options, tmp_path)
    spec = derive(source.file, source.stated)
    assert isinstance(spec.preprocess, Preprocess)
    assert (spec.preprocess.resize, spec.preprocess.crop, spec.preprocess.crops_unasked) == (resize, crop, unasked)
    (sentence,) = [one for one in spec.evidence if one.startswith("resize: ")]
    assert ("the sides are not looked at" in sentence) is unasked


def test_classifiers_of_other_classes_are_stretched(data_dir: Path) -> None:
    file = inspect.read(data_dir / "tinymlperf/vww_96_int8.tflite")
    stated = Stated(preprocess=settings.Preprocess(normalize="unit"), without_labels=True)
    assert derive(file, stated).preprocess.resize == "stretch"  # type: ignore[union-attr]  # it takes pictures


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (100, 90), (640, 480), (3000, 300), (256, 256)])
def test_the_shorter_side_is_resized_and_the_middle_kept(size: tuple[int, int]) -> None:
    height, width = size
    ramp = np.linspace(0, 255, width)[np.newaxis, :, np.newaxis] * np.ones((height, 1, 3))
    fitted = fit(ramp.astype(np.uint8), 224, 224, "center_crop", 0.875)
    assert fitted.shape == (224, 224, 3)
    kept = min(size) * 0.875
    ends = [((width + side * kept) / 2 - 0.5) / (width - 1) * 255 for side in (-1, 1)]
    assert [float(fitted[112, 0, 0]), float(fitted[112, -1, 0])] == pytest.approx(ends, abs=255 / kept * 2 + 2)


@pytest.mark.parametrize("size", [(480, 640), (100, 90), (640, 480), (1, 300), (333, 500)])
def test_coordinates_find_their_way_back_from_the_middle(size: tuple[int, int]) -> None:
    height, width = size
    placement = place(None, (0, 0), (width, height), (width, height), (224, 224), "center_crop", crop=0.875)
    corners = placement.to_picture(np.array([[0, 0], [224, 224], [112, 112]], np.float32))
    kept = min(size) * 0.875
    expected = [(width - kept) / 2, (height - kept) / 2, (width + kept) / 2, (height + kept) / 2]
    assert corners[:2].ravel() == pytest.approx(np.clip(expected, 0, [width, height] * 2), abs=2)
    assert corners[2] == pytest.approx((width / 2, height / 2), abs=1.5)


def frame(width: int, height: int) -> Sample:
    return Sample(np.zeros((height, width, 3), np.uint8), captured_at=0.0, captured=0.0, origin={})


@pytest.mark.parametrize(
    ("source", "more", "size", "said"),
    [
        ({"type": "camera"}, {}, (640, 480), 1),
        ({"type": "video", "url": "clip.mp4"}, {}, (1280, 720), 1),
        ({"type": "camera"}, {}, (480, 480), 0),
        ({"type": "images", "path": "."}, {}, (640, 480), 0),
        ({"type": "camera"}, {"regions": {"left": [0, 0, 320, 320]}}, (640, 480), 0),
    ],
)
def test_a_pipeline_says_once_that_the_sides_of_wide_frames_are_not_looked_at(
    source: dict[str, str],
    more: dict[str, object],
    size: tuple[int, int],
    said: int,
    data_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = load(data_dir, MOBILENET, labels="none")
    options = settings.Pipeline.model_validate({"source": source, "model": "m", **more})
    stages = Stages("porch", options, model)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            (item,) = stages.begin([frame(*size)])
            stages.prepare(item, needs_image=False)
    found = [record.getMessage() for record in caplog.records if record.getMessage().startswith("porch: ")]
    assert len(found) == said
    assert all("regions" in one and "resize: stretch" in one for one in found)
