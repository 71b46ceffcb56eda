"""Whatever a model gives: predictions that lie in the picture, or one sentence."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.decoders import Limits, families
from edge_agent.decoders.boxes import cell_count
from edge_agent.decoders.ssd import OPERATOR
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.placement import place
from tests.decoders import chips
from tests.decoders.scenes import facts, specs

SIZE = (64, 96)  # height, width
CELLS = cell_count(SIZE, (8, 16, 32))
CROP, PICTURE = (300, 120), (400, 200)
SIX = ("Sigmoid",) * 3 + ("",) * 3
NUMBERS = [0.0, 1.0, 0.5, -1.0, 2.5, 70.0, 1e9, 3e38, -3e38, 1e-40, np.nan, np.inf, -np.inf]

FILES: dict[str, ModelFile] = {
    "class_number": facts(Tensor("", (1,), "int64"), size=SIZE),
    "labels_and_scores": facts(Tensor("", (1,), "int64"), Tensor("", (1, 4), "float32"), size=SIZE),
    "ssd": facts((1, 10, 4), (1, 10), (1, 10), (1,), size=SIZE, custom=[OPERATOR]),
    "ssd_raw": facts((1, 138, 4), (1, 138, 3), size=SIZE, operators=("", "LOGISTIC")),
    "ssd_st": facts((1, 9, 3), (1, 9, 4), (1, 9, 4), size=SIZE),
    "yolov2": facts((1, SIZE[0] // 32, SIZE[1] // 32, 40), size=SIZE),
    "yolov3": facts(*[(1, 24, SIZE[0] // n, SIZE[1] // n) for n in (16, 32)], size=SIZE),
    "yolov5_maps": facts(*[(1, 3, SIZE[0] // n, SIZE[1] // n, 8) for n in (8, 16, 32)], size=SIZE),
    "yolo_fastest_v2": facts(*[(1, SIZE[0] // n, SIZE[1] // n, 18) for n in (16, 32)], size=SIZE),
    "yolov5_face": facts((1, 3 * CELLS, 16), size=SIZE),
    "yolov5": facts((1, 3 * CELLS, 7), size=SIZE),
    "yolov8": facts((1, 6, CELLS), size=SIZE),
    "yolo_dfl": chips.maps_file(chips.maps((), channels_first=True, sums=True)),
    "hailo_nms": chips.hailo_file(),
    "imx500": chips.sensor_file(),
    "yolo_end_to_end": facts((1, 50, 6), size=SIZE),
    "yolo_pose": facts((1, 56, CELLS), size=SIZE),
    "yolo_obb": facts((1, 9, CELLS), size=SIZE),
    "yolo_segmentation": facts((1, 10, CELLS), (1, 4, 16, 24), size=SIZE),
    "yolox": facts((1, CELLS, 7), size=SIZE),
    "nanodet": facts((1, CELLS, 34), size=SIZE),
    "yolo_nas": facts((1, CELLS, 4), (1, CELLS, 3), size=SIZE),
    "detr": facts(
        Tensor("labels", (1, 9), "int64"),
        Tensor("boxes", (1, 9, 4), "float32"),
        Tensor("scores", (1, 9), "float32"),
        size=SIZE,
    ),
    "paddle": facts((9, 6), Tensor("count", (1,), "int32"), size=SIZE),
    "ultraface": facts((1, 90, 2), (1, 90, 4), size=SIZE),
    "yunet": facts(
        *[(1, cell_count(SIZE, [n]), w) for w in (1, 1, 4, 10) for n in (8, 16, 32)], size=SIZE, operators=SIX * 2
    ),
    "scrfd": facts(
        *[(1, 2 * cell_count(SIZE, [n]), w) for w in (1, 4, 10) for n in (8, 16, 32)], size=SIZE, operators=SIX * 2
    ),
    "retinaface": facts((1, 2 * CELLS, 16), size=SIZE),
    "blazeface": facts((1, 2 * 96 + 6 * 24, 1), (1, 2 * 96 + 6 * 24, 16), size=SIZE),
    "landmarks": facts((1, 195), (1, 1), size=SIZE),
    "fomo": facts((1, 8, 12, 3), size=SIZE),
    "movenet": facts((1, 6, 56), size=SIZE),
    "heat_maps": facts((1, 17, SIZE[0] // 4, SIZE[1] // 4), size=SIZE),
    "simcc": facts((1, 17, 2 * SIZE[1]), (1, 17, 2 * SIZE[0]), size=SIZE),
    "segmentation": facts((1, *SIZE, 5), size=SIZE),
    "ctc": facts((1, 24, 12), size=SIZE),
    "text_detection": facts((1, 1, *SIZE), size=SIZE),
    "embedding": facts((1, 40), size=SIZE),
    "regression": facts((1, 4), size=SIZE),
}
ANCHORS = {
    name: np.full((count, 2), 3, np.float32) for name, count in (("yolov2", 5), ("yolov3", 6), ("yolov5_maps", 9))
}
EVERY = FILES | {
    "movenet, heat maps": facts((1, 16, 24, 17), size=SIZE),
    "landmarks, hand": facts((1, 63), (1, 1), (1, 63), (1, 1), size=SIZE),
    "nanodet, maps": facts(
        *[(1, cell_count(SIZE, [n]), w) for w in (3, 32) for n in (8, 16, 32)], size=SIZE, operators=SIX
    ),
    "detr, queries": facts(Tensor("dets", (1, 9, 4), "float32"), Tensor("labels", (1, 9, 5), "float32"), size=SIZE),
    "yolo_nas, classes first": facts((1, CELLS, 4), (1, 3, CELLS), size=SIZE),
    "movenet, one person": facts((1, 1, 17, 3), size=SIZE),
    "segmentation, numbers": facts(Tensor("", (1, *SIZE), "float32"), size=SIZE),
    "yolo_end_to_end, YOLOv7": facts((20, 7), size=SIZE),
}


def test_every_family_is_tried() -> None:
    assert tuple(FILES) == families.OF_PICTURES


def tensors(file: ModelFile, seed: int, share: float, hurting: list[float]) -> list[NDArray[np.float32]]:
    """Random numbers, and among them a share of those that hurt."""
    random = np.random.default_rng(seed)
    made = []
    for output in file.outputs:
        values = random.uniform(-0.2, 1.2, output.shape) * random.choice([1, 10, 100])
        hurt = random.uniform(0, 1, output.shape) < share
        made.append(np.where(hurt, random.choice(hurting, output.shape), values).astype(np.float32))
    return made


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0, 0.001, 0.3, 1]),
    hurting=st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4),
    top_k=st.integers(1, 50),
    least=st.sampled_from([0.0, 0.25, 0.9]),
)
def test_an_answer_of_any_numbers_gives_predictions_in_the_picture_or_one_sentence(
    name: str, seed: int, share: float, hurting: list[float], top_k: int, least: float
) -> None:
    file = EVERY[name]
    decode = families.build(families.stated(file, name.partition(",")[0]), specs(file), None, anchors=ANCHORS.get(name))
    placement = place("here", (50, 40), CROP, PICTURE, (SIZE[1], SIZE[0]), "letterbox")
    found, refused = [], ""
    try:
        found = decode(tensors(file, seed, share, hurting), [placement], Limits(top_k, least))
    except (InputError, ModelError) as error:
        refused = str(error)
    assert "\n" not in refused
    if decode.task not in ("regression", "embedding"):
        assert len(found) <= top_k
    for one in found:
        json.dumps(one.as_dict(), allow_nan=False)
        assert one.confidence is None or least <= one.confidence <= 1
        points = [*(one.keypoints or ()), *(point for part in one.polygons or () for point in part)]
        points += [one.box[:2], one.box[2:]] if one.box else []
        assert all(50 <= x <= 350 and 40 <= y <= 160 for x, y, *_ in points)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_outputs_of_any_other_shape_are_refused_in_one_sentence(name: str, data: st.DataObject) -> None:
    file = FILES[name]
    decode = families.build(families.stated(file, name), specs(file), None, anchors=ANCHORS.get(name))
    placement = place(None, (0, 0), CROP, CROP, (SIZE[1], SIZE[0]), "stretch")
    shapes = st.lists(st.integers(0, 6), max_size=4)
    outputs = [np.zeros(data.draw(shapes), np.float32) for _ in file.outputs]
    refused = ""
    try:
        decode(outputs, [placement], Limits(5, 0))
    except (InputError, ModelError) as error:
        refused = str(error)
    assert "\n" not in refused
