"""MediaPipe's landmarks: outputs in any order, points in pixels, and the score that there is anything."""

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.decoders import Limits, families
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.samples import Prediction
from tests.decoders.scenes import Floats, as_it_is, facts, specs

SIZE = (224, 224)
# Names, shapes and last operators, as published.
OUTPUTS = {
    "hand": (
        ("Identity", (1, 63), "FULLY_CONNECTED"),
        ("Identity_1", (1, 1), "LOGISTIC"),
        ("Identity_2", (1, 1), "LOGISTIC"),
        ("Identity_3", (1, 63), "FULLY_CONNECTED"),
    ),
    "face": (("conv2d_21", (1, 1, 1, 1404), "CONV_2D"), ("conv2d_31", (1, 1, 1, 1), "CONV_2D")),
    "person": (
        ("Identity", (1, 195), "CONV_2D"),
        ("Identity_1", (1, 1), "LOGISTIC"),
        ("Identity_2", (1, 56, 56, 1), "CONV_2D"),
        ("Identity_3", (1, 117), "CONV_2D"),
    ),
}
POINTS = {"hand": 21, "face": 468, "person": 33}


def file_of(what: str, size: tuple[int, int] = SIZE) -> ModelFile:
    tensors = [Tensor(name, shape, "float32") for name, shape, _ in OUTPUTS[what]]
    return facts(*tensors, size=size, operators=[operator for _, _, operator in OUTPUTS[what]])


def pixels(count: int) -> Floats:
    """Points (count, 2) all over the input."""
    return np.random.default_rng(count).uniform(5, 219, (count, 2)).astype(np.float32)


def scene(what: str) -> list[Floats]:
    """The outputs for an input in which there is one."""
    count, columns = {"hand": (21, 3), "face": (468, 3), "person": (39, 5)}[what]
    landmarks = np.zeros((count, columns), np.float32)
    landmarks[: POINTS[what], :2] = pixels(POINTS[what])
    if what == "person":
        landmarks[:, 3] = np.log(0.7 / 0.3)
    score = 2.0 if what == "face" else 0.8
    return [
        landmarks.reshape(shape)
        if np.prod(shape) == landmarks.size and number == 0
        else np.full(shape, score if np.prod(shape) == 1 else 0.05, np.float32)
        for number, (_, shape, _) in enumerate(OUTPUTS[what])
    ]


def seen(file: ModelFile, outputs: list[Floats], least: float = 0.25) -> list[Prediction]:
    (recognition,) = families.fitting(file)
    assert recognition.family == "landmarks"
    return families.build(recognition, specs(file), recognition.labels)(outputs, [as_it_is(SIZE)], Limits(10, least))


@pytest.mark.parametrize("what", OUTPUTS)
@pytest.mark.parametrize("seed", range(3))
def test_points_come_out_in_pixels_whatever_the_order_of_the_outputs(what: str, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(OUTPUTS[what]))
    file, outputs = file_of(what), scene(what)
    file = replace(
        file,
        outputs=tuple(file.outputs[n] for n in order),
        output_operators=tuple(file.output_operators[n] for n in order),
    )
    (found,) = seen(file, [outputs[n] for n in order])
    assert found.keypoints is not None
    assert np.allclose([point[:2] for point in found.keypoints], pixels(POINTS[what]), atol=0.01)
    expected = 1 / (1 + np.exp(-2)) if what == "face" else 0.8
    assert found.confidence == pytest.approx(expected, abs=1e-5)
    assert (found.box, found.label) == (None, {"hand": "right hand"}.get(what, what))
    if what == "person":
        assert {round(point[2], 4) for point in found.keypoints} == {0.7}


@pytest.mark.parametrize(("side", "label"), [(0.1, "left hand"), (0.9, "right hand")])
def test_the_second_score_of_a_hand_is_its_side(side: float, label: str) -> None:
    outputs = scene("hand")
    outputs[2][:] = side
    (found,) = seen(file_of("hand"), outputs)
    assert (found.label, found.class_id) == (label, int(side > 0.5))
    assert found.confidence == pytest.approx(0.8)


def test_older_hand_models_say_which_output_is_the_side() -> None:
    tensors = [
        Tensor(*one, "float32")
        for one in (("ld_21_3d", (1, 63)), ("output_handedness", (1, 1)), ("output_handflag", (1, 1)))
    ]
    file = facts(*tensors, size=SIZE, operators=("", "LOGISTIC", "LOGISTIC"))
    landmarks, score, _, _ = scene("hand")
    (found,) = seen(file, [landmarks, np.zeros_like(score), score])
    assert found.label == "left hand"
    assert found.confidence == pytest.approx(0.8)


def test_landmarks_as_fractions_of_the_input_are_recognised() -> None:
    outputs = scene("face")
    (found,) = seen(file_of("face"), [outputs[0] / np.float32(224), outputs[1]])
    assert found.keypoints is not None
    assert np.allclose(found.keypoints, pixels(468), atol=0.01)


def test_where_there_is_nothing_nothing_is_found() -> None:
    outputs = scene("person")
    outputs[1][:] = 0.1
    assert seen(file_of("person"), outputs) == []


@pytest.mark.parametrize("number", [0, 1])
def test_an_answer_of_no_numbers_is_refused(number: int) -> None:
    outputs = scene("hand")
    outputs[number][0, 0] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        seen(file_of("hand"), outputs)


def test_the_evidence_says_that_it_expects_a_crop() -> None:
    (found,) = families.fitting(file_of("hand"))
    assert (found.labels, found.resize, found.normalization) == (
        ("left hand", "right hand"),
        "letterbox",
        ((0,), (255,)),
    )
    assert any("it expects a crop of one hand" in sentence for sentence in found.evidence)
