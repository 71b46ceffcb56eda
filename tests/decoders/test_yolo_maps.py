"""YOLO without its last layer, and SSD with its anchors: boxes from numbers that are relative to anchors."""

from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.decoders import Decoder, families
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, decoder, facts, floats, specs

SIZE = (64, 96)
LABELS = ("cat", "dog")
THINGS = (Thing((10, 8, 42, 30), 1, 0.9), Thing((60, 20, 80, 60), 0, 0.6))
# Width, height in pixels, three for each stride.
ANCHORS = floats([[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119]])
STRIDES = (16, 32)
V2_STRIDE = 32
CODINGS = ("yolov2", "yolov3", "yolov5_maps", "yolo_fastest_v2")


def logit(value: float) -> float:
    return float(np.log(value / (1 - value)))


def anchors_of(family: str) -> Floats:
    """As stated in the file for the family."""
    return ANCHORS[:5] / np.float32(V2_STRIDE) if family == "yolov2" else ANCHORS


def encoded(family: str, things: Sequence[Thing]) -> list[Floats]:
    """The outputs of a model with a row of numbers for each anchor, (1, rows, columns, numbers)."""
    strides, per_cell = ((V2_STRIDE,), 5) if family == "yolov2" else (STRIDES, 3)
    fastest = family == "yolo_fastest_v2"
    maps = []
    for stride in strides:
        rows, columns = SIZE[0] // stride, SIZE[1] // stride
        maps.append(np.full((rows, columns, per_cell, 7), 0.0 if fastest else -12.0, np.float32))
    for number, thing in enumerate(things):
        level = number % len(strides)
        stride, anchor = strides[level], number % per_cell
        x, y, wide, high = thing.xywh
        at = maps[level][int(y // stride), int(x // stride), anchor]
        sides = np.array([wide, high]) / ANCHORS[level * per_cell + anchor]
        within = np.array([x / stride % 1, y / stride % 1])
        if family in ("yolov2", "yolov3"):
            at[:4] = *map(logit, within), *np.log(sides)
        else:
            shares = [*(within + 0.5) / 2, *np.sqrt(sides) / 2]
            at[:4] = shares if fastest else [logit(share) for share in shares]
        at[4] = thing.score if fastest else logit(thing.score)
        at[5 + thing.class_id] = 1 if fastest else 15
    if not fastest:
        return [each.reshape(1, *each.shape[:2], -1) for each in maps]
    joined = []
    for each in maps:
        boxes, objects = each[..., :4].reshape(*each.shape[:2], -1), each[..., 4]
        joined.append(np.concatenate([boxes, objects, each[..., 5:].max(axis=2)], axis=2)[None])
    return joined


def file_of(outputs: Sequence[Floats], operator: str) -> ModelFile:
    return facts(*[one.shape for one in outputs], size=SIZE, operators=[operator] * len(outputs))


def built(family: str, outputs: Sequence[Floats]) -> Decoder:
    file = file_of(outputs, "Concat" if family == "yolo_fastest_v2" else "Conv")
    anchors = anchors_of(family)
    return families.build(families.stated(file, family), specs(file), LABELS, anchors=anchors)


@pytest.mark.parametrize("family", CODINGS)
def test_a_box_is_where_its_cell_and_its_anchor_put_it(family: str) -> None:
    outputs = encoded(family, THINGS)
    found = built(family, outputs)(outputs, [as_it_is(SIZE)], ALL)
    assert [one.label for one in found] == ["dog", "cat"]
    for one, thing in zip(found, THINGS, strict=True):
        assert one.box == pytest.approx(thing.box, abs=0.05)
        assert one.confidence == pytest.approx(thing.score, abs=0.01)


@pytest.mark.parametrize("order", ["nchw", "nahwc", "nhwac"])
def test_the_axes_may_have_other_orders(order: str) -> None:
    plain = encoded("yolov5_maps", THINGS)
    apart = [one.reshape(*one.shape[:3], 3, 7) for one in plain]
    moved = {
        "nchw": [one.transpose(0, 3, 1, 2) for one in plain],
        "nahwc": [one.transpose(0, 3, 1, 2, 4) for one in apart],
        "nhwac": apart,
    }[order]
    outputs = [np.ascontiguousarray(one) for one in reversed(moved)]
    assert built("yolov5_maps", outputs)(outputs, [as_it_is(SIZE)], ALL) == built("yolov5_maps", plain)(
        plain, [as_it_is(SIZE)], ALL
    )


def test_outputs_past_their_sigmoid_can_only_be_those_of_yolov5() -> None:
    raw = encoded("yolov5_maps", THINGS)
    outputs = [floats(1 / (1 + np.exp(-one))) for one in raw]
    (recognition,) = families.fitting(file_of(outputs, "Sigmoid"))
    assert recognition.family == "yolov5_maps"
    decode = families.build(recognition, specs(file_of(outputs, "Sigmoid")), LABELS, anchors=ANCHORS)
    found = decode(outputs, [as_it_is(SIZE)], ALL)
    for one, thing in zip(found, THINGS, strict=True):
        assert one.box == pytest.approx(thing.box, abs=0.05)


def test_how_raw_maps_are_coded_and_their_anchors_have_to_be_stated() -> None:
    fitting = families.fitting(file_of(encoded("yolov3", ()), "Conv"))
    assert {one.family for one in fitting} == {"yolov3", "yolov5_maps"}
    assert all("anchors" in one.missing for one in fitting)
    (v2,) = families.fitting(file_of(encoded("yolov2", ()), "CONV_2D"))
    assert "in cells of the 3 x 2 map" in v2.missing["anchors"]
    with pytest.raises(ModelError, match="anchors: expected 5 lines of width, height"):
        families.build(v2, (), LABELS, anchors=ANCHORS)


def st_ssd(things: Sequence[Thing]) -> list[Floats]:
    """Scores, offsets, anchors: each anchor is a box of 20 x 20 pixels, and a thing is one of them, moved."""
    corners = floats([[x, y, x + 20, y + 20] for y in range(0, 60, 10) for x in range(0, 90, 10)])
    scores = np.tile(floats([1, 0, 0]), (len(corners), 1))
    offsets = np.zeros_like(corners)
    for row, thing in enumerate(things):
        scores[7 * row + 3, 1 + thing.class_id] = thing.score
        offsets[7 * row + 3] = (floats(thing.box) - corners[7 * row + 3]) / 20
    return [scores[None], offsets[None], corners[None] / floats([*SIZE[::-1], *SIZE[::-1]])]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 2, 0)])
def test_sts_ssd_gives_its_anchors_in_any_place(order: tuple[int, int, int]) -> None:
    outputs = [st_ssd(THINGS)[at] for at in order]
    file = facts(*[one.shape for one in outputs], size=SIZE)
    assert [one.family for one in families.fitting(file)] == ["ssd_st"]
    found = decoder(file, "ssd_st", LABELS)(outputs, [as_it_is(SIZE)], ALL)
    assert [(one.label, one.class_id) for one in found] == [("dog", 2), ("cat", 1)]
    for one, thing in zip(found, THINGS, strict=True):
        assert one.box == pytest.approx(thing.box, abs=0.01)


def test_two_outputs_of_which_none_is_anchors_are_refused() -> None:
    scores, offsets, _ = st_ssd(THINGS)
    file = facts(scores.shape, offsets.shape, offsets.shape, size=SIZE)
    with pytest.raises(InputError, match="can't tell them apart"):
        decoder(file, "ssd_st", LABELS)([scores, offsets, offsets], [as_it_is(SIZE)], ALL)
