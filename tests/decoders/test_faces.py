"""YuNet, SCRFD, RetinaFace, BlazeFace, YOLOv5-face: boxes and points come back as they were put in."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.samples import Prediction
from tests.decoders import faces
from tests.decoders.faces import FACES, SIZE, SQUARE, Face, points_fit
from tests.decoders.scenes import ALL, Floats, as_it_is, assert_same, facts, floats, specs


def file_of(
    outputs: Sequence[Floats], size: tuple[int, int], operator: str = "Sigmoid", names: Sequence[str] = ()
) -> ModelFile:
    """A model file with outputs of these shapes."""
    tensors = [
        Tensor(names[number] if names else f"out{number}", one.shape, one.dtype.name)
        for number, one in enumerate(outputs)
    ]
    return facts(*tensors, size=size, file_format="onnx", operators=[operator] * len(outputs))


def found_by(file: ModelFile, outputs: Sequence[Floats], size: tuple[int, int], family: str) -> list[Prediction]:
    """What the one family that recognises a file sees; its own labels, or none."""
    (recognition,) = families.fitting(file)
    assert recognition.family == family
    decode = families.build(recognition, specs(file), recognition.labels)
    return decode(outputs, [as_it_is(size)], ALL)


def assert_faces(found: Sequence[Prediction], true: Sequence[Face] = FACES) -> None:
    assert_same(found, true, score=1e-4, iou=0.99)
    assert points_fit(found, true)


@pytest.mark.parametrize(
    "names", [(), [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]]
)
def test_yunet(names: Sequence[str]) -> None:
    outputs = faces.yunet(FACES)
    assert_faces(found_by(file_of(outputs, SIZE, names=names), outputs, SIZE, "yunet"))


def test_yunet_with_open_numbers_of_cells_goes_by_the_strides_in_its_names() -> None:
    outputs = faces.yunet(FACES)
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    order = np.random.default_rng(1).permutation(12)
    file = file_of([outputs[n] for n in order], SIZE, names=[names[n] for n in order])
    file = replace(file, outputs=tuple(replace(one, shape=(1, -1, one.shape[2])) for one in file.outputs))
    assert_faces(found_by(file, [outputs[n] for n in order], SIZE, "yunet"))


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_scrfd(points: bool, shuffled: bool) -> None:
    outputs = faces.scrfd(FACES)[: 9 if points else 6]
    if shuffled:
        outputs = outputs[::-1]
    found = found_by(file_of(outputs, SIZE), outputs, SIZE, "scrfd")
    if points:
        assert_faces(found)
    else:
        assert_same(found, FACES, score=1e-4, iou=0.99)
        assert [one.keypoints for one in found] == [None] * len(found)


def test_scrfd_without_an_axis_of_the_batch() -> None:
    outputs = [one[0] for one in faces.scrfd(FACES)]
    assert_faces(found_by(file_of(outputs, SIZE), outputs, SIZE, "scrfd"))


def test_scrfd_of_an_open_size_ignores_the_sizes_that_it_was_exported_with() -> None:
    outputs = faces.scrfd(FACES)
    exported = faces.scrfd((), (640, 640))
    file = replace(file_of(exported, SIZE), open_size=True)
    assert_faces(found_by(file, outputs, SIZE, "scrfd"))
    assert families.fitting(replace(file, open_size=False)) == []


def test_scores_that_are_logits_are_recognised_by_the_last_operator() -> None:
    outputs = faces.scrfd(FACES)
    for number in range(3):
        outputs[number] = np.log(outputs[number] / (1 - outputs[number]))
    assert_faces(found_by(file_of(outputs, SIZE, operator="Conv"), outputs, SIZE, "scrfd"))


@pytest.mark.parametrize("priors", [faces.RETINAFACE, faces.SLIM])
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_retinaface(priors: Sequence[tuple[int, tuple[int, ...]]], logits: bool, joined: bool) -> None:
    outputs: Sequence[Floats] = faces.retinaface(FACES, priors, logits=logits)
    if joined:
        outputs = [np.concatenate(outputs, axis=2)]
    assert_faces(found_by(file_of(outputs, SIZE), outputs, SIZE, "retinaface"))


def test_retinaface_with_other_priors_is_told_them() -> None:
    maps = ((8, (10, 20)), (16, (32, 64)), (32, (128, 256)))
    outputs = faces.retinaface(FACES, maps)
    file = file_of(outputs, SIZE)
    (recognition,) = families.fitting(file)
    assert any("16, 32, 64, 128, 256, 512 pixels; if others in training" in one for one in recognition.evidence)
    sides = floats([[side, side] for _, each in maps for side in each])
    decode = families.build(recognition, specs(file), ["face"], anchors=sides)
    assert_faces(decode(outputs, [as_it_is(SIZE)], ALL))
    with pytest.raises(ModelError, match="anchors: expected 6 lines of the same width and height"):
        families.build(recognition, specs(file), ["face"], anchors=sides[:4])


@pytest.mark.parametrize("size", [(96, 128), (120, 160)])
def test_yunet_of_2022_has_priors(size: tuple[int, int]) -> None:
    boxes, scores, points = faces.retinaface(FACES, faces.SLIM, size, whole=True)
    overlap = scores[..., 1:]
    outputs = [overlap, scores, np.concatenate([boxes, points], axis=2)]
    file = file_of(outputs, size)
    assert families.fitting(file)[0].labels is None, "license plates are detected by a model of the same outputs"
    found = found_by(file, outputs, size, "retinaface")
    assert points_fit(found, FACES)
    assert [one.confidence for one in found] == pytest.approx([0.9, 0.6, 0.4], abs=1e-4)


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize(
    ("points", "size", "grids", "label"),
    [
        (6, SQUARE, ((8, 2), (16, 6)), "face"),
        (6, (256, 256), ((16, 2), (32, 6)), "face"),
        (6, (192, 192), ((4, 1),), "face"),
        (7, (192, 192), ((8, 2), (16, 6)), "palm"),
        (7, (256, 256), ((8, 2), (16, 2), (32, 6)), "palm"),
        (4, (224, 224), ((8, 2), (16, 2), (32, 6)), "person"),
    ],
)
def test_blazeface_and_its_relatives(
    points: int, size: tuple[int, int], grids: Sequence[tuple[int, int]], label: str, separate: bool
) -> None:
    true = faces.moved(FACES, points)
    maps = faces.blazeface(true, size, grids, points)
    outputs = [one for pair in maps for one in pair]
    if not separate:
        outputs = [np.concatenate(kind, axis=1) for kind in zip(*maps, strict=True)]
    file = file_of(outputs[::-1], size)
    (recognition,) = families.fitting(file)
    assert recognition.labels == (label,)
    assert_faces(found_by(file, outputs[::-1], size, "blazeface"), true)


def test_yolov5_face_is_a_yolov5_of_eleven_classes_to_look_at() -> None:
    output = faces.yolov5_face(FACES)
    file = file_of([output], SIZE)
    assert [one.family for one in families.fitting(file)] == ["yolov5_face", "yolov5"]
    assert [one.family for one in families.fitting(file, 11)] == ["yolov5"]
    assert [one.family for one in families.fitting(file, 1)] == ["yolov5_face"]
    decode = families.build(families.stated(file, "yolov5_face"), specs(file), ["face"])
    assert_faces(decode([output], [as_it_is(SIZE)], ALL))
    wrong = families.build(families.stated(file, "yolov5"), specs(file), None)
    with pytest.raises(InputError, match=r"can't be right: scores of up to \d+, where 1 is the most"):
        wrong([output], [as_it_is(SIZE)], ALL)


FAMILIES: dict[str, Callable[[], Sequence[Floats]]] = {
    "yunet": lambda: faces.yunet(FACES),
    "scrfd": lambda: faces.scrfd(FACES),
    "retinaface": lambda: faces.retinaface(FACES),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_another_size_is_none_of_them(family: str) -> None:
    file = file_of(FAMILIES[family](), SIZE)
    assert [one.family for one in families.fitting(file)] == [family]
    assert families.fitting(replace(file, inputs=(Tensor("in", (1, 3, 96, 160), "float32"),))) == []
    assert families.fitting(replace(file, inputs=())) == []
    assert families.fitting(replace(file, outputs=file.outputs[1:], output_operators=file.output_operators[1:])) == []


@pytest.mark.parametrize(
    ("family", "color", "normalization"),
    [
        ("yunet", "bgr", ((0,), (1,))),
        ("scrfd", "rgb", ((127.5,), (128,))),
        ("retinaface", "bgr", ((104, 117, 123), (1,))),
    ],
)
def test_what_each_takes_is_published(family: str, color: str, normalization: tuple[tuple[float, ...], ...]) -> None:
    (one,) = families.fitting(file_of(FAMILIES[family](), SIZE))
    assert (one.color, one.normalization, one.resize, one.labels) == (color, normalization, "letterbox", ("face",))
    assert one.task == "pose"


def test_mediapipes_detectors_take_pixels_from_minus_one_but_for_the_palm_detector_of_192() -> None:
    for points, size, low in ((6, 128, -1), (7, 192, 0), (7, 128, -1)):
        maps = faces.blazeface((), (size, size), points=points)
        (one,) = families.fitting(file_of([part for pair in maps for part in pair], (size, size)))
        assert one.normalization == (((0.0,), (255.0,)) if low == 0 else ((127.5,), (127.5,)))
