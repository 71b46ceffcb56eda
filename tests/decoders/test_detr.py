"""DETR and its relatives, YOLO-NAS: boxes that the model has decoded."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import families
from edge_agent.decoders.boxes import cell_count
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from tests.decoders import test_yolo
from tests.decoders.scenes import ALL, Thing, as_it_is, decoder, facts, floats, specs

SIZE = test_yolo.SIZE
CLASSES = len(test_yolo.LABELS)
CHOSEN, RF_DETR = ("labels", "boxes", "scores"), ("dets", "labels")
QUERIES = 20
Arrays = list[NDArray[Any]]


def chosen(things: Sequence[Thing]) -> Arrays:
    """Class numbers, boxes in pixels of the input, scores."""
    labels, boxes, scores = np.zeros((1, QUERIES), np.int64), np.zeros((1, QUERIES, 4)), np.zeros((1, QUERIES))
    for row, thing in enumerate(things):
        labels[0, row], boxes[0, row], scores[0, row] = thing.class_id, thing.box, thing.score
    return [labels, floats(boxes), floats(scores)]


def queries(things: Sequence[Thing]) -> Arrays:
    """Centre, width and height in fractions of the input, and logits of each class."""
    boxes, logits = np.zeros((1, QUERIES, 4)), np.full((1, QUERIES, CLASSES), -9.0)
    for row, thing in enumerate(things):
        boxes[0, row] = np.array(thing.xywh) / (*SIZE[::-1], *SIZE[::-1])
        logits[0, row, thing.class_id] = np.log(thing.score / (1 - thing.score))
    return [floats(boxes), floats(logits)]


def cells(things: Sequence[Thing]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes in pixels of the input and probabilities of each class, a cell each."""
    count = cell_count(SIZE, (8, 16, 32))
    boxes, scores = np.zeros((1, count, 4), np.float32), np.zeros((1, count, CLASSES), np.float32)
    for row, thing in enumerate(things):
        boxes[0, row], scores[0, row, thing.class_id] = thing.box, thing.score
    return boxes, scores


def class_first(things: Sequence[Thing]) -> Arrays:
    """Rows of class, score, corners, and how many there are; unused rows have class -1."""
    rows = np.full((QUERIES, 6), -1, np.float32)
    for row, thing in enumerate(things):
        rows[row] = thing.class_id, thing.score, *thing.box
    return [rows, np.array([len(things)], np.int32)]


OUTPUTS: Mapping[tuple[str, ...], Callable[[Sequence[Thing]], Arrays]] = {CHOSEN: chosen, RF_DETR: queries}


def file_of(names: Sequence[str], outputs: Arrays) -> ModelFile:
    tensors = [Tensor(name, one.shape, one.dtype.name) for name, one in zip(names, outputs, strict=True)]
    return facts(*tensors, size=SIZE, file_format="onnx")


@pytest.mark.parametrize("names", OUTPUTS)
def test_the_names_of_the_outputs_show_the_family(names: tuple[str, ...]) -> None:
    scene = OUTPUTS[names](test_yolo.THINGS)
    (recognition,) = families.fitting(file_of(names, scene))
    assert (recognition.family, recognition.resize, recognition.color) == ("detr", "stretch", "rgb")
    found = families.build(recognition, specs(file_of(names, scene)), test_yolo.LABELS)(scene, [as_it_is(SIZE)], ALL)
    for one, thing in zip(found, sorted(test_yolo.THINGS, key=lambda thing: -thing.score), strict=False):
        assert one.class_id == thing.class_id
        assert one.confidence == pytest.approx(thing.score, abs=1e-4)
        assert one.box == pytest.approx(thing.box, abs=0.01)


def test_an_export_that_drops_the_axis_of_the_batch_gives_the_same() -> None:
    scene = chosen(test_yolo.THINGS)
    decode = decoder(file_of(CHOSEN, scene), "detr", test_yolo.LABELS)
    assert decode([one[0] for one in scene], [as_it_is(SIZE)], ALL) == decode(scene, [as_it_is(SIZE)], ALL)


def test_boxes_in_fractions_are_refused_where_pixels_are_expected() -> None:
    scene = chosen(test_yolo.THINGS)
    decode = decoder(file_of(CHOSEN, scene), "detr", test_yolo.LABELS)
    with pytest.raises(InputError, match="boxes are fractions"):
        decode([scene[0], scene[1] / 1000, scene[2]], [as_it_is(SIZE)], ALL)


def test_what_the_scores_of_transformers_are_has_to_be_stated() -> None:
    boxes, logits = queries(test_yolo.THINGS)
    file = file_of(("logits", "pred_boxes"), [logits, boxes])
    (recognition,) = families.fitting(file)
    assert set(recognition.missing) == {"output"}
    sure = np.full((1, QUERIES, CLASSES), 0.0, np.float32)
    sure[..., -1] = 9  # no object
    sure[0, 4] = np.eye(CLASSES)[0] * 9
    decode = families.build(recognition, specs(file), test_yolo.LABELS[: CLASSES - 1], output="logits")
    (found,) = decode([sure, boxes + 0.5], [as_it_is(SIZE)], ALL)
    assert found.class_id == 0


def test_the_batch_format_of_yolo_nas_counts_its_boxes() -> None:
    names = ("num_predictions", "pred_boxes", "pred_scores", "pred_classes")
    labels, boxes, scores = chosen(test_yolo.THINGS)
    scene = [np.array([[1]]), boxes, scores, labels]
    (recognition,) = families.fitting(file_of(names, scene))
    decode = families.build(recognition, specs(file_of(names, scene)), test_yolo.LABELS)
    (found,) = decode(scene, [as_it_is(SIZE)], ALL)
    assert found.box == pytest.approx(test_yolo.THINGS[0].box)


def test_paddle_detection_is_known_by_the_number_of_its_rows() -> None:
    rows, count = class_first(test_yolo.THINGS)
    file = facts(Tensor("out", (-1, 6), "float32"), Tensor("count", (-1,), "int32"), size=SIZE)
    (recognition,) = families.fitting(file)
    found = families.build(recognition, specs(file), test_yolo.LABELS)([rows, count], [as_it_is(SIZE)], ALL)
    assert recognition.family == "paddle"
    assert found[0].box == pytest.approx(max(test_yolo.THINGS, key=lambda thing: thing.score).box)


def test_cells_of_yolo_nas_are_no_anchors_of_ssd() -> None:
    boxes, scores = cells(test_yolo.THINGS)
    file = facts(boxes.shape, scores.shape, size=SIZE)
    assert [one.family for one in families.fitting(file)] == ["yolo_nas"]
