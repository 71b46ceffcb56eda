import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.errors import InputError, ModelError
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts

SIZE = (96, 160)
LABELS = ("cat", "dog", "bird")
THINGS = (Thing((10, 12, 50, 60), 1, 0.72), Thing((80, 20, 150, 90), 2, 0.6), Thing((60, 5, 75, 15), 0, 0.45))


def encoded(*, decoded: bool = False) -> Floats:
    """(cells, 8): each object in the cell of its centre, on the map whose stride is nearest to its size."""
    rows = []
    random = np.random.default_rng(5)
    for stride in (8, 16, 32):
        for y in range(SIZE[0] // stride):
            for x in range(SIZE[1] // stride):
                row = [*random.normal(0.5, 1, 2), *random.normal(0, 1, 2), 0.001, 0.9, 0.9, 0.9]
                for number, thing in enumerate(THINGS):
                    centre_x, centre_y, wide, high = thing.xywh
                    if (centre_x // stride, centre_y // stride, (16, 32, 8)[number]) == (x, y, stride):
                        row[:4] = [
                            centre_x / stride - x,
                            centre_y / stride - y,
                            np.log(wide / stride),
                            np.log(high / stride),
                        ]
                        row[4:] = [0.9, *(thing.score / 0.9 if of == thing.class_id else 0.01 for of in range(3))]
                if decoded:
                    row[:4] = [(row[0] + x) * stride, (row[1] + y) * stride, *(np.exp(row[2:4]) * stride)]
                rows.append(row)
    return np.array(rows, np.float32)


@pytest.mark.parametrize("decoded", [False, True])
def test_boxes_come_back_as_they_were_put_in_whether_the_model_has_decoded_them_or_not(decoded: bool) -> None:
    output = encoded(decoded=decoded)
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolox", LABELS)
    assert_same(decode([output[None]], [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


def test_a_size_beyond_all_measure_does_no_harm() -> None:
    output = encoded()
    output[output[:, 4] > 0.5, 2:4] = 3e38
    found = decoder(facts((1, *output.shape), size=SIZE), "yolox", LABELS)([output[None]], [as_it_is(SIZE)], ALL)
    assert {one.box for one in found} == {(0, 0, 160, 96)}


def test_an_answer_of_no_numbers_is_refused() -> None:
    output = encoded()
    decode = decoder(facts((1, *output.shape), size=SIZE), "yolox", LABELS)
    for column in (4, 5):
        broken = output.copy()
        broken[output[:, 4] > 0.5, column] = np.nan
        with pytest.raises(InputError, match="not numbers"):
            decode([broken[None]], [as_it_is(SIZE)], ALL)
    with pytest.raises(ModelError, match="expected an output of shape"):
        decode([output[None, 1:]], [as_it_is(SIZE)], ALL)


def test_the_published_export_is_known_by_the_names_of_its_tensors() -> None:
    file = facts((1, 3549, 85), size=(416, 416), file_format="onnx", input_name="images")
    assert len(families.fitting(file)) > 1
    named = facts(
        *[one.__class__("output", one.shape, one.dtype) for one in file.outputs],
        size=(416, 416),
        file_format="onnx",
        input_name="images",
    )
    (found,) = families.fitting(named)
    assert (found.family, found.classes, found.color, found.resize) == ("yolox", 80, "bgr", "letterbox")


def test_the_number_of_labels_tells_yolox_from_nanodet_and_yolov8() -> None:
    file = facts((1, 3549, 85), size=(416, 416))
    assert {one.family for one in families.fitting(file)} == {"yolox", "nanodet", "yolov8"}
    assert [one.family for one in families.fitting(file, 80)] == ["yolox"]
    assert [one.family for one in families.fitting(file, 53)] == ["nanodet"]
    assert [one.family for one in families.fitting(file, 81)] == ["yolov8"]
