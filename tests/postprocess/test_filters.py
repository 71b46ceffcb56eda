import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.errors import InputError
from edge_agent.postprocess.filters import CANDIDATES, Filter, contains, extent, ground_point, unknown_labels
from edge_agent.samples import Prediction

WIDTH, HEIGHT = 200, 100
ALL = Limits(top_k=10, min_confidence=0.25)


def options(**keys: Any) -> settings.Filters:
    return settings.Filters.model_validate(keys)


def seen(
    label: str = "person",
    confidence: float | None = 0.9,
    box: tuple[float, float, float, float] | None = (10, 10, 30, 60),
) -> Prediction:
    return Prediction(label, 0, confidence, box=box)


def kept(predictions: list[Prediction], limits: Limits = ALL, **keys: Any) -> list[Prediction]:
    return Filter(options(**keys), limits)(predictions, WIDTH, HEIGHT)


def test_without_settings_everything_passes_as_it_is() -> None:
    predictions = [seen(), seen("dog", None, box=(60, 10, 90, 60)), seen("cat", box=None)]
    assert kept(predictions) == predictions
    assert Filter(options(), ALL).decoder_limits == ALL


def test_only_wanted_labels_pass() -> None:
    assert [one.label for one in kept([seen("cat"), seen("dog"), seen("cat")], labels=["cat", "bird"])] == [
        "cat",
        "cat",
    ]


def test_a_label_may_have_a_confidence_of_its_own_above_or_below_that_of_the_pipeline() -> None:
    predictions = [
        seen(label, confidence, box=None)
        for label, confidence in (("cat", 0.5), ("dog", 0.5), ("bird", 0.2), ("cow", 0.2))
    ]
    assert [one.label for one in kept(predictions, min_confidence={"cat": 0.6, "bird": 0.1})] == ["dog", "bird"]


def test_a_confidence_that_is_just_enough_is_enough() -> None:
    assert len(kept([seen("cat", 0.25), seen("dog", 0.5, None)], min_confidence={"dog": 0.5})) == 2


RIVALS = [
    Prediction("car", 0, 0.9, box=(10, 10, 60, 60)),
    Prediction("truck", 1, 0.5, box=(10, 11, 60, 60)),
    Prediction("car", 0, 0.4, box=(12, 11, 60, 60)),
    Prediction("person", 2, 0.4, box=(10, 10, 30, 60)),
]


def test_of_two_labels_in_the_same_place_the_surer_one_counts() -> None:
    assert [one.label for one in kept(RIVALS)] == ["car", "car", "person"]
    assert [one.label for one in kept(RIVALS, max_overlap=1)] == ["car", "truck", "car", "person"]


def test_a_label_that_is_left_out_is_no_rival() -> None:
    assert [one.label for one in kept(RIVALS, labels=["truck"])] == ["truck"]


def test_what_has_no_confidence_is_not_left_out_for_it() -> None:
    assert kept([seen(confidence=None)], min_confidence={"person": 1})


@pytest.mark.parametrize(
    ("keys", "least"),
    [
        ({"labels": ["cat"]}, 0.25),
        ({"min_confidence": {"cat": 0.1}}, 0.1),
        ({"min_confidence": {"cat": 0.9}}, 0.25),
        ({"labels": ["cat"], "min_confidence": {"cat": 0.9}}, 0.9),
        ({"labels": ["cat"], "min_confidence": {"cat": 0.9, "dog": 0.1}}, 0.9),
        ({"labels": ["cat", "cow"], "min_confidence": {"cat": 0.9, "dog": 0.1}}, 0.25),
    ],
)
def test_the_decoder_is_asked_for_all_that_may_pass(keys: dict[str, Any], least: float) -> None:
    assert Filter(options(**keys), ALL).decoder_limits == Limits(top_k=CANDIDATES, min_confidence=least)


def test_top_k_counts_what_passes_in_each_region() -> None:
    confidences = (0.9, 0.8, 0.7, 0.6)
    cats = [Prediction("cat", 0, confidence, region=region) for region in ("a", "b") for confidence in confidences]
    predictions = [Prediction("dog", 1, 0.99, region="a"), *cats]
    told = kept(predictions, Limits(top_k=3, min_confidence=0), labels=["cat"])
    assert told == [cat for cat in cats if cat.confidence != 0.6]


# The box of `seen` has 20 x 50 = 1000 of 20000 square pixels.
@pytest.mark.parametrize(
    ("keys", "passes"),
    [
        ({"min_area": 1000}, True),
        ({"min_area": 1001}, False),
        ({"min_area": 0.05}, True),
        ({"min_area": 0.051}, False),
        ({"max_area": 1000}, True),
        ({"max_area": 999}, False),
        ({"max_area": 0.05}, True),
        ({"max_area": 0.049}, False),
        ({"max_area": 1}, True),
        ({"min_area": 0}, True),
    ],
)
def test_areas_are_shares_of_the_frame_up_to_1_and_square_pixels_above(keys: dict[str, Any], passes: bool) -> None:
    assert bool(kept([seen()], **keys)) == passes


def test_what_says_no_place_has_neither_area_nor_zone() -> None:
    predictions = [seen(box=None)]
    assert kept(predictions, min_area=0.9, zones={"door": [[0, 0], [0.1, 0], [0, 0.1]]}) == predictions


LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
RIGHT = [[100, 0], [200, 0], [200, 100], [100, 100]]
FLOOR = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]


def test_zones_are_named_on_what_is_in_them_and_the_rest_is_left_out() -> None:
    zones = {"left": LEFT, "floor": FLOOR}
    predictions = [
        seen("both", box=(10, 10, 30, 60)),
        seen("left", box=(10, 10, 30, 40)),
        seen("floor", box=(110, 10, 130, 60)),
        seen("neither", box=(110, 10, 130, 40)),
    ]
    assert [(one.label, one.zones) for one in kept(predictions, zones=zones)] == [
        ("both", ("left", "floor")),
        ("left", ("left",)),
        ("floor", ("floor",)),
    ]


def test_a_detection_is_where_it_stands_not_where_its_middle_is() -> None:
    wall = {"wall": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]], "floor": FLOOR}
    [somebody] = kept([seen(box=(80, 5, 120, 60))], zones=wall)
    assert somebody.zones == ("floor",)


def test_what_ends_where_a_zone_begins_is_not_in_it() -> None:
    wall = {"wall": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]], "floor": FLOOR}
    boxes = [(80, 5, 120, bottom) for bottom in (50, 51)]
    assert [one.zones for one in kept([seen(box=box) for box in boxes], zones=wall)] == [("wall",), ("floor",)]


def test_somebody_who_is_cut_off_by_the_frames_edge_is_in_the_zone_there() -> None:
    [somebody] = kept([seen(box=(80, 50, 120, HEIGHT))], zones={"floor": FLOOR})
    assert somebody.zones == ("floor",)


@pytest.mark.parametrize("x", [0, 40, 99, 100, 101, 160, 200])
def test_of_two_zones_with_a_common_edge_everything_is_in_exactly_one(x: float) -> None:
    [somebody] = kept([seen(box=(x - 10, 10, x + 10, 50))], zones={"left": LEFT, "right": RIGHT})
    assert somebody.zones == (("left",) if x < 100 else ("right",))


def test_a_pose_without_a_box_is_where_the_middle_of_its_visible_points_is() -> None:
    pose = Prediction("person", 0, 0.9, keypoints=((20, 10, 0.9), (40, 30, 0.8), (190, 90, 0.1)))
    assert extent(pose) == (20, 10, 40, 30)
    assert ground_point(pose) == (30, 20)
    [told] = kept([pose], zones={"left": LEFT, "right": RIGHT})
    assert told.zones == ("left",)


def test_keypoints_without_a_confidence_all_count() -> None:
    assert extent(Prediction("hand", 0, 0.9, keypoints=((20, 10), (40, 30)))) == (20, 10, 40, 30)


def test_a_pose_that_is_all_guesses_says_no_place() -> None:
    assert extent(Prediction("person", 0, 0.1, keypoints=((20, 10, 0.2), (40, 30, 0.1)))) is None


def test_a_mask_without_a_box_is_where_the_middle_of_its_outline_is() -> None:
    mask = Prediction("sky", 2, None, polygons=(((0, 0), (100, 0), (100, 40)), ((20, 50), (30, 60), (20, 60))))
    assert ground_point(mask) == (50, 30)


def test_a_star_contains_by_the_even_odd_rule() -> None:
    arrow = [(0, 0), (10, 0), (10, 10), (5, 5), (0, 10)]
    inside = {(x, y) for x, y in itertools.product(range(10), range(10)) if contains(arrow, x + 0.5, y + 0.5)}
    assert (5, 3) in inside
    assert (5, 8) not in inside
    assert (0, 8) in inside
    assert (9, 8) in inside


def test_a_frame_smaller_than_a_zone_in_pixels_is_no_usable_input() -> None:
    with pytest.raises(InputError) as caught:
        Filter(options(zones={"left": LEFT, "right": RIGHT}), ALL)([], 160, 90)
    assert str(caught.value) == "zone 'right' reaches to (200, 100), the frame has only 160 x 90 pixels"


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"labels": ["cat", "persn"]}, ("labels", "the model has no label 'persn': did you mean 'person'?")),
        ({"min_confidence": {"Cat": 1}}, ("min_confidence", "the model has no label 'Cat': did you mean 'cat'?")),
        ({"labels": ["PERSON"]}, ("labels", "the model has no label 'PERSON': did you mean 'person'?")),
        ({"labels": ["lynx"]}, ("labels", "the model has no label 'lynx': there are person, cat")),
    ],
)
def test_a_label_that_the_model_never_says_is_found(keys: dict[str, Any], found: tuple[str, str]) -> None:
    assert list(unknown_labels(options(**keys), ["person", "cat"])) == [found]


def test_of_a_model_without_labels_nothing_is_known() -> None:
    assert not list(unknown_labels(options(labels=["7"]), []))


def test_labels_that_the_model_says_are_in_order() -> None:
    assert not list(unknown_labels(options(labels=["cat"], min_confidence={"person": 0.5}), ["person", "cat"]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"zones": {"door": [[0, 0], [1, 1]]}}, "at least 3 items"),
        ({"zones": {"door": [[0, 0], [1, 1, 1], [1, 0]]}}, "needs two numbers, [x, y] (got 3)"),
        ({"zones": {"door": [[0, 0], [1, 1], [-1, 0]]}}, "needs numbers >= 0"),
        ({"zones": {"door": [[0, 0], [1, 1], [2, 2]]}}, "needs corners that enclose an area"),
        ({"zones": {"a/b": LEFT}}, "match pattern"),
        ({"min_confidence": {"cat": 1.1}}, "less than or equal to 1"),
        ({"min_area": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**keys)
    assert message in str(caught.value)
