import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.errors import InputError, ModelError
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, floats

SIZE = (240, 320)
FACES = (Thing((10, 12, 50, 60), 1, 0.95), Thing((200, 100, 300, 220), 1, 0.8))
LABELS = ("background", "face")
FILE = facts((1, 4420, 2), (1, 4420, 4), size=SIZE, file_format="onnx", operators=("Softmax", "Concat"))


def encoded() -> list[Floats]:
    scores, boxes = np.zeros((1, 4420, 2), np.float32), np.zeros((1, 4420, 4), np.float32)
    scores[..., 0] = 1
    for number, face in enumerate(FACES):
        for row, better in ((100 * number, 0), (100 * number + 1, 0.01)):
            scores[0, row] = [1 - face.score + better, face.score - better]
            boxes[0, row] = floats(face.box) / (320, 240, 320, 240)
    return [scores, boxes]


def test_faces_come_back_as_they_were_put_in() -> None:
    found = decoder(FILE, "ultraface", LABELS)(encoded(), [as_it_is(SIZE)], ALL)
    assert_same(found, FACES, score=1e-5, iou=0.999)
    assert {one.label for one in found} == {"face"}


def test_the_label_of_the_background_may_be_left_out() -> None:
    found = decoder(FILE, "ultraface", ["Gesicht"])(encoded(), [as_it_is(SIZE)], ALL)
    assert {(one.label, one.class_id) for one in found} == {("Gesicht", 1)}


def test_outputs_may_come_in_the_other_order() -> None:
    file = facts((1, 4420, 4), (1, 4420, 2), size=SIZE)
    assert_same(decoder(file, "ultraface")(encoded()[::-1], [as_it_is(SIZE)], ALL), FACES, score=1e-5, iou=0.999)


def test_an_answer_of_no_numbers_is_refused() -> None:
    for place_of in range(2):
        outputs = encoded()
        outputs[place_of][0, 0] = np.nan
        with pytest.raises(InputError, match="not numbers"):
            decoder(FILE, "ultraface")(outputs, [as_it_is(SIZE)], ALL)
    with pytest.raises(ModelError, match="expected an output of shape"):
        decoder(FILE, "ultraface")([one[:, :9] for one in encoded()], [as_it_is(SIZE)], ALL)


@pytest.mark.parametrize(("size", "count"), [((240, 320), 4420), ((480, 640), 17640)])
def test_the_number_of_places_tells_the_family_and_with_it_the_labels(size: tuple[int, int], count: int) -> None:
    (found,) = families.fitting(facts((1, count, 2), (1, count, 4), size=size))
    assert (found.family, found.labels, found.normalization) == ("ultraface", LABELS, ((127,), (128,)))
    assert "ultraface" not in [
        one.family for one in families.fitting(facts((1, count + 1, 2), (1, count + 1, 4), size=size))
    ]
