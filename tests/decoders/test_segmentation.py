import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import families
from edge_agent.decoders.masks import MAX_PARTS, MAX_POINTS
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import Tensor
from edge_agent.preprocess.placement import place
from edge_agent.samples import Prediction
from tests.decoders.scenes import ALL, as_it_is, decoder, facts

SIZE = (96, 128)
LABELS = ("background", "cat", "dog")
FILE = facts(Tensor("", (1, *SIZE), "int64"), size=SIZE, operators=("ARG_MAX",))


def scene() -> NDArray[np.int64]:
    """A ring of class 2 and two discs of class 1."""
    classes = np.zeros(SIZE, np.uint8)
    cv2.circle(classes, (40, 48), 30, 2, -1)
    cv2.circle(classes, (40, 48), 12, 0, -1)
    cv2.circle(classes, (100, 30), 15, 1, -1)
    cv2.circle(classes, (100, 75), 8, 1, -1)
    return classes.astype(np.int64)


def filled(prediction: Prediction, width: int, height: int) -> NDArray[np.bool_]:
    assert prediction.polygons is not None
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [np.array(part).astype(np.int32) for part in prediction.polygons], 1)
    return canvas.astype(bool)


def same(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_every_class_that_is_there_is_told_the_largest_first() -> None:
    found = decoder(FILE, "segmentation", LABELS)([scene()[None]], [as_it_is(SIZE)], ALL)
    counts = np.bincount(scene().ravel())
    assert [(one.label, one.class_id, one.area, one.confidence) for one in found] == [
        (LABELS[class_id], class_id, counts[class_id], None) for class_id in np.argsort(-counts)
    ]
    for one in found:
        assert same(filled(one, 128, 96), scene() == one.class_id) > 0.9


def test_a_published_class_has_no_confidence() -> None:
    (first, *_) = decoder(FILE, "segmentation", LABELS)([scene()[None]], [as_it_is(SIZE)], ALL)
    assert set(first.as_dict()) == {"label", "class_id", "area", "polygons"}


def test_padding_is_no_part_of_the_picture_and_areas_are_pixels_of_it() -> None:
    # 128 x 64 of the input show the picture, the padding is below.
    placement = place("yard", (10, 20), (512, 256), (600, 300), (128, 96), "letterbox")
    found = decoder(FILE, "segmentation", LABELS)([scene()[None]], [placement], ALL)
    large = cv2.resize(scene()[:64].astype(np.uint8), (512, 256), interpolation=cv2.INTER_NEAREST)
    assert sum(one.area or 0 for one in found) == 512 * 256
    for one in found:
        assert one.area == (large == one.class_id).sum()
        assert same(filled(one, 600, 300)[20:276, 10:522], large == one.class_id) > 0.9


@pytest.mark.parametrize("classes_first", [False, True])
@pytest.mark.parametrize("part", [1, 4])
def test_of_scores_the_best_class_is_told(classes_first: bool, part: int) -> None:
    small = scene()[::part, ::part]
    scores = np.random.default_rng(1).uniform(0, 1, (*small.shape, 3)).astype(np.float32)
    np.put_along_axis(scores, small[..., None], 2, axis=2)
    scores = scores.transpose(2, 0, 1) if classes_first else scores
    file = facts((1, *scores.shape), size=SIZE, operators=("RESIZE_BILINEAR",), labels=LABELS)
    (recognition,) = families.fitting(file)
    assert (recognition.family, recognition.classes) == ("segmentation", 3)
    found = decoder(file, "segmentation", LABELS)([scores[None]], [as_it_is(SIZE)], ALL)
    counts = np.bincount(small.ravel()) * part * part
    assert {one.class_id: one.area for one in found} == dict(enumerate(counts.tolist()))


@pytest.mark.parametrize("value", [-1, 10_000, 2**40])
def test_numbers_that_are_no_classes_are_refused(value: int) -> None:
    numbers = scene()
    numbers[0, 0] = value
    with pytest.raises(InputError, match="no numbers of classes"):
        decoder(FILE, "segmentation", LABELS)([numbers[None]], [as_it_is(SIZE)], ALL)


def test_an_outline_is_bounded_however_torn_the_map() -> None:
    numbers = np.random.default_rng(2).integers(0, 2, SIZE)
    for one in decoder(FILE, "segmentation")([numbers[None]], [as_it_is(SIZE)], ALL):
        assert one.polygons is not None
        assert len(one.polygons) <= MAX_PARTS
        assert sum(map(len, one.polygons)) <= MAX_POINTS


def test_a_picture_as_output_is_not_taken_for_scores_of_three_classes() -> None:
    assert families.fitting(facts((1, *SIZE, 3), size=SIZE, operators=("RESIZE_BILINEAR",))) == []
    (found,) = families.fitting(facts((1, *SIZE, 21), size=SIZE, operators=("RESIZE_BILINEAR",)))
    assert (found.family, found.classes) == ("segmentation", 21)


def test_a_quantised_picture_as_output_is_not_taken_for_numbers_of_classes() -> None:
    assert families.fitting(facts(Tensor("", (1, *SIZE, 1), "uint8", 1 / 255, 0), size=SIZE)) == []
