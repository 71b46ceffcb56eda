"""The table of decoder families, and which of them fit a model file.

A row of scores is not among them: it fits too much.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from edge_agent.decoders import Decoder
from edge_agent.decoders.anomaly import recognise_anomaly
from edge_agent.decoders.blazeface import recognise_blazeface
from edge_agent.decoders.class_number import recognise_class_number
from edge_agent.decoders.ctc import TASK as OCR
from edge_agent.decoders.ctc import recognise_ctc
from edge_agent.decoders.detr import recognise_detr
from edge_agent.decoders.embedding import recognise_embedding
from edge_agent.decoders.fomo import recognise_fomo
from edge_agent.decoders.hailo_nms import recognise_hailo_nms
from edge_agent.decoders.heat_maps import recognise_heat_maps, recognise_simcc
from edge_agent.decoders.imx500 import recognise_imx500
from edge_agent.decoders.labels_and_scores import recognise_labels_and_scores
from edge_agent.decoders.landmarks import recognise_landmarks
from edge_agent.decoders.movenet import recognise_movenet
from edge_agent.decoders.nanodet import recognise_nanodet
from edge_agent.decoders.paddle import recognise_paddle
from edge_agent.decoders.recognition import Parts, Recognition, with_background
from edge_agent.decoders.regression import recognise_regression
from edge_agent.decoders.retinaface import recognise_retinaface
from edge_agent.decoders.scrfd import recognise_scrfd
from edge_agent.decoders.segmentation import recognise_segmentation
from edge_agent.decoders.ssd import recognise_ssd
from edge_agent.decoders.ssd_raw import recognise_ssd_raw
from edge_agent.decoders.ssd_st import recognise_ssd_st
from edge_agent.decoders.text_detection import recognise_text_detection
from edge_agent.decoders.ultraface import recognise_ultraface
from edge_agent.decoders.yolo import recognise_end_to_end, recognise_yolov5, recognise_yolov8
from edge_agent.decoders.yolo_dfl import recognise_yolo_dfl
from edge_agent.decoders.yolo_maps import (
    recognise_yolo_fastest_v2,
    recognise_yolov2,
    recognise_yolov3,
    recognise_yolov5_maps,
)
from edge_agent.decoders.yolo_nas import recognise_yolo_nas
from edge_agent.decoders.yolo_obb import recognise_yolo_obb
from edge_agent.decoders.yolo_pose import recognise_yolo_pose
from edge_agent.decoders.yolo_segmentation import recognise_yolo_segmentation
from edge_agent.decoders.yolov5_face import recognise_yolov5_face
from edge_agent.decoders.yolox import recognise_yolox
from edge_agent.decoders.yunet import recognise_yunet
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Recognise(Protocol):
    """Recognises a family in a model file; None if the file is not of this family."""

    def __call__(self, file: ModelFile, *, stated: bool = False) -> Recognition | None:
        """Looks at a file.

        Args:
            file: its facts.
            stated: the user names this family, so it is refused only if the file contradicts it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table. Its source is in the docstring of its module.

    Attributes:
        recognise: recognises the family in a file.
        outputs: their shapes, for messages.
        models: which models it is for, for the documentation.
        task: as published in results.
    """

    recognise: Recognise
    outputs: str
    models: str
    task: str = "detection"


FAMILIES = {
    "class_number": Family(
        recognise_class_number,
        "[1] of whole numbers",
        "classifiers that choose the class themselves (ArgMax): its label, without a confidence",
        "classification",
    ),
    "labels_and_scores": Family(
        recognise_labels_and_scores,
        "a label [1], and maps from labels to probabilities or [1, classes]",
        "classifiers of scikit-learn, LightGBM, XGBoost and Azure Custom Vision: a label, and the probability of each",
        "classification",
    ),
    "ssd": Family(
        recognise_ssd,
        "boxes [1, N, 4], classes [1, N], scores [1, N] and their count",
        "SSD with post-processing (TFLite_Detection_PostProcess): boxes, classes, scores, count",
    ),
    "ssd_raw": Family(
        recognise_ssd_raw,
        "[1, anchors, 4] and [1, anchors, classes]",
        "SSD without it: boxes and class scores for each anchor; needs `anchors` unless they are those of the "
        "published MobileNet models",
    ),
    "ssd_st": Family(
        recognise_ssd_st,
        "[1, anchors, classes], [1, anchors, 4] and [1, anchors, 4]",
        "SSD of ST's model zoo, which gives its anchors as well",
    ),
    "yolov2": Family(
        recognise_yolov2,
        "[1, rows, columns, 5 x (5 + classes)]",
        "YOLOv2, Tiny YOLOv2, ST's YOLO LC, Azure Custom Vision: one map of cells; needs `anchors`, in cells",
    ),
    "yolov3": Family(
        recognise_yolov3,
        "[1, 3 x (5 + classes), rows, columns] for each of two or three feature maps",
        "YOLOv3 and YOLOv4, also tiny, without their last layer; needs `anchors`, in pixels",
    ),
    "yolov5_maps": Family(
        recognise_yolov5_maps,
        "[1, 3, rows, columns, 5 + classes] for each of two or three feature maps",
        "YOLOv5 and YOLOv7 without their last layer; needs `anchors`, in pixels",
    ),
    "yolo_fastest_v2": Family(
        recognise_yolo_fastest_v2,
        "[1, rows, columns, 15 + classes] for each of two feature maps",
        "YOLO-FastestV2; `anchors`, in pixels, unless they are those of COCO",
    ),
    "yolov5_face": Family(recognise_yolov5_face, "[1, 3 x cells, 16]", "YOLOv5-face: faces with five points", "pose"),
    "yolov5": Family(
        recognise_yolov5,
        "[1, 3 x cells, 5 + classes]",
        "YOLOv5, YOLOv7: box, objectness and class scores for each cell",
    ),
    "yolov8": Family(recognise_yolov8, "[1, 4 + classes, cells]", "YOLOv8, YOLO11: the same without objectness"),
    "yolo_dfl": Family(
        recognise_yolo_dfl,
        "[1, 64, rows, columns], [1, classes, rows, columns] and maybe their sum for each of three feature maps",
        "YOLOv8 and YOLO11 without their last layers, as compiled for Rockchip's and Hailo's chips",
    ),
    "hailo_nms": Family(
        recognise_hailo_nms,
        "[1, classes x (1 + 5 x boxes)]",
        "HEF files with non-maximum suppression: boxes by class, or by score",
    ),
    "imx500": Family(
        recognise_imx500,
        "boxes [1, N, 4], scores [1, N], classes [1, N] and their count",
        "networks of the AI Camera with non-maximum suppression (`_pp`)",
    ),
    "yolo_end_to_end": Family(
        recognise_end_to_end,
        "[1, detections, 6], or [detections, 7] of YOLOv7",
        "YOLO exports that include non-maximum suppression",
    ),
    "yolo_pose": Family(
        recognise_yolo_pose,
        "[1, 4 + classes + keypoints, cells] or [1, detections, 6 + keypoints]",
        "YOLO with keypoints",
        "pose",
    ),
    "yolo_obb": Family(
        recognise_yolo_obb,
        "[1, 5 + classes, cells] or [1, detections, 7]",
        "YOLO with oriented boxes (task `obb`)",
    ),
    "yolo_segmentation": Family(
        recognise_yolo_segmentation,
        "[1, 4 + classes + coefficients, cells] and [1, coefficients, height, width]",
        "YOLO with masks",
        "segmentation",
    ),
    "yolox": Family(recognise_yolox, "[1, cells, 5 + classes]", "YOLOX"),
    "nanodet": Family(
        recognise_nanodet,
        "[1, cells, classes + 32], or [1, cells, classes] and [1, cells, 32] for each of three feature maps",
        "NanoDet and NanoDet-Plus, in one output or two for each feature map",
    ),
    "yolo_nas": Family(
        recognise_yolo_nas,
        "[1, cells, 4] and [1, cells, classes]",
        "YOLO-NAS and PP-YOLOE: boxes and class scores for each cell; YOLO-NAS with non-maximum suppression (`batch`)",
    ),
    "detr": Family(
        recognise_detr,
        "labels [1, queries], boxes [1, queries, 4] and scores [1, queries]",
        "RT-DETR, D-FINE, DEIM, RF-DETR and DETR of Transformers",
    ),
    "paddle": Family(
        recognise_paddle,
        "[detections, 6] and [1]",
        "PaddleDetection with its suppression, such as PicoDet: class, score and corners",
    ),
    "ultraface": Family(recognise_ultraface, "[1, boxes, 2] and [1, boxes, 4]", "UltraFace"),
    "yunet": Family(
        recognise_yunet,
        "[1, cells, 1] twice, [1, cells, 4] and [1, cells, 10] for each of three feature maps",
        "YuNet since 2023: faces with five points",
        "pose",
    ),
    "scrfd": Family(
        recognise_scrfd,
        "[anchors, 1], [anchors, 4] and maybe [anchors, 10] for each of three or five feature maps",
        "SCRFD: faces, with five points or without (`detection`)",
        "pose",
    ),
    "retinaface": Family(
        recognise_retinaface,
        "[1, priors, 4], [1, priors, 2] and [1, priors, 10], or [1, priors, 16]",
        "RetinaFace, Face-Detector-1MB, YuNet until 2022: faces with five points",
        "pose",
    ),
    "blazeface": Family(
        recognise_blazeface,
        "[1, anchors, 1] and [1, anchors, 16], 18 or 12",
        "BlazeFace, and the palm and person detectors of MediaPipe, with six, seven and four points",
        "pose",
    ),
    "landmarks": Family(
        recognise_landmarks,
        "[1, 63], [1, 1404], [1, 1434] or [1, 195], and [1, 1]",
        "MediaPipe's landmarks of a hand (21), a face (468 or 478) or a person (33) that fills the input",
        "pose",
    ),
    "fomo": Family(recognise_fomo, "[1, rows, columns, classes]", "FOMO: heat maps of object centres"),
    "movenet": Family(
        recognise_movenet,
        "[1, 1, 17, 3], [1, persons, 56] or heat maps [1, height / 4, width / 4, 17]",
        "MoveNet, one or several persons, also as heat maps",
        "pose",
    ),
    "heat_maps": Family(
        recognise_heat_maps,
        "[1, keypoints, height / 4, width / 4], or the keypoints last",
        "one map for each keypoint, of one person in a crop: HRNet, Simple Baselines, hourglasses",
        "pose",
    ),
    "simcc": Family(
        recognise_simcc,
        "[1, keypoints, 2 x width] and [1, keypoints, 2 x height]",
        "RTMPose and other models with SimCC: one person in a crop",
        "pose",
    ),
    "segmentation": Family(
        recognise_segmentation,
        "[1, height, width], or with an axis of classes last or first",
        "a class for each pixel, such as DeepLab",
        "segmentation",
    ),
    "ctc": Family(
        recognise_ctc,
        "[1, steps, characters], or [1, characters, 18] of LPRNet",
        "text of one line, such as a number plate: PaddleOCR's recognition, LPRNet, CRNN; `labels` are its characters",
        OCR,
    ),
    "text_detection": Family(
        recognise_text_detection, "[1, 1, height, width]", "text detection of PP-OCR (DB): boxes around lines of text"
    ),
    "embedding": Family(recognise_embedding, "[1, numbers]", "a vector", "embedding"),
    "regression": Family(recognise_regression, "[1, values]", "one or several values", "regression"),
    "anomaly": Family(
        recognise_anomaly,
        "the shape of its input",
        "a reconstruction of the input, with the same shape (autoencoders)",
        "anomaly",
    ),
}
CLASSIFIERS = ("class_number", "labels_and_scores")
"""Families of classifiers: `decoder: classification` stands for them as well."""
OF_NUMBERS = (*CLASSIFIERS, "embedding", "regression", "anomaly")
"""Families of models of readings and sound, besides classifiers."""
OF_PICTURES = tuple(name for name in FAMILIES if name != "anomaly")


def fitting(file: ModelFile, label_count: int | None = None, known: Collection[str] = OF_PICTURES) -> list[Recognition]:
    """The families that fit a file. If there is more than one, the user has to say which.

    Args:
        file: its facts.
        label_count: number of labels in the settings; None: those in the file count, if there are any.
        known: names of the families that the model's input allows.
    """
    if label_count is None and file.labels is not None:
        label_count = len(file.labels)
    found = [one for name in known if (one := FAMILIES[name].recognise(file))]
    if label_count is not None and len(found) > 1:
        found = [recognition for recognition in found if recognition.takes(label_count)] or found
    # Names and metadata in the file outweigh shapes.
    return [recognition for recognition in found if recognition.named] or found


def stated(file: ModelFile, family: str, known: Collection[str] = OF_PICTURES) -> Recognition:
    """The family that the user has set.

    Raises:
        ModelError: there is no family of this name, or the file contradicts it.
    """
    if family not in known:
        raise ModelError(f"decoder: expected one of classification, {', '.join(known)}, found {family!r}")
    recognition = FAMILIES[family].recognise(file, stated=True)
    if recognition is None:
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in file.outputs)
        raise ModelError(
            f"decoder: {family} is for models that give {FAMILIES[family].outputs}; this one gives {shapes}"
        )
    return recognition


def build(
    recognition: Recognition,
    outputs: Sequence[TensorSpec],
    labels: Sequence[str] | None,
    *,
    anchors: "NDArray[np.float32] | None" = None,
    output: Literal["probabilities", "logits", "sigmoid"] | None = None,
) -> Decoder:
    """The decoder of a recognised model.

    Args:
        recognition: of its file.
        outputs: of the engine, in its order.
        labels: one per class; that of a background class may be left out. None: numbers only.
        anchors: of `ssd_raw`, (N, 4) centre y, centre x, height, width as fractions of the input; of YOLO, (N, 2)
            width, height, in cells or pixels; if they are set.
        output: of `ssd_raw`, if it is set.

    Raises:
        ModelError: labels or anchors do not fit.
    """
    if labels and not recognition.takes(len(recognition.of_classes(tuple(labels)))):
        raise ModelError(
            f"{recognition.family}: expected {recognition.classes} labels, found {len(labels)}: state those that the "
            "model was trained with"
        )
    if recognition.background and recognition.classes is not None:
        labels = with_background(labels, recognition.classes)
    return recognition.build(Parts(outputs, labels, anchors, output))
