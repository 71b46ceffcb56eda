"""The contract of decoders, run on every family."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge_agent.decoders import families
from edge_agent.decoders.classification import Classification, Output
from edge_agent.decoders.ssd_raw import ssd_anchors
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.timeseries.numbers import RawInput
from tests.decoders import (
    chips,
    faces,
    test_ctc,
    test_detr,
    test_faces,
    test_fomo,
    test_heat_maps,
    test_landmarks,
    test_movenet,
    test_nanodet,
    test_segmentation,
    test_ssd,
    test_ssd_raw,
    test_text_detection,
    test_ultraface,
    test_yolo,
    test_yolo_maps,
    test_yolo_obb,
    test_yolo_pose,
    test_yolo_segmentation,
    test_yolox,
)
from tests.decoders.contract import DecoderContract, Outputs, Setup
from tests.decoders.scenes import Floats, Thing, decoder, facts, floats, specs

SIZE = (96, 128)
RANDOM = np.random.default_rng(0)


def of_family(
    family: str, size: tuple[int, int], scene: Outputs, empty: Outputs | None, labels: Sequence[str] = (), **more: Any
) -> Setup:
    """A family whose file is known by the shapes of its outputs."""
    file = facts(*(Tensor(f"out{number}", one.shape, one.dtype.name) for number, one in enumerate(scene)), size=size)
    return Setup(decoder(file, family, labels or None), size, scene, empty, labels, **more)


def ssd() -> Setup:
    file = test_ssd.file(list(test_ssd.NAMES["the operator's own tensors"].values()))
    decode = decoder(file, "ssd", test_ssd.LABELS)
    scene, empty = (list(test_ssd.outputs(things).values()) for things in (test_ssd.THINGS, ()))
    return Setup(decode, test_ssd.SIZE, scene, empty, test_ssd.LABELS)


def ssd_raw() -> Setup:
    boxes, scores = test_ssd_raw.encoded(ssd_anchors(test_ssd_raw.SIZE))
    labels = ("background", *test_ssd_raw.LABELS)
    return Setup(test_ssd_raw.published(), test_ssd_raw.SIZE, [boxes, scores], [boxes, scores * 0], labels)


_maps = chips.maps(chips.THINGS, channels_first=True, sums=True)


def of_a_chip(file: ModelFile, scene: Outputs, empty: Outputs, **more: Any) -> Setup:
    (found,) = families.fitting(file)
    decode = families.build(found, specs(file), chips.LABELS)
    return Setup(decode, chips.SIZE, scene, empty, chips.LABELS, **more)


def yolo(family: str) -> Setup:
    def make(things: Sequence[Thing]) -> Floats:
        if family == "yolo_end_to_end":
            return test_yolo.detections(things, fractions=True)
        encode = test_yolo.with_objectness if family == "yolov5" else test_yolo.without_objectness
        return encode(things, fractions=False)

    scene, empty = ([make(things)[None]] for things in (test_yolo.THINGS, ()))
    return of_family(family, test_yolo.SIZE, scene, empty, test_yolo.LABELS)


def yolov7() -> Setup:
    rows = floats([[0, *thing.box, thing.class_id, thing.score] for thing in test_yolo.THINGS])
    file = facts((-1, 7), size=test_yolo.SIZE, graph=["NonMaxSuppression"], file_format="onnx")
    decode = decoder(file, "yolo_end_to_end", test_yolo.LABELS)
    return Setup(decode, test_yolo.SIZE, [rows], [rows[:0]], test_yolo.LABELS, batched=False)


def yolo_pose() -> Setup:
    cells = test_yolo_pose.cells(fractions=False)[None]
    return of_family("yolo_pose", test_yolo_pose.SIZE, [cells], [cells * 0], ["person"], task="pose")


def yolo_obb(*, end_to_end: bool) -> Setup:
    ships = (30, 32, 20, 8, 30, 0.9), (14, 12, 12, 6, 0, 0.6)
    file, encode = (
        (test_yolo_obb.END_TO_END, test_yolo_obb.detections)
        if end_to_end
        else (test_yolo_obb.FILE, test_yolo_obb.cells)
    )
    return Setup(decoder(file, "yolo_obb", ["ship"]), test_yolo_obb.SIZE, [encode(*ships)], [encode()], ["ship"])


def yolo_segmentation(kind: str) -> Setup:
    rows, prototypes = test_yolo_segmentation.rows(kind)[None], test_yolo_segmentation.prototypes()[None]
    return of_family(
        "yolo_segmentation",
        test_yolo_segmentation.SIZE,
        [rows, prototypes],
        [rows * 0, prototypes],
        test_yolo_segmentation.LABELS,
        task="segmentation",
    )


def yolox() -> Setup:
    scene = test_yolox.encoded()[None]
    empty = scene.copy()
    empty[..., 4] = 0
    return of_family("yolox", test_yolox.SIZE, [scene], [empty], test_yolox.LABELS)


def nanodet() -> Setup:
    scene = test_nanodet.encoded(plus=True)[None]
    return of_family("nanodet", test_nanodet.SIZE, [scene], [scene * 0], test_nanodet.LABELS)


def nanodet_maps() -> Setup:
    file, scene = test_nanodet.maps()
    decode = decoder(file, "nanodet", test_nanodet.LABELS)
    return Setup(decode, test_nanodet.SIZE, scene, [one * 0 for one in scene], test_nanodet.LABELS)


def ultraface() -> Setup:
    scores, boxes = test_ultraface.encoded()
    empty = [scores * 0, boxes]
    return of_family("ultraface", test_ultraface.SIZE, [scores, boxes], empty, test_ultraface.LABELS)


def of_faces(family: str, scene: Outputs, empty: Outputs, size: tuple[int, int] = faces.SIZE, **more: Any) -> Setup:
    """A family of detectors with points."""
    file = test_faces.file_of([one if one.ndim == 3 else one[None] for one in scene], size)
    if not more.get("batched", True):
        file = test_faces.file_of(scene, size)
    return Setup(decoder(file, family, ["face"]), size, scene, empty, ["face"], **({"task": "pose"} | more))


def blazeface(*, separate: bool) -> Setup:
    scene, empty = (
        [one for pair in maps for one in pair]
        if separate
        else [np.concatenate(kind, axis=1) for kind in zip(*maps, strict=True)]
        for maps in (faces.blazeface(faces.moved(found, 6)) for found in (faces.FACES, ()))
    )
    return of_faces("blazeface", scene, empty, faces.SQUARE)


def landmarks(what: str) -> Setup:
    file, scene = test_landmarks.file_of(what), test_landmarks.scene(what)
    (recognition,) = families.fitting(file)
    decode = families.build(recognition, specs(file), recognition.labels)
    empty = [one if one.size > 1 else np.full_like(one, -9) for one in scene]
    return Setup(decode, test_landmarks.SIZE, scene, empty, recognition.labels or (), task="pose")


def fomo() -> Setup:
    scene = test_fomo.heat((2, 3, 1, 0.8), (6, 9, 2, 0.6), (11, 15, 1, 0.4))
    labels = ("background", *test_fomo.LABELS)
    return of_family("fomo", test_fomo.SIZE, [scene], [test_fomo.heat()], labels)


def movenet(*, persons: bool) -> Setup:
    one = test_movenet.keypoints(1)[None, None]
    several = np.zeros((1, 6, 56), np.float32)
    for number, score in enumerate((0.5, 0.9)):
        several[0, number] = [*test_movenet.keypoints(number).ravel(), 0.1, 0.2, 0.5, 0.6, score]
    scene = several if persons else one
    return of_family("movenet", test_movenet.SIZE, [scene], [scene * 0], ["person"], task="pose")


def movenet_maps() -> Setup:
    scene = test_movenet.heat_maps()
    return of_family("movenet", test_movenet.SIZE, [scene], [scene * 0], ["person"], task="pose")


def heat_maps(*, keypoints_last: bool) -> Setup:
    scene = test_heat_maps.maps(keypoints_last=keypoints_last)
    return of_family("heat_maps", test_heat_maps.SIZE, [scene], [scene * 0], ["person"], task="pose")


def simcc() -> Setup:
    scene = test_heat_maps.rows_and_columns()
    return of_family("simcc", test_heat_maps.SIZE, scene, [one * 0 for one in scene], ["person"], task="pose")


def segmentation(*, scores: bool) -> Setup:
    numbers = test_segmentation.scene()[None]
    scene = np.eye(3, dtype=np.float32)[numbers] if scores else numbers
    return of_family(
        "segmentation", test_segmentation.SIZE, [scene], None, test_segmentation.LABELS, task="segmentation"
    )


def anomaly() -> Setup:
    given, scene = RANDOM.uniform(0, 1, (2, 1, *SIZE, 3)).astype(np.float32)
    file = facts(scene.shape, size=SIZE)
    recognition = families.stated(file, "anomaly", families.OF_NUMBERS)
    decode = families.build(recognition, specs(file), None)
    return Setup(decode, SIZE, [scene], task="anomaly", limited=False, item=lambda: RawInput(given))


def numbers(family: str, values: Sequence[float], labels: Sequence[str] = ()) -> Setup:
    return of_family(family, SIZE, [floats([values])], None, labels, task=family, limited=False, shaped=False)


def classification(output: Output) -> Setup:
    labels = ("cat", "dog", "owl", "ant", "bee")
    decode = Classification(TensorSpec("scores", (1, 5), "float32"), labels, output)
    scores = floats([[0.1, 0.55, 0.05, 0.25, 0.05]])
    scene, empty = (np.log(one) if output == "logits" else one for one in (scores, np.full_like(scores, 0.2)))
    return Setup(decode, SIZE, [scene], [empty], labels, task="classification")


def class_number() -> Setup:
    labels = ("cat", "dog", "owl")
    file = facts(Tensor("ids", (1,), "int64"), size=SIZE, operators=("ArgMax",))
    decode = decoder(file, "class_number", labels)
    return Setup(decode, SIZE, [np.array([2])], None, labels, task="classification", limited=False)


def labels_and_scores() -> Setup:
    labels, scene = ("cat", "dog", "owl"), [np.array([1]), floats([[0.3, 0.6, 0.1]])]
    file = facts(Tensor("label", (-1,), "int64"), Tensor("probabilities", (-1, 3), "float32"), size=SIZE)
    decode = decoder(file, "labels_and_scores", labels)
    return Setup(decode, SIZE, scene, [scene[0], scene[1] * 0], labels, task="classification")


def yolo_maps(family: str) -> Setup:
    scene, empty = (test_yolo_maps.encoded(family, things) for things in (test_yolo_maps.THINGS, ()))
    return Setup(test_yolo_maps.built(family, scene), test_yolo_maps.SIZE, scene, empty, test_yolo_maps.LABELS)


def ssd_st() -> Setup:
    scene, empty = (test_yolo_maps.st_ssd(things) for things in (test_yolo_maps.THINGS, ()))
    return of_family("ssd_st", test_yolo_maps.SIZE, scene, empty, ("background", *test_yolo_maps.LABELS))


def yolo_nas(*, classes_first: bool) -> Setup:
    boxes, scores = test_detr.cells(test_yolo.THINGS)
    scores = scores.swapaxes(1, 2) if classes_first else scores
    return of_family("yolo_nas", test_yolo.SIZE, [boxes, scores], [boxes, scores * 0], test_yolo.LABELS)


def detr(names: Sequence[str]) -> Setup:
    scene, empty = (test_detr.OUTPUTS[tuple(names)](things) for things in (test_yolo.THINGS, ()))
    decode = decoder(test_detr.file_of(names, scene), "detr", test_yolo.LABELS)
    return Setup(decode, test_yolo.SIZE, scene, empty, test_yolo.LABELS)


def paddle() -> Setup:
    scene, empty = (test_detr.class_first(things) for things in (test_yolo.THINGS, ()))
    return of_family("paddle", test_yolo.SIZE, scene, empty, test_yolo.LABELS, batched=False)


def ctc(*, plates: bool) -> Setup:
    if plates:
        scene, empty = (test_ctc.plate(text)[None] for text in ("京A12", ""))
        return Setup(test_ctc.of_plates(), test_ctc.PLATE, [scene], [empty], task="ocr")
    scene, empty = (test_ctc.steps(text)[None] for text in ("see 11", ""))
    return Setup(test_ctc.of_lines(), test_ctc.LINE, [scene], [empty], task="ocr")


def text_detection() -> Setup:
    scene = test_text_detection.probabilities(((10, 20, 60, 30), 0.9), ((70, 50, 120, 70), 0.6))
    return of_family("text_detection", SIZE, [scene], [scene * 0], ["text"])


SCENES = {
    "classification, probabilities": classification("probabilities"),
    "classification, logits": classification("logits"),
    "class_number": class_number(),
    "labels_and_scores": labels_and_scores(),
    "ssd": ssd(),
    "ssd_raw": ssd_raw(),
    "ssd_st": ssd_st(),
    **{family: yolo_maps(family) for family in test_yolo_maps.CODINGS},
    "yolov5_face": of_faces("yolov5_face", [faces.yolov5_face(faces.FACES)], [faces.yolov5_face(())]),
    "yolov5": yolo("yolov5"),
    "yolov8": yolo("yolov8"),
    "yolo_dfl": of_a_chip(chips.maps_file(_maps), _maps, chips.maps((), channels_first=True, sums=True)),
    "hailo_nms": of_a_chip(chips.hailo_file(), [chips.by_class(chips.THINGS)], [chips.by_class(())]),
    "imx500": of_a_chip(chips.sensor_file(), chips.sensor(chips.THINGS), chips.sensor(()), shaped=False),
    "yolo_end_to_end": yolo("yolo_end_to_end"),
    "yolo_end_to_end, YOLOv7": yolov7(),
    "yolo_pose": yolo_pose(),
    "yolo_obb": yolo_obb(end_to_end=False),
    "yolo_obb, end to end": yolo_obb(end_to_end=True),
    "yolo_segmentation": yolo_segmentation("without objectness"),
    "yolo_segmentation, end to end": yolo_segmentation("end to end"),
    "yolox": yolox(),
    "nanodet": nanodet(),
    "nanodet, separate maps": nanodet_maps(),
    "yolo_nas": yolo_nas(classes_first=False),
    "yolo_nas, PP-YOLOE": yolo_nas(classes_first=True),
    "detr": detr(test_detr.CHOSEN),
    "detr, RF-DETR": detr(test_detr.RF_DETR),
    "paddle": paddle(),
    "ultraface": ultraface(),
    "yunet": of_faces("yunet", faces.yunet(faces.FACES), faces.yunet(())),
    "scrfd": of_faces("scrfd", faces.scrfd(faces.FACES), faces.scrfd(())),
    "scrfd, without points": of_faces("scrfd", faces.scrfd(faces.FACES)[:6], faces.scrfd(())[:6], task="detection"),
    "scrfd, without a batch": of_faces(
        "scrfd", [one[0] for one in faces.scrfd(faces.FACES)], [one[0] for one in faces.scrfd(())], batched=False
    ),
    "retinaface": of_faces("retinaface", faces.retinaface(faces.FACES), faces.retinaface(())),
    "blazeface": blazeface(separate=False),
    "blazeface, separate maps": blazeface(separate=True),
    "landmarks": landmarks("hand"),
    "landmarks, face": landmarks("face"),
    "landmarks, person": landmarks("person"),
    "fomo": fomo(),
    "movenet": movenet(persons=True),
    "movenet, one person": movenet(persons=False),
    "movenet, heat maps": movenet_maps(),
    "heat_maps": heat_maps(keypoints_last=False),
    "heat_maps, keypoints last": heat_maps(keypoints_last=True),
    "simcc": simcc(),
    "segmentation": segmentation(scores=False),
    "segmentation, scores": segmentation(scores=True),
    "ctc": ctc(plates=False),
    "ctc, LPRNet": ctc(plates=True),
    "text_detection": text_detection(),
    "embedding": numbers("embedding", [0.5, -0.25, 1.5]),
    "regression": numbers("regression", [12.5, -3.25], ["yaw", "pitch"]),
    "anomaly": anomaly(),
}


def test_every_family_has_a_scene() -> None:
    assert list(dict.fromkeys(name.partition(",")[0] for name in SCENES)) == ["classification", *families.FAMILIES]


class TestEveryFamily(DecoderContract):
    @pytest.fixture(params=SCENES)
    def setup(self, request: pytest.FixtureRequest) -> Setup:
        return SCENES[request.param]
