"""Real models: what the families see in their files, what they say of photographs, and the same in plain loops.

The confidences below were seen with a plain interpreter on pictures resized with an antialiased bilinear filter, the
padding right and below; here and for the loops pictures are prepared by `Preprocess`, which averages areas.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import Decoder, Limits, families
from edge_agent.decoders.recognition import Recognition
from edge_agent.engines import Engine, load_engine
from edge_agent.modelfile import inspect
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.placement import Resize, place
from tests.decoders.scenes import Floats, Thing, assert_same, suppressed

SSD = "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
YOLOV5 = "detect_tflite/yolov5n-int8.tflite"
YOLOV8 = "detect_tflite/yolov8n_integer_quant.tflite"
YOLOX = "detect_onnx/yolox_nano.onnx"
ULTRAFACE = "detect_onnx/ultraface_version-RFB-320.onnx"
MOVENET = "misc_tflite/movenet_single_pose_lightning_ptq.tflite"
DEEPLAB = "misc_tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite"

LIMITS = Limits(top_k=100, min_confidence=0.4)


@dataclass(frozen=True)
class Loaded:
    """A model as the agent would read it."""

    recognition: Recognition
    engine: Engine
    decode: Decoder
    preprocess: Preprocess

    @property
    def size(self) -> tuple[int, int]:
        return self.preprocess.width, self.preprocess.height


@cache
def load(data_dir: Path, name: str) -> Loaded:
    file = inspect.read(data_dir / name)
    coco = (data_dir / "labels/coco80_names.txt").read_text().split("\n")[:80]
    (recognition,) = families.fitting(file)
    engine = load_engine(file.identity, "cpu", 1)
    _, *axes = file.inputs[0].shape
    layout = "nhwc" if axes[2] == 3 else "nchw"
    height, width = axes[:2] if layout == "nhwc" else axes[1:]
    mean, std = recognition.normalization or ((0.0,), (1.0,))
    if file.inputs[0].dtype == "uint8":  # they all take pixels as they are
        mean, std = (0.0,), (1.0,)
    labels = recognition.labels or file.labels or (coco if recognition.classes == 80 else None)
    return Loaded(
        recognition,
        engine,
        families.build(recognition, engine.outputs, labels),
        Preprocess(
            height=height,
            width=width,
            resize=recognition.resize or "stretch",
            color=recognition.color or "rgb",
            layout=layout,  # type: ignore[arg-type]  # one of the two
            dtype=file.inputs[0].dtype,
            mean=mean,
            std=std,
        ),
    )


def read(data_dir: Path, image: str) -> NDArray[np.uint8]:
    picture = cv2.imread(str(data_dir / "images" / image))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def size_of(picture: NDArray[np.uint8]) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


SEEN = {
    (SSD, "bus.jpg"): [("person", 0.83), ("bus", 0.71)],
    (SSD, "dog.jpg"): [("bicycle", 0.74), ("car", 0.67), ("cat", 0.63)],
    (YOLOV5, "bus.jpg"): [("person", 0.87), ("person", 0.81), ("person", 0.80), ("bus", 0.49)],
    (YOLOV5, "dog.jpg"): [("car", 0.71), ("dog", 0.52), ("bicycle", 0.49)],
    (YOLOV8, "bus.jpg"): [("person", 0.90), ("person", 0.88), ("person", 0.86), ("bus", 0.86)],
    (YOLOX, "bus.jpg"): [("bus", 0.91), ("person", 0.85), ("person", 0.82), ("person", 0.68)],
    (YOLOX, "dog.jpg"): [("dog", 0.83), ("car", 0.81), ("bicycle", 0.81)],
}


# The int8 YOLOv5n is unsteady on this picture: noise of -1 to 1 on the pixels of its input moves its confidences by as
# much as 0.18, and of the dog it says 0.52 with the antialiased filter, 0.64 with averaged areas.
UNSTEADY = {(YOLOV5, "dog.jpg", "dog"): 0.13}


@pytest.mark.parametrize(("name", "image"), SEEN)
def test_the_published_models_see_what_is_known_of_them(data_dir: Path, name: str, image: str) -> None:
    model, picture = load(data_dir, name), read(data_dir, image)
    assert model.preprocess.resize == ("stretch" if name == SSD else "letterbox")
    size = size_of(picture)
    placement = place(None, (0, 0), size, size, model.size, model.preprocess.resize)
    found = model.decode(model.engine.run([model.preprocess([picture])]), [placement], LIMITS)
    for label in {label for label, _ in SEEN[name, image]}:
        told = [one.confidence for one in found if one.label == label]
        expected = [confidence for of, confidence in SEEN[name, image] if of == label]
        assert told[: len(expected)] == pytest.approx(expected, abs=UNSTEADY.get((name, image, label), 0.05))


def loops_yolov5(outputs: list[NDArray[np.uint8]], model: Loaded, least: float) -> Iterator[Thing]:
    spec, (width, height) = model.engine.outputs[0], model.size
    for row in outputs[0][0].tolist():
        x, y, wide, high, objectness, *classes = ((value - spec.zero_point) * spec.scale for value in row)
        class_id = max(range(80), key=classes.__getitem__)
        if objectness * classes[class_id] >= least:
            box = (x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width, (y + high / 2) * height
            yield Thing(box, class_id, objectness * classes[class_id])


def loops_yolov8(outputs: list[Floats], model: Loaded, least: float) -> Iterator[Thing]:
    width, height = model.size
    for x, y, wide, high, *classes in outputs[0][0].T.tolist():
        class_id = max(range(80), key=classes.__getitem__)
        if classes[class_id] >= least:
            box = (x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width, (y + high / 2) * height
            yield Thing(box, class_id, classes[class_id])


def loops_yolox(outputs: list[Floats], model: Loaded, least: float) -> Iterator[Thing]:
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(416 // stride) for x in range(416 // stride)]
    for (column, row, stride), (x, y, wide, high, objectness, *classes) in zip(
        cells, outputs[0][0].tolist(), strict=True
    ):
        class_id = max(range(80), key=classes.__getitem__)
        if objectness * classes[class_id] >= least:
            centre_x, centre_y = (x + column) * stride, (y + row) * stride
            half_x, half_y = math.exp(wide) * stride / 2, math.exp(high) * stride / 2
            box = centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y
            yield Thing(box, class_id, objectness * classes[class_id])


def loops_ultraface(outputs: list[Floats], model: Loaded, least: float) -> Iterator[Thing]:
    width, height = model.size
    for (_, face), (x1, y1, x2, y2) in zip(outputs[0][0].tolist(), outputs[1][0].tolist(), strict=True):
        if face >= least:
            yield Thing((x1 * width, y1 * height, x2 * width, y2 * height), 1, face)


def loops_ssd(outputs: list[Floats], model: Loaded, least: float) -> Iterator[Thing]:
    width, height = model.size
    for number in range(int(outputs[3][0])):
        y1, x1, y2, x2 = outputs[0][0][number].tolist()
        if outputs[2][0][number] >= least:
            box = x1 * width, y1 * height, x2 * width, y2 * height
            yield Thing(box, int(outputs[1][0][number]), float(outputs[2][0][number]))


def back_in_picture(thing: Thing, model: Loaded, picture: NDArray[np.uint8]) -> Thing:
    """Scaling taken back, and clipped: the padding is right and below."""
    (width, height), (columns, rows) = model.size, size_of(picture)
    scale_x, scale_y = width / columns, height / rows
    if model.preprocess.resize == "letterbox":
        scale_x = scale_y = min(scale_x, scale_y)
    x1, y1, x2, y2 = thing.box
    x1, x2 = (min(max(x / scale_x, 0), columns) for x in (x1, x2))
    y1, y2 = (min(max(y / scale_y, 0), rows) for y in (y1, y2))
    return replace(thing, box=(x1, y1, x2, y2))


IN_LOOPS: dict[str, Callable[..., Iterator[Thing]]] = {
    SSD: loops_ssd,
    YOLOV5: loops_yolov5,
    YOLOV8: loops_yolov8,
    YOLOX: loops_yolox,
    ULTRAFACE: loops_ultraface,
}


@pytest.mark.parametrize("image", ["bus.jpg", "dog.jpg", "face.jpg"])
@pytest.mark.parametrize("name", IN_LOOPS)
def test_decoding_in_arrays_gives_what_plain_loops_give(data_dir: Path, name: str, image: str) -> None:
    model, picture = load(data_dir, name), read(data_dir, image)
    outputs = model.engine.run([model.preprocess([picture])])
    size = size_of(picture)
    placement = place(None, (0, 0), size, size, model.size, model.preprocess.resize)
    found = model.decode(outputs, [placement], LIMITS)
    things = list(IN_LOOPS[name](outputs, model, LIMITS.min_confidence))
    if name != SSD:
        things = suppressed(things, LIMITS.max_overlap)
    assert_same(found, [back_in_picture(one, model, picture) for one in things], score=1e-4, iou=0.99)


@pytest.mark.parametrize(("image", "faces"), [("grace_hopper.bmp", 1), ("face.jpg", 4)])
def test_ultraface_finds_the_faces(data_dir: Path, image: str, faces: int) -> None:
    model, picture = load(data_dir, ULTRAFACE), read(data_dir, image)
    placement = place(None, (0, 0), size_of(picture), size_of(picture), model.size, "stretch")
    found = model.decode(model.engine.run([model.preprocess([picture])]), [placement], Limits(100, 0.7))
    assert [one.label for one in found] == ["face"] * faces
    assert found[0].confidence == pytest.approx(1, abs=0.05)


def test_a_region_of_a_picture_is_decoded_in_the_picture(data_dir: Path) -> None:
    model, picture = load(data_dir, ULTRAFACE), read(data_dir, "face.jpg")
    right = picture[40:280, 230:500]
    placement = place("right", (230, 40), size_of(right), size_of(picture), model.size, "stretch")
    found = model.decode(model.engine.run([model.preprocess([right])]), [placement], Limits(2, 0.7))
    assert [one.region for one in found] == ["right"] * 2
    assert found[0].box == pytest.approx((260, 47, 347, 168), abs=8)


@pytest.mark.parametrize("how", ["stretch", "letterbox"])
def test_movenet_finds_the_nose_however_the_picture_is_fitted(data_dir: Path, how: Resize) -> None:
    model, picture = load(data_dir, MOVENET), read(data_dir, "squat.bmp")
    preprocess = replace(model.preprocess, resize=how)
    placement = place(None, (0, 0), size_of(picture), size_of(picture), model.size, how)
    (found,) = model.decode(model.engine.run([preprocess([picture])]), [placement], Limits(1, 0))
    assert found.keypoints is not None
    x, y, _ = found.keypoints[0]
    # As in the reference beside the model, movenet_single_pose_lightning_ptq_reference.csv.
    assert (y / picture.shape[0], x / picture.shape[1]) == pytest.approx((0.332112, 0.589104), abs=0.01)
    assert found.confidence is not None
    assert found.confidence > 0.5


def test_deeplab_finds_the_bird(data_dir: Path) -> None:
    model, picture = load(data_dir, DEEPLAB), read(data_dir, "bird_segmentation.bmp")
    placement = place(None, (0, 0), size_of(picture), size_of(picture), model.size, "stretch")
    outputs = model.engine.run([model.preprocess([picture])])
    found = {one.class_id: one for one in model.decode(outputs, [placement], LIMITS)}
    assert found[3].area == pytest.approx(44_935, abs=50)
    assert sum(one.area or 0 for one in found.values()) == 513 * 513
    canvas = np.zeros((513, 513), np.uint8)
    assert found[3].polygons is not None
    cv2.fillPoly(canvas, [np.array(part).astype(np.int32) for part in found[3].polygons], 1)
    bird = outputs[0][0] == 3
    assert (canvas.astype(bool) & bird).sum() / (canvas.astype(bool) | bird).sum() > 0.97


@pytest.mark.parametrize(
    ("name", "family", "classes"),
    [
        (SSD, "ssd", 90),
        (YOLOV5, "yolov5", 80),
        (YOLOV8, "yolov8", 80),
        (YOLOX, "yolox", 80),
        (ULTRAFACE, "ultraface", 2),
        (MOVENET, "movenet", 1),
        (DEEPLAB, "segmentation", None),
        ("tflm/hello_world_int8.tflite", "regression", 1),
    ],
)
def test_each_file_is_recognised_as_one_family(data_dir: Path, name: str, family: str, classes: int | None) -> None:
    (found,) = families.fitting(inspect.read(data_dir / name))
    assert (found.family, found.classes, found.missing) == (family, classes, {})


@pytest.mark.parametrize(
    "name",
    [
        "classify_tflite/mobilenet_v2_1.0_224_quant.tflite",
        "classify_onnx/mnist.onnx",
        "tinymlperf/vww_96_int8.tflite",
        "tinymlperf/kws_ref_model.tflite",
        "tinymlperf/ad01_int8.tflite",
        "audio/yamnet_audio_classifier_with_metadata.tflite",
        "audio/silero_vad.onnx",
        "text/movie_review.tflite",
        "lm/tiny-random-gpt2-fp32/past.onnx",
        "bad_models/person_detect_vela.tflite",
    ],
)
def test_a_file_of_another_kind_fits_no_family(data_dir: Path, name: str) -> None:
    assert families.fitting(inspect.read(data_dir / name)) == []
