import math
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, specs

SIZE = (100, 160)  # the largest cells reach over the lower edge
LABELS = ("cat", "dog", "bird")
THINGS = (Thing((10, 12, 50, 60), 1, 0.8), Thing((70, 16, 150, 96), 2, 0.6), Thing((56, 4, 72, 20), 0, 0.45))
STRIDE_OF = (16, 32, 8)


def distribution(distance: float) -> list[float]:
    """Eight numbers whose softmax has the mean `distance`, 0 to 7: all of it lies on two neighbours."""
    low = min(int(distance), 6)
    weights = np.full(8, 1e-9)
    weights[[low, low + 1]] = [1 - (distance - low), distance - low]
    return [float(value) for value in np.log(np.maximum(weights, 1e-9))]


def encoded(*, plus: bool) -> Floats:
    """(cells, 3 + 32): each object in a cell near its centre."""
    rows = []
    offset = 0 if plus else 0.5
    for stride in (8, 16, 32, 64) if plus else (8, 16, 32):
        for y in range(math.ceil(SIZE[0] / stride)):
            for x in range(math.ceil(SIZE[1] / stride)):
                row = [0.01, 0.02, 0.03, *[0.0] * 32]
                for number, thing in enumerate(THINGS):
                    centre_x, centre_y = thing.xywh[:2]
                    if (centre_x // stride, centre_y // stride, STRIDE_OF[number]) == (x, y, stride):
                        at = (x + offset) * stride, (y + offset) * stride
                        x1, y1, x2, y2 = thing.box
                        distances = at[0] - x1, at[1] - y1, x2 - at[0], y2 - at[1]
                        row = [0.0, 0.0, 0.0, *(v for distance in distances for v in distribution(distance / stride))]
                        row[thing.class_id] = thing.score
                rows.append(row)
    return np.array(rows, np.float32)


def maps() -> tuple[ModelFile, list[Floats]]:
    """A file with six outputs, as NanoDet-m was exported until 2021, and these."""
    values = encoded(plus=False)[None]
    counts = [math.ceil(SIZE[0] / stride) * math.ceil(SIZE[1] / stride) for stride in (8, 16, 32)]
    parts = np.split(values, np.cumsum(counts)[:-1], axis=1)
    outputs = [part[..., :3] for part in parts] + [part[..., 3:] for part in parts]
    names = [f"{kind}_pred_stride_{stride}" for kind in ("cls", "dis") for stride in (8, 16, 32)]
    tensors = [Tensor(name, one.shape, "float32") for name, one in zip(names, outputs, strict=True)]
    return facts(*tensors, size=SIZE, file_format="onnx", operators=["Sigmoid"] * 3 + ["Transpose"] * 3), outputs


def test_two_outputs_for_each_feature_map_say_the_same_as_one() -> None:
    file, outputs = maps()
    (found,) = families.fitting(file)
    assert (found.family, found.classes, found.named) == ("nanodet", 3, True)
    decode = families.build(found, specs(file), LABELS)
    assert_same(decode(outputs, [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


def test_scores_that_are_logits_are_recognised_by_the_last_operator() -> None:
    file, outputs = maps()
    file = replace(file, output_operators=("Conv",) * 6)
    for number in range(3):
        outputs[number] = np.log((outputs[number] + 1e-9) / (1 - outputs[number]))
    decode = families.build(families.stated(file, "nanodet"), specs(file), LABELS)
    assert_same(decode(outputs, [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


def test_eleven_distances_belong_to_nanodet_g() -> None:
    file, _ = maps()
    outputs = tuple(
        replace(one, shape=(*one.shape[:2], 44)) if one.name.startswith("dis") else one for one in file.outputs
    )
    (found,) = families.fitting(replace(file, outputs=outputs))
    assert (found.family, found.classes) == ("nanodet", 3)


@pytest.mark.parametrize("plus", [False, True])
def test_boxes_come_back_as_they_were_put_in(plus: bool) -> None:
    output = encoded(plus=plus)
    decode = decoder(facts((1, *output.shape), size=SIZE), "nanodet", LABELS)
    assert_same(decode([output[None]], [as_it_is(SIZE)], ALL), THINGS, score=1e-5, iou=0.999)


def test_boxes_end_at_the_edge_of_the_input() -> None:
    output = encoded(plus=True)
    output[0] = [0.9, 0, 0, *(v for _ in range(4) for v in distribution(7))]
    found = decoder(facts((1, *output.shape), size=SIZE), "nanodet", LABELS)([output[None]], [as_it_is(SIZE)], ALL)
    assert found[0].box == pytest.approx((0, 0, 56, 56), abs=0.01)


@pytest.mark.parametrize("column", [0, 5])
def test_an_answer_of_no_numbers_is_refused(column: int) -> None:
    output = encoded(plus=True)
    output[0, 0] = 0.9
    output[0, column] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        decoder(facts((1, *output.shape), size=SIZE), "nanodet", LABELS)([output[None]], [as_it_is(SIZE)], ALL)


def test_the_published_export_is_known_by_the_names_of_its_tensors() -> None:
    for size, cells, name in (((416, 416), 3598, "NanoDet-Plus"), ((320, 320), 2100, "NanoDet")):
        output = Tensor("output", (1, cells, 112), "float32")
        (found,) = families.fitting(facts(output, size=size, file_format="onnx", input_name="data"))
        assert (found.family, found.classes, found.color, found.resize) == ("nanodet", 80, "bgr", "stretch")
        assert any(name in sentence for sentence in found.evidence)
