import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.preprocess.opencv import cv2
from edge_agent.publish import drawing
from edge_agent.publish.drawing import PALETTE, annotate, ascii_text, caption, color_of, encode_jpeg
from edge_agent.samples import Prediction
from tests.images import decode_image

Image = NDArray[np.uint8]
SIZES = [(96, 96), (96, 160), (480, 640), (1080, 1920), (60, 1500), (1500, 60), (6000, 8000)]


def plain(height: int = 480, width: int = 640, value: int = 127) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def changed(before: Image, after: Image) -> NDArray[np.bool_]:
    """(height, width): which pixels differ."""
    return np.asarray((before != after).any(axis=2))


def detection(box: tuple[float, float, float, float], class_id: int = 0, label: str = "person") -> Prediction:
    return Prediction(label, class_id, 0.87, box=box)


def pose(size: float = 1) -> Prediction:
    """Seventeen points on a circle around 320, 240."""
    angles = np.linspace(0, 2 * np.pi, 17, endpoint=False)
    points = tuple((size * (320 + 100 * np.cos(one)), size * (240 + 100 * np.sin(one)), 0.9) for one in angles)
    return Prediction("person", 0, 0.9, keypoints=points)


def test_without_predictions_the_copy_is_the_picture() -> None:
    image = plain()
    copy = annotate(image, [])
    assert np.array_equal(copy, image)
    assert not np.shares_memory(copy, image)


def test_the_picture_itself_is_not_changed() -> None:
    image = plain()
    annotate(image, [detection((10, 10, 100, 100)), pose()], zones={"all": ((0, 0), (1, 0), (1, 1))})
    assert np.array_equal(image, plain())


def test_the_same_predictions_give_the_same_picture() -> None:
    predictions = [detection((10, 10, 100, 100)), pose(), Prediction("cat", 3, 0.2)]
    assert np.array_equal(annotate(plain(), predictions), annotate(plain(), predictions))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_all_four_edges_of_a_box_are_drawn_within_it(height: int, width: int) -> None:
    image = plain(height, width)
    x1, y1, x2, y2 = box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    marked = changed(image, annotate(image, [replace(detection(box), label="")]))
    line = max(3, max(width, height) // 100)
    assert marked[y1 : y1 + line, x1:x2].any(axis=0).all()
    assert marked[y2 - line : y2, x1:x2].any(axis=0).all()
    assert marked[y1:y2, x1 : x1 + line].any(axis=1).all()
    assert marked[y1:y2, x2 - line : x2].any(axis=1).all()
    # Right of it, left of it and below it is nothing, and above it the label at most.
    assert not marked[y2:].any()
    label = marked[:y1].any(axis=1)
    assert label.sum() <= max(16, height // 10)


def test_a_box_at_the_pictures_edge_is_seen_on_all_sides() -> None:
    image = plain()
    marked = changed(image, annotate(image, [detection((0, 0, 640, 480))]))
    assert marked[0].all()
    assert marked[-1].all()
    assert marked[:, 0].all()
    assert marked[:, -1].all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lines_and_letters_grow_with_the_picture(height: int, width: int) -> None:
    image = plain(height, width)
    box = (width * 0.1, height * 0.4, width * 0.9, height * 0.9)
    marked = changed(image, annotate(image, [detection(box)]))
    middle = height * 6 // 10
    across = int(marked[middle, : width // 2].sum())
    assert 1 <= across <= max(2, 0.012 * max(height, width))
    label_height = int(marked[: int(box[1]), :].any(axis=1).sum())
    assert label_height >= 8 or height < 96
    assert label_height <= max(16, 0.06 * (height * width) ** 0.5)


@pytest.mark.parametrize("box", list(itertools.product((0, 300, 600), (0, 220, 440))))
def test_labels_stay_whole_within_the_picture(box: tuple[int, int]) -> None:
    x, y = box
    image = plain()
    short = detection((x, y, x + 40, y + 40), label="cat")
    pictures = [
        annotate(image, [replace(one, confidence=None)]) for one in (short, replace(short, label="hippopotamus"))
    ]
    # The ground of the label, wherever it is, is as large as in the middle of the picture, but for the edge it covers.
    middle = annotate(image, [replace(detection((300, 220, 340, 260), label="hippopotamus"), confidence=None)])
    color = np.array(color_of(short))
    grounds = [int((picture == color).all(axis=2).sum()) for picture in (*pictures, middle)]
    assert grounds[1] > grounds[0]
    assert abs(grounds[1] - grounds[2]) <= 0.2 * grounds[2]


def test_labels_do_not_hide_each_other() -> None:
    one, other = detection((200, 200, 300, 300), 0, "person"), detection((203, 203, 310, 310), 4, "bicycle")
    alone = [annotate(plain(), [prediction]) for prediction in (one, other)]
    together = annotate(plain(), [one, other])
    for picture, prediction in zip(alone, (one, other), strict=True):
        color = np.array(color_of(prediction))
        ground = [(drawn == color).all(axis=2).sum() for drawn in (picture, together)]
        assert ground[1] > 0.8 * ground[0]


@pytest.mark.parametrize("side", [96, 200])
def test_labels_of_a_crowd_hide_at_most_a_third_of_a_small_picture(side: int) -> None:
    step = side // 8
    corners = [(column * step, row * step) for row, column in itertools.product(range(8), range(8))]
    crowd = [detection((x, y, x + step // 2, y + step // 2), 3) for x, y in corners]
    assert changed(plain(side, side), annotate(plain(side, side), crowd)).mean() < 0.4


@pytest.mark.parametrize("people", [1, 8, 30])
@pytest.mark.parametrize("faces", [False, True])
def test_labels_cover_no_face_however_crowded_the_picture_is(
    people: int, faces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(people)
    crowd = []
    for _ in range(people):
        x, y, wide = chance.randint(0, 560), chance.randint(0, 300), chance.randint(24, 72)
        crowd.append(detection((x, y, x + wide, y + 3 * wide)))
    if faces:
        crowd = [
            detection((x1, y1, x2, y1 + x2 - x1), 3, "face") for one in crowd if one.box for x1, y1, x2, _ in [one.box]
        ]
    named = annotate(plain(), crowd)
    monkeypatch.setattr(drawing, "MAX_LABELS", 0)
    labels = changed(annotate(plain(), crowd), named)
    assert labels.any()
    for one in crowd:
        x1, y1, x2, y2 = map(int, one.box or ())
        head = labels[y1 : y2 if faces else y1 + (y2 - y1) // 3, x1:x2]
        assert not head.any()


def test_letters_fit_the_box() -> None:
    heights = [
        int(
            changed(plain(), annotate(plain(), [detection((300, 300, 300 + side, 300 + side))]))[:300].any(axis=1).sum()
        )
        for side in (30, 120)
    ]
    assert 8 <= heights[0] < heights[1]


def test_colours_belong_to_classes() -> None:
    colors = [color_of(detection((0, 0, 9, 9), number)) for number in range(14)]
    assert colors[:7] == list(PALETTE)
    assert colors[7:] == colors[:7]
    assert color_of(Prediction(None, None, None)) == PALETTE[0]
    drawn = annotate(plain(), [detection((100, 100, 300, 300), 2)])
    assert (drawn == np.array(PALETTE[2])).all(axis=2).sum() > 800


def test_a_pose_of_17_points_has_a_skeleton_and_one_of_16_only_points() -> None:
    whole, without = pose(), replace(pose(), keypoints=(pose().keypoints or ())[:16])
    lines, points = (changed(plain(), annotate(plain(), [one])).sum() for one in (whole, without))
    assert lines > 2 * points > 0


def test_points_that_are_guesses_are_not_drawn() -> None:
    points = tuple((x, y, 0.1 if number < 5 else 0.9) for number, (x, y, _) in enumerate(pose().keypoints or ()))
    marked = changed(plain(), annotate(plain(), [replace(pose(), keypoints=points)]))
    for number, (x, y, _) in enumerate(points):
        assert marked[round(y), round(x)] == (number >= 5)


def test_keypoints_without_a_confidence_are_drawn() -> None:
    marked = changed(plain(), annotate(plain(), [Prediction("hand", 0, 0.9, keypoints=((320, 240), (400, 300)))]))
    assert marked[240, 320]
    assert marked[300, 400]


def test_a_mask_lets_the_picture_show_through_and_spares_its_holes() -> None:
    image = plain()
    image[:, ::2] = 90
    square = ((100.0, 100.0), (300.0, 100.0), (300.0, 300.0), (100.0, 300.0))
    hole = ((150.0, 150.0), (250.0, 150.0), (250.0, 250.0), (150.0, 250.0))
    drawn = annotate(image, [Prediction("ring", 1, None, polygons=(square, hole))])
    assert not changed(image, drawn)[160:240, 160:240].any()
    assert changed(image, drawn)[110:140, 110:290].all()
    assert (drawn[120, 120].astype(int) != drawn[120, 121]).any()


def test_the_background_of_a_segmentation_is_not_painted() -> None:
    everywhere = Prediction("background", 0, None, polygons=(((0, 0), (640, 0), (640, 480), (0, 480)),))
    assert np.array_equal(annotate(plain(), [everywhere]), plain())


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction("macaw", 89, 0.996),
        Prediction("pressure", None, None, value=21.35),
        Prediction(None, None, None, vector=(0.1, 0.2)),
    ],
)
def test_what_says_no_place_stands_in_the_upper_left_corner(prediction: Prediction) -> None:
    marked = changed(plain(), annotate(plain(), [prediction]))
    assert marked[0, 0]
    assert marked.sum() > 200
    assert not marked[240:].any()


def test_the_legend_has_a_row_for_each_as_far_as_there_is_room() -> None:
    rows = [
        int(changed(plain(), annotate(plain(), [Prediction("cat", n, 0.5) for n in range(count)])).any(axis=1).sum())
        for count in (1, 2, 5, 1000)
    ]
    assert rows[1] == 2 * rows[0]
    assert rows[2] == 5 * rows[0]
    assert rows[3] <= 480


def test_regions_and_zones_are_outlined_in_pixels_or_fractions() -> None:
    in_pixels = annotate(
        plain(), [], regions={"d": (64, 48, 320, 240)}, zones={"z": ((320, 240), (640, 240), (640, 480))}
    )
    shares = annotate(plain(), [], regions={"d": (0.1, 0.1, 0.5, 0.5)}, zones={"z": ((0.5, 0.5), (1, 0.5), (1, 1))})
    assert np.array_equal(in_pixels, shares)
    marked = changed(plain(), in_pixels)
    assert marked[48, 64:320].all()
    assert marked[48:240, 64].all()
    assert marked[240, 321:639].all()


def test_a_zone_that_is_the_whole_picture_is_seen_on_all_sides() -> None:
    marked = changed(plain(), annotate(plain(), [], zones={"all": ((0, 0), (1, 0), (1, 1), (0, 1))}))
    assert marked[0].all()
    assert marked[-1].all()
    assert marked[:, 0].all()
    assert marked[:, -1].all()


def test_what_is_said_of_a_region_stands_at_the_region() -> None:
    regions = {"left": (100.0, 200.0, 200.0, 300.0), "right": (400.0, 200.0, 500.0, 300.0)}
    bare = annotate(plain(), [], regions=regions)
    marked = changed(bare, annotate(plain(), [Prediction("7", 7, 0.9, region="right")], regions=regions))
    assert marked[:, 380:].any()
    assert not marked[:, :380].any()


@pytest.mark.parametrize("max_side", [96, 320, 640])
def test_a_picture_is_made_smaller_before_it_is_drawn_on(max_side: int) -> None:
    image = plain(1080, 1920)
    drawn = annotate(image, [detection((480, 270, 1440, 810))], max_side=max_side)
    assert max(drawn.shape[:2]) == max_side
    half = annotate(
        plain(*drawn.shape[:2]), [detection((max_side / 4, max_side * 9 / 64, max_side * 3 / 4, max_side * 27 / 64))]
    )
    assert np.array_equal(drawn, half)


def test_a_picture_is_never_made_larger() -> None:
    assert annotate(plain(), [], max_side=5000).shape == (480, 640, 3)


@pytest.mark.parametrize(
    "box",
    [(-500, -500, -400, -400), (9000, 9000, 9999, 9999), (-1e9, -1e9, 1e9, 1e9), (50, 50, 50, 50), (60, 60, 20, 20)],
)
def test_boxes_out_of_the_picture_or_without_an_area_break_nothing(box: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = box
    outline = ((x1, y1), (x2, y1), (x2, y2))
    drawn = annotate(plain(), [replace(detection(box), polygons=(outline, ()), keypoints=((x1, y1, 0.9),))])
    assert drawn.shape == (480, 640, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (500, 3), (20, 20)])
def test_the_smallest_pictures_break_nothing(height: int, width: int) -> None:
    predictions = [detection((0, 0, width, height)), Prediction("cat", 1, 0.9), replace(pose(), region="d")]
    drawn = annotate(
        plain(height, width), predictions, regions={"d": (0, 0, 1, 1)}, zones={"z": ((0, 0), (1, 0), (1, 1))}
    )
    assert drawn.shape == (height, width, 3)


def test_part_of_a_larger_array_can_be_drawn_on() -> None:
    frame = plain()[10:400:2, 5:600:3]
    drawn = annotate(frame, [detection((10, 10, 90, 90))])
    assert np.array_equal(drawn, annotate(np.ascontiguousarray(frame), [detection((10, 10, 90, 90))]))


@pytest.mark.parametrize(
    ("text", "plain_text"),
    [
        ("person", "person"),
        ("Großer Lastkraftwagen", "Grosser Lastkraftwagen"),
        ("café crème", "cafe creme"),
        ("žluťoučký kůň", "zlutoucky kun"),
        ("Ærø Łódź", "AEro Lodz"),
        ("ﬁsh №5", "fish No5"),
        ("金刚鹦鹉", "????"),
        ("tab\tnew\nline\x00", "tab?new?line?"),
        ("x" * 1000, "x" * 60),
    ],
)
def test_labels_are_written_in_ascii(text: str, plain_text: str) -> None:
    assert ascii_text(text) == plain_text


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        (Prediction("person", 0, 0.876, track_id=7), "#7 person 0.88"),
        (Prediction("金刚鹦鹉", 88, 0.9), "class 88 0.90"),
        (Prediction("", 3, 0.9), "class 3 0.90"),
        (Prediction("sky", 3, None), "sky"),
        (Prediction("pressure", None, None, value=21.3456), "pressure 21.35"),
        (Prediction(None, None, None, vector=(1.0, 2.0)), "2 numbers"),
    ],
)
def test_what_a_label_says(prediction: Prediction, text: str) -> None:
    assert caption(prediction) == text


@pytest.fixture(scope="module")
def noise() -> Image:
    """The picture that compresses worst."""
    return np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)


@pytest.mark.parametrize("max_bytes", [1000, 4000, 20_000, 100_000, 1_000_000])
def test_a_jpeg_keeps_within_its_bytes_whatever_the_picture(max_bytes: int, noise: Image) -> None:
    encoded = encode_jpeg(noise, max_bytes)
    assert len(encoded) <= max_bytes
    assert len(encoded) > 0.25 * max_bytes or max_bytes == 1_000_000
    assert decode_image(encoded).shape[1] <= 640


def test_a_jpeg_that_fits_keeps_size_and_quality() -> None:
    encoded = encode_jpeg(plain(), 100_000, 90)
    assert np.array_equal(decode_image(encoded), plain())
    assert encoded == cv2.imencode(".jpg", plain(), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def test_quality_gives_way_before_size(noise: Image) -> None:
    smooth = np.asarray(cv2.GaussianBlur(noise, (9, 9), 0), np.uint8)
    best = len(encode_jpeg(smooth, 10_000_000))
    assert decode_image(encode_jpeg(smooth, best - 1)).shape == smooth.shape


def test_a_picture_longer_than_a_jpeg_can_be_is_made_smaller() -> None:
    assert decode_image(encode_jpeg(plain(1, 70_000), 100_000)).shape == (1, 65_500, 3)


def test_no_picture_has_no_bytes() -> None:
    with pytest.raises(ValueError, match="no JPEG has as few as 100 bytes"):
        encode_jpeg(plain(), 100)


def test_a_photograph_stays_recognisable_around_what_is_drawn(data_dir: Path) -> None:
    image = decode_image((data_dir / "images" / "bus.jpg").read_bytes())
    boxes = [(48, 399, 245, 902), (670, 380, 810, 877), (221, 405, 345, 860), (17, 231, 802, 768)]
    drawn = annotate(image, [detection(box, number) for number, box in enumerate(boxes)])
    assert 0.01 < changed(image, drawn).mean() < 0.1
