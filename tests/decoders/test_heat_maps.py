import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.decoders.nearest import unknown_outputs
from edge_agent.modelfile.normalization import IMAGENET
from tests.decoders.scenes import ALL, Floats, as_it_is, decoder, facts

SIZE = (256, 192)
KEYPOINTS = 17


def maps(*, keypoints_last: bool = False) -> Floats:
    """(1, 17, 64, 48), or the keypoints last: keypoint n is in row 3 n, column 2 n + 1, a little to the right of it."""
    values = np.zeros((1, KEYPOINTS, 64, 48), np.float32)
    for number in range(KEYPOINTS):
        values[0, number, 3 * number, 2 * number + 1] = 0.9
        values[0, number, 3 * number, 2 * number + 2] = 0.5
    return np.moveaxis(values, 1, -1) if keypoints_last else values


def rows_and_columns() -> list[Floats]:
    """(1, 17, 384), (1, 17, 512): keypoint n is at x = 5 n, y = 7 n + 0.5; x is less sure."""
    across, down = np.zeros((1, KEYPOINTS, 384), np.float32), np.zeros((1, KEYPOINTS, 512), np.float32)
    for number in range(KEYPOINTS):
        across[0, number, 10 * number], down[0, number, 14 * number + 1] = 0.6, 0.8
    return [across, down]


@pytest.mark.parametrize("keypoints_last", [False, True])
def test_a_keypoint_is_in_the_hottest_cell_a_quarter_towards_its_hotter_neighbours(keypoints_last: bool) -> None:
    values = maps(keypoints_last=keypoints_last)
    file = facts(values.shape, size=SIZE)
    (found,) = families.fitting(file)
    assert (found.family, found.resize, found.normalization) == ("heat_maps", "letterbox", IMAGENET)
    (seen,) = decoder(file, "heat_maps", ["person"])([values], [as_it_is(SIZE)], ALL)
    assert seen.keypoints is not None
    assert seen.keypoints[5] == pytest.approx(((11 + 0.25) * 4, 15 * 4, 0.9))
    # At the edge there is no neighbour on one side.
    assert seen.keypoints[0] == pytest.approx(((1 + 0.25) * 4, 0, 0.9))
    assert seen.confidence == pytest.approx(0.9)


def test_maps_of_other_numbers_of_keypoints_have_to_be_stated() -> None:
    file = facts((1, 14, 32, 24), size=SIZE)
    assert "heat_maps" not in [one.family for one in families.fitting(file)]
    assert families.stated(file, "heat_maps").task == "pose"
    assert "heat_maps gives" in unknown_outputs(file, families.OF_PICTURES)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_rows_and_columns_the_less_sure_one_counts(swapped: bool) -> None:
    scene = rows_and_columns()[:: -1 if swapped else 1]
    file = facts(*(one.shape for one in scene), size=SIZE)
    assert [one.family for one in families.fitting(file)] == ["simcc"]
    (seen,) = decoder(file, "simcc", ["person"])(scene, [as_it_is(SIZE)], ALL)
    assert seen.keypoints is not None
    assert seen.keypoints[4] == pytest.approx((20, 28.5, 0.6))
    assert seen.confidence == pytest.approx(0.6)
