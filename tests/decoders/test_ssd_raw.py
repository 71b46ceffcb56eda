import math
from pathlib import Path

import numpy as np
import pytest

from edge_agent.decoders import Decoder, families
from edge_agent.decoders.ssd_raw import read_anchors, ssd_anchors
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, facts, floats, specs

SIZE = (300, 300)
LABELS = ("cat", "dog", "bird")
THINGS = (Thing((10, 12, 50, 60), 2, 0.9), Thing((80, 20, 250, 290), 3, 0.75), Thing((230, 5, 275, 45), 1, 0.5))


def anchors_written_out(height: int, width: int) -> list[tuple[float, float, float, float]]:
    """As the published generator makes them, in loops: centre y, centre x, height, width."""
    made = []
    rows, columns = math.ceil(height / 16), math.ceil(width / 16)
    for layer in range(6):
        scale = 0.2 + 0.15 * layer
        after = 0.2 + 0.15 * (layer + 1) if layer < 5 else 1.0
        boxes = [
            (scale, 1.0),
            (scale, 2.0),
            (scale, 0.5),
            (scale, 3.0),
            (scale, 1 / 3),
            (math.sqrt(scale * after), 1.0),
        ]
        if layer == 0:
            boxes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        shorter = min(height, width)
        for y in range(rows):
            for x in range(columns):
                for size, ratio in boxes:
                    high, wide = size / math.sqrt(ratio) * shorter / height, size * math.sqrt(ratio) * shorter / width
                    made.append(((y + 0.5) / rows, (x + 0.5) / columns, high, wide))
        rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
    return made


def encoded(anchors: Floats, size: tuple[int, int] = SIZE) -> list[Floats]:
    """Boxes and scores; each object is told by an anchor near it."""
    boxes, scores = np.zeros((len(anchors), 4), np.float32), np.full((len(anchors), 4), 0.01, np.float32)
    for thing in THINGS:
        x, y, wide, high = floats(thing.xywh) / (size[1], size[0], size[1], size[0])
        row = int(np.abs(anchors - (y, x, high, wide)).sum(axis=1).argmin())
        cy, cx, anchor_high, anchor_wide = anchors[row]
        boxes[row] = [
            (y - cy) / anchor_high * 10,
            (x - cx) / anchor_wide * 10,
            math.log(high / anchor_high) * 5,
            math.log(wide / anchor_wide) * 5,
        ]
        scores[row, thing.class_id] = thing.score
    scores[:, 0] = 0.99
    return [boxes[None], scores[None]]


def file(count: int = 1917, operator: str = "LOGISTIC") -> ModelFile:
    return facts((1, count, 4), (1, count, 4 + 0), size=SIZE, operators=("CONCATENATION", operator))


def published(labels: tuple[str, ...] = LABELS) -> Decoder:
    one = file()
    return families.build(families.stated(one, "ssd_raw"), specs(one), labels)


@pytest.mark.parametrize(("height", "width", "count"), [(300, 300, 1917), (320, 320, 2034), (300, 512, 3126)])
def test_anchors_are_those_of_the_published_generator(height: int, width: int, count: int) -> None:
    expected = anchors_written_out(height, width)
    found = ssd_anchors((height, width))
    assert found.shape == (len(expected), 4)
    assert np.allclose(found, expected, atol=1e-6)
    assert len(expected) == count


def test_boxes_come_back_as_they_were_put_in() -> None:
    found = published()(encoded(ssd_anchors(SIZE)), [as_it_is(SIZE)], ALL)
    assert_same(found, THINGS, score=1e-5, iou=0.999)
    assert [one.label for one in found] == ["dog", "bird", "cat"]


def test_scores_may_be_logits_of_a_sigmoid() -> None:
    boxes, scores = encoded(ssd_anchors(SIZE))
    one = file(operator="CONCATENATION")
    recognition = families.stated(one, "ssd_raw")
    assert "state output: probabilities or logits" in recognition.missing["output"]
    decode = families.build(recognition, specs(one), LABELS, output="logits")
    found = decode([boxes, np.log(scores / (1 - scores))], [as_it_is(SIZE)], ALL)
    assert_same(found, THINGS, score=1e-4, iou=0.999)


def test_anchors_can_be_stated() -> None:
    own = floats([[y, x, 0.3, 0.2] for y in np.arange(8) / 8 for x in np.arange(8) / 8])
    one = file(64)
    recognition = families.stated(one, "ssd_raw")
    assert "which 64 anchors" in recognition.missing["anchors"]
    found = families.build(recognition, specs(one), LABELS, anchors=own)(encoded(own), [as_it_is(SIZE)], ALL)
    assert_same(found, THINGS, score=1e-5, iou=0.999)
    with pytest.raises(ModelError, match="anchors: expected 64, found 1917"):
        families.build(recognition, specs(one), LABELS, anchors=ssd_anchors(SIZE))


def test_a_size_beyond_all_measure_does_no_harm() -> None:
    boxes, scores = encoded(ssd_anchors(SIZE))
    boxes[..., 2:] = 3e38
    assert {one.box for one in published()([boxes, scores], [as_it_is(SIZE)], ALL)} == {(0, 0, 300, 300)}


def test_the_family_is_told_with_what_is_missing() -> None:
    (known,) = families.fitting(
        facts((1, 2034, 4), (1, 2034, 91), size=(320, 320), operators=("CONCATENATION", "LOGISTIC"))
    )
    assert (known.family, known.classes, known.background, known.missing) == ("ssd_raw", 91, True, {})
    assert (known.takes(91), known.takes(90), known.takes(80)) == (True, True, False)
    (unknown,) = families.fitting(facts((1, 8, 4), (1, 8, 91), size=(320, 320)))
    assert set(unknown.missing) == {"anchors", "output"}


def test_anchors_are_read_from_lines_of_four_numbers_or_from_four_lines(tmp_path: Path) -> None:
    own = ssd_anchors(SIZE)
    path = tmp_path / "anchors.txt"
    np.savetxt(path, own, delimiter=",")
    assert np.allclose(read_anchors(path), own)
    np.savetxt(path, own.T)
    assert np.allclose(read_anchors(path), own)


@pytest.mark.parametrize("text", ["", "1 2 3\n", "1 2 3 4\n5 6\n", "1 2 x 4\n", "1 2 nan 4\n", "\x00\xff"])
def test_a_file_of_something_else_than_anchors_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "anchors.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ModelError, match=r"anchors.txt: "):
        read_anchors(path)
    with pytest.raises(ModelError, match="can't be read: No such file"):
        read_anchors(tmp_path / "none.txt")
