"""Real models of faces, hands and poses, as somebody tries them: the file, a picture, and what one message advises."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models.io_spec import UnclearError, derive
from edge_agent.models.model import load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.opencv import cv2
from edge_agent.samples import Prediction

GRACE = "grace_hopper.bmp"
# Eyes, nose, corners of the mouth, as seen by a person; the right eye is left in the picture.
GRACES_FACE = ((226, 194), (305, 190), (266, 240), (233, 277), (301, 272))


@dataclass(frozen=True)
class Known:
    """What is known of a model: what has to be stated, and what it then sees."""

    family: str
    confidence: float
    advice: str = ""
    stated: dict[str, Any] = field(default_factory=dict)


FACES = {
    "yunet2026.onnx": Known("yunet", 0.93, "state preprocess.size:", {"preprocess": {"size": "320x320"}}),
    "scrfd_500m.onnx": Known("scrfd", 0.8),
    "retinaface_m025.onnx": Known("retinaface", 1.0),
    "yolov5face_tfl.tflite": Known(
        "yolov5_face", 0.88, "state decoder: yolov5_face or yolov5", {"decoder": "yolov5_face"}
    ),
}


@cache
def predictor(path: Path, stated: str = "{}") -> Predictor:
    """Of a model, with what is stated of it as JSON."""
    options = settings.Model.model_validate({"path": path} | json.loads(stated))
    return Predictor(load_unqualified("tried", resolve_model(options, path.parent)), None, None)


def seen(data_dir: Path, name: str, image: str, **stated: Any) -> list[Prediction]:
    """What `predict` shows."""
    model = predictor(data_dir / "met_in_the_wild" / name, json.dumps(stated))
    return model.ask(read_file(data_dir / "images" / image)).predictions


@pytest.mark.parametrize("name", FACES)
def test_what_is_missing_is_one_thing_and_the_message_says_how_to_state_it(data_dir: Path, name: str) -> None:
    known, path = FACES[name], data_dir / "met_in_the_wild" / name
    source = resolve_model(settings.Model(path=path), path.parent)
    if known.advice:
        with pytest.raises(UnclearError, match=known.advice) as caught:
            derive(source.file, source.stated)
        assert len(caught.value.missing) == 1
    else:
        assert derive(source.file, source.stated).family == known.family


@pytest.mark.parametrize("name", FACES)
def test_the_face_of_grace_hopper_is_found_with_its_points(data_dir: Path, name: str) -> None:
    known = FACES[name]
    best = seen(data_dir, name, GRACE, **known.stated)[0]
    assert best.label == "face"
    assert best.confidence == pytest.approx(known.confidence, abs=0.05)
    assert best.box == pytest.approx((178, 118, 356, 334), abs=14)
    assert best.keypoints is not None
    assert np.abs(np.subtract(best.keypoints, GRACES_FACE)).max() < 12


@pytest.mark.parametrize("name", [*FACES, "openmv_blazeface.tflite"])
def test_faces_in_a_group_are_told_apart(data_dir: Path, name: str) -> None:
    stated = FACES[name].stated if name in FACES else {}
    found = [one for one in seen(data_dir, name, "face.jpg", **stated) if (one.confidence or 0) > 0.5]
    assert len(found) == (2 if name == "openmv_blazeface.tflite" else 4), "BlazeFace is for faces near the camera"


def test_blazeface_knows_from_its_file_that_it_takes_pixels_from_0(data_dir: Path) -> None:
    path = data_dir / "met_in_the_wild" / "openmv_blazeface.tflite"
    source = resolve_model(settings.Model(path=path), path.parent)
    evidence = derive(source.file, source.stated).evidence
    assert "normalize: mean 0, std 255, its first operator quantises exactly that range" in evidence
    (best,) = seen(data_dir, path.name, GRACE)
    assert best.confidence == pytest.approx(0.9, abs=0.06)
    assert best.keypoints is not None
    assert len(best.keypoints) == 6
    assert best.keypoints[0] == pytest.approx((216, 193), abs=12)


def test_a_palm_is_found_and_in_its_crop_a_hand(data_dir: Path, tmp_path: Path) -> None:
    palm = seen(data_dir, "openmv_palm.tflite", "squat.bmp")[0]
    assert palm.label == "palm"
    assert (palm.confidence or 0) > 0.8
    assert palm.box == pytest.approx((315, 222, 349, 252), abs=8)
    assert palm.keypoints is not None
    assert len(palm.keypoints) == 7
    picture = cv2.imread(str(data_dir / "images" / "squat.bmp"))
    assert picture is not None
    x1, y1, x2, y2 = map(int, palm.box or ())
    wide, high = x2 - x1, y2 - y1  # margin: 1
    crop = tmp_path / "hand.png"
    cv2.imwrite(str(crop), picture[y1 - high : y2 + high, x1 - wide : x2 + wide])
    hand = predictor(data_dir / "met_in_the_wild" / "openmv_hand.tflite").ask(read_file(crop)).predictions
    assert [one.label for one in hand] == ["right hand"]
    assert hand[0].keypoints is not None
    assert len(hand[0].keypoints) == 21
    wrist, middle_finger = np.array(hand[0].keypoints)[[0, 12]] + (x1 - wide, y1 - high)
    assert np.abs(wrist - palm.keypoints[0]).max() < 20
    assert wrist[1] > middle_finger[1] + 15


def test_a_picture_without_a_hand_has_none(data_dir: Path) -> None:
    assert seen(data_dir, "openmv_hand.tflite", "bus.jpg") == []


def test_movenet_as_heat_maps_finds_nose_and_eyes(data_dir: Path) -> None:
    (person,) = seen(data_dir, "openmv_movenet192.tflite", "squat.bmp")
    assert person.keypoints is not None
    # As in the reference of the model without heat maps; a cell is 13 pixels high.
    assert np.array(person.keypoints)[0, :2] == pytest.approx((0.589 * 500, 0.332 * 610), abs=13)
    assert person.keypoints[0][2] == pytest.approx(0.77, abs=0.08)
    assert (person.confidence or 0) > 0.65


def test_a_classifier_of_scikit_learn_knows_its_iris(data_dir: Path, tmp_path: Path) -> None:
    iris = tmp_path / "iris.csv"
    iris.write_text("5.1, 3.5, 1.4, 0.2")
    path = data_dir / "met_in_the_wild" / "sk_logreg_iris.onnx"
    plain = predictor(path).ask(read_file(iris)).predictions
    assert [one.label for one in plain] == ["0", "1", "2"]
    (tmp_path / "iris.txt").write_text("setosa\nversicolor\nvirginica\n")
    named = predictor(path, json.dumps({"labels": str(tmp_path / "iris.txt")})).ask(read_file(iris)).predictions
    assert named[0].label == "setosa"
    assert named[0].confidence == plain[0].confidence == pytest.approx(0.98, abs=0.01)


def test_the_class_that_a_model_chooses_is_no_value(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "met_in_the_wild" / "pinto_keypoint_onnx.onnx"
    source = resolve_model(settings.Model(path=path), path.parent)
    with pytest.raises(UnclearError, match="the file carries no labels: state labels: FILE"):
        derive(source.file, source.stated)
    sample = tmp_path / "hand.csv"
    sample.write_text(",".join(["0"] * 42))
    (found,) = predictor(path, '{"labels": "none"}').ask(read_file(sample)).predictions
    assert found.class_id is not None
    assert found.value is None


def test_sts_ssd_sees_the_persons(data_dir: Path) -> None:
    found = seen(data_dir, "stm_ssd_fpnlite.tflite", "bus.jpg", labels="none")
    assert [one.class_id for one in found] == [1, 1, 1]
    assert found[0].confidence == pytest.approx(0.988, abs=0.01)
    assert found[0].box == pytest.approx((32, 410, 230, 891), abs=20)


def test_yolov2_says_for_which_map_its_anchors_are(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "met_in_the_wild" / "stm_yolo_lc_256.tflite"
    source = resolve_model(settings.Model(path=path), path.parent)
    with pytest.raises(UnclearError, match=r"5 anchors .* in cells of the 16 x 16 map"):
        derive(source.file, source.stated)
    (tmp_path / "anchors.txt").write_text("1.22 4.14\n2.61 6.62\n3.76 11.24\n6.83 11.45\n11.97 13.71\n")
    found = seen(data_dir, path.name, "bus.jpg", labels="none", anchors=str(tmp_path / "anchors.txt"))
    assert found[0].confidence == pytest.approx(0.998, abs=0.01)
    x1, _, x2, _ = found[0].box or (0, 0, 0, 0)
    assert (x1 + x2) / 2 == pytest.approx(130, abs=20)


def test_one_score_with_two_labels_is_that_of_the_second(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    stated = {"labels": str(tmp_path / "labels.txt"), "preprocess": {"normalize": "unit"}}
    found = seen(data_dir, "catsdogs_keras.tflite", "cat.bmp", **stated)
    assert [one.label for one in found] == ["cat", "dog"]
    assert found[0].confidence == pytest.approx(0.95, abs=0.02)


def test_osnet_gives_a_vector_once_that_is_stated(data_dir: Path) -> None:
    stated = {"decoder": "embedding", "preprocess": {"normalize": "imagenet"}}
    (found,) = seen(data_dir, "osnet.onnx", "bus.jpg", **stated)
    assert len(found.vector or ()) == 512


def test_deim_is_told_the_size_of_its_input(data_dir: Path) -> None:
    labels = data_dir / "labels" / "coco80_names.txt"
    found = seen(data_dir, "deimv2_atto_int8.onnx", "bus.jpg", labels=str(labels))
    people = [one for one in found if one.label == "person"]
    assert people[0].confidence == pytest.approx(0.6, abs=0.06)
    assert any(one.box == pytest.approx((220, 405, 345, 862), abs=25) for one in people)


# PaddleOCR's en_dict.txt.
ENGLISH = [*map(chr, range(48, 127)), *map(chr, range(33, 48)), " "]


def test_text_is_found_and_in_its_crop_read(data_dir: Path, tmp_path: Path) -> None:
    line = cv2.imread(str(data_dir / "met_in_the_wild" / "hello_4711.png"))
    assert line is not None
    page = np.full((480, 640, 3), 90, np.uint8)
    page[200 : 200 + line.shape[0], 150 : 150 + line.shape[1]] = line
    cv2.imwrite(str(tmp_path / "page.png"), page)
    stated = {"preprocess": {"size": "640x640"}}
    finder = predictor(data_dir / "met_in_the_wild" / "ppocr_det.onnx", json.dumps(stated))
    (text,) = finder.ask(read_file(tmp_path / "page.png")).predictions
    assert text.box == pytest.approx((157, 205, 283, 228), abs=4)
    x1, y1, x2, y2 = map(int, text.box or ())
    cv2.imwrite(str(tmp_path / "crop.png"), page[y1:y2, x1:x2])
    (tmp_path / "dict.txt").write_text("\n".join(ENGLISH) + "\n")
    path = data_dir / "met_in_the_wild" / "ppocr_rec.onnx"
    source = resolve_model(settings.Model(path=path), path.parent)
    with pytest.raises(
        UnclearError, match=r"such as 320x32, .*state labels: FILE, one character a line .* for 97 classes"
    ):
        derive(source.file, source.stated)
    known = {"labels": str(tmp_path / "dict.txt"), "preprocess": {"size": "320x32"}}
    (read,) = predictor(path, json.dumps(known)).ask(read_file(tmp_path / "crop.png")).predictions
    assert read.label == "hello 4711"
    assert (read.confidence or 0) > 0.9


def test_a_list_of_characters_is_found_beside_the_model(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.onnx"
    path.write_bytes((data_dir / "met_in_the_wild" / "ppocr_rec.onnx").read_bytes())
    (tmp_path / "en_dict.txt").write_text("\n".join(ENGLISH) + "\n")
    stated = json.dumps({"preprocess": {"size": "320x32"}})
    (read,) = predictor(path, stated).ask(read_file(data_dir / "met_in_the_wild" / "hello_4711.png")).predictions
    assert read.label == "hello 4711"


def test_lprnet_knows_its_characters(data_dir: Path) -> None:
    path = data_dir / "met_in_the_wild" / "lprnet.onnx"
    source = resolve_model(settings.Model(path=path), path.parent)
    spec = derive(source.file, source.stated)
    assert (spec.family, len(spec.labels or ())) == ("ctc", 68)
    assert all(one.label for one in predictor(path).ask(read_file(data_dir / "images" / "bus.jpg")).predictions)


def test_nanodet_of_six_maps_sees_the_bus(data_dir: Path) -> None:
    labels = data_dir / "labels" / "coco80_names.txt"
    found = seen(data_dir, "nanodet_m_320_k.onnx", "bus.jpg", labels=str(labels))
    assert [one.label for one in found[:2]] == ["bus", "person"]
    assert [one.confidence for one in found[:2]] == pytest.approx([0.8, 0.72], abs=0.03)
    path = data_dir / "met_in_the_wild" / "nanodet_m_320_k.onnx"
    source = resolve_model(settings.Model(path=path), path.parent)
    with pytest.raises(ModelError, match=r"^the file carries no labels: state labels: FILE with 80 lines[^;]*$"):
        derive(source.file, source.stated)
