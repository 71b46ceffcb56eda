import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import Decoder, families
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.placement import place
from tests.decoders.scenes import ALL, Floats, as_it_is, decoder, facts, quantised, specs

SIZE = (96, 128)
LABELS = ("screw", "nut")
FILE = facts((1, 12, 16, 3), size=SIZE, operators=("SOFTMAX",))


def heat(*cells: tuple[int, int, int, float]) -> Floats:
    """Cells of row, column, class, score; all else is background."""
    maps = np.zeros((1, 12, 16, 3), np.float32)
    maps[..., 0] = 1
    for row, column, class_id, score in cells:
        maps[0, row, column, class_id] = score
        maps[0, row, column, 0] = 1 - score
    return maps


def test_a_hot_cell_is_an_object() -> None:
    (found,) = decoder(FILE, "fomo", LABELS)([heat((2, 3, 1, 0.8))], [as_it_is(SIZE)], ALL)
    assert (found.label, found.class_id) == ("screw", 1)
    assert found.confidence == pytest.approx(0.8)
    assert found.box == (24, 16, 32, 24)


def test_cells_that_touch_are_one_object_as_sure_as_the_surest_of_them() -> None:
    (found,) = decoder(FILE, "fomo", LABELS)(
        [heat((2, 3, 2, 0.6), (2, 4, 2, 0.9), (3, 5, 2, 0.5))], [as_it_is(SIZE)], ALL
    )
    assert found.label == "nut"
    assert found.confidence == pytest.approx(0.9)
    assert found.box == (24, 16, 48, 32)


def test_cells_that_do_not_touch_or_are_of_another_class_are_others() -> None:
    found = decoder(FILE, "fomo", LABELS)([heat((0, 0, 1, 0.9), (0, 2, 1, 0.8), (1, 0, 2, 0.7))], [as_it_is(SIZE)], ALL)
    assert [(one.class_id, one.box) for one in found] == [
        (1, (0, 0, 8, 8)),
        (1, (16, 0, 24, 8)),
        (2, (0, 8, 8, 16)),
    ]


def fused_in_loops(maps: NDArray[np.float32], least: float) -> list[tuple[int, float, tuple[int, int, int, int]]]:
    """Flood fill: class, score, cells x1, y1, x2, y2."""
    objects = []
    rows, columns, classes = maps.shape
    for class_id in range(1, classes):
        left = {(y, x) for y in range(rows) for x in range(columns) if maps[y, x, class_id] >= least}
        while left:
            todo, part = [left.pop()], []
            while todo:
                y, x = todo.pop()
                part.append((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                todo += near
            ys, xs = [y for y, _ in part], [x for _, x in part]
            peak = max(float(maps[y, x, class_id]) for y, x in part)
            objects.append((class_id, peak, (min(xs), min(ys), max(xs) + 1, max(ys) + 1)))
    return sorted(objects, key=lambda one: -one[1])


@pytest.mark.parametrize("seed", range(10))
def test_objects_are_what_a_flood_fill_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    maps = random.dirichlet([3, 1, 1], (12, 16)).astype(np.float32)
    expected = fused_in_loops(maps, 0.25)
    found = decoder(FILE, "fomo", LABELS)([maps[None]], [as_it_is(SIZE)], ALL)
    assert [one.class_id for one in found] == [class_id for class_id, _, _ in expected]
    assert [one.confidence for one in found] == pytest.approx([score for _, score, _ in expected])
    assert [one.box for one in found] == [tuple(8 * edge for edge in cells) for _, _, cells in expected]


def quantised_decoder() -> tuple[ModelFile, Decoder]:
    file = facts(Tensor("", (1, 12, 16, 3), "int8", 1 / 256, -128), size=SIZE, operators=("SOFTMAX",))
    (recognition,) = families.fitting(file)
    return file, families.build(recognition, specs(file), ("background", *LABELS))


def test_a_quantised_map_gives_the_same_and_labels_may_name_the_background() -> None:
    _, decode = quantised_decoder()
    (found,) = decode([quantised(heat((2, 3, 1, 0.8)), "int8", 1 / 256, -128)], [as_it_is(SIZE)], ALL)
    assert found.label == "screw"
    assert found.confidence == pytest.approx(0.8, abs=0.01)


def test_boxes_come_out_in_pixels_of_a_cut_picture() -> None:
    placement = place(None, (0, 0), (600, 300), (600, 300), (SIZE[1], SIZE[0]), "center_crop")
    (found,) = decoder(FILE, "fomo", LABELS)([heat((0, 0, 1, 0.8))], [placement], ALL)
    assert found.box == pytest.approx((100, 0, 125, 25))


def test_an_answer_of_no_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="not numbers"):
        decoder(FILE, "fomo", LABELS)([heat((0, 0, 1, np.nan))], [as_it_is(SIZE)], ALL)


def test_the_family_is_told_by_an_eighth_of_the_input_and_a_softmax() -> None:
    (found,) = families.fitting(FILE)
    assert (found.family, found.classes, found.background, found.resize) == ("fomo", 3, True, None)
    assert families.fitting(facts((1, 12, 16, 3), size=SIZE, operators=("CONV_2D",))) == []
    assert families.fitting(facts((1, 13, 16, 3), size=SIZE, operators=("SOFTMAX",))) == []
