"""Detectors on stand-ins of chips, from the file to objects in pixels of the picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.models.model import load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.samples import Sample
from edge_agent.system import chips as machine
from tests.decoders import chips, test_yolo
from tests.decoders.chips import LABELS, SIZE, THINGS
from tests.decoders.scenes import assert_same
from tests.modelfile.hef_bytes import hef
from tests.modelfile.rknn_bytes import rknn
from tests.stand_ins import interpreter
from tests.stand_ins.control import Control

PICTURE = np.zeros((*SIZE, 3), np.uint8)


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    found = Control(tmp_path)
    for key, value in found.environment.items():
        monkeypatch.setenv(key, value)
    return found


def found_by(control: Control, name: str, content: bytes, chip: str, here: str) -> Any:
    """What the model finds in a picture, labels stated."""
    folder = control.path.parent
    (folder / name).write_bytes(content)
    (folder / "labels.txt").write_text("\n".join(LABELS))
    entry = {"chip": chip, "options": {"python": str(interpreter.make(folder / "system"))}}
    options = {"path": name, "labels": "labels.txt", "accelerators": [entry]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(machine.VARIABLE, here)
        for vendor in ("hailo_platform", "rknnlite"):
            patch.setitem(sys.modules, vendor, None)  # this interpreter can't import it
        model = load_unqualified("it", resolve_model(settings.Model.model_validate(options), folder))
        found = Predictor(model, 10, 0.25).ask(Sample(PICTURE, 0.0, 0.0, {})).predictions
        model.close()
    return found


def as_stated(outputs: Sequence[NDArray[Any]]) -> list[dict[str, Any]]:
    """What the stand-in of rknnlite gives: the numbers that are not 0."""
    return [
        {"shape": one.shape, "values": [[list(map(int, at)), float(one[tuple(at)])] for at in np.argwhere(one)]}
        for one in outputs
    ]


@pytest.mark.parametrize("sums", [True, False], ids=["nine outputs", "six outputs"])
def test_rockchip_s_exports_of_yolo_find_objects(control: Control, *, sums: bool) -> None:
    outputs = chips.maps(THINGS, channels_first=True, sums=sums)
    control.set(outputs=as_stated(outputs))
    content = rknn("rk3588", (1, 3, *SIZE), *(one.shape for one in outputs))
    found = found_by(control, "yolov8n.rknn", content, "rknn", "rk3588")
    assert_same(found, THINGS, score=1e-4, iou=0.99)


def test_ultralytics_export_for_rockchip_finds_objects_in_its_one_output(control: Control) -> None:
    cells = test_yolo.without_objectness(test_yolo.THINGS, fractions=False)[None]
    control.set(outputs=as_stated([cells]))
    content = rknn("rk3588", (1, 3, *test_yolo.SIZE), cells.shape)
    found = found_by(control, "yolo11n.rknn", content, "rknn", "rk3588")
    assert {one.class_id for one in found} == {thing.class_id for thing in test_yolo.THINGS if thing.score >= 0.25}


@pytest.mark.parametrize("by_score", [False, True], ids=["by class", "by score"])
def test_hailo_s_suppression_finds_objects(control: Control, *, by_score: bool) -> None:
    side, most = 640, 100
    values: list[float] = []
    for class_id in range(len(LABELS)):
        of_class = [chips.fractions(thing) for thing in THINGS if thing.class_id == class_id]
        values += [len(of_class), *(value for one in of_class for value in one)]
    output = {"name": "net/yolov8_nms_postprocess", "order": "HAILO_NMS_BY_CLASS", "values": values}
    output["shape"] = [len(LABELS) * (1 + 5 * most)]
    if by_score:
        content = chips.by_score(THINGS)[0]
        output |= {"order": "HAILO_NMS_BY_SCORE", "values": content.tolist(), "shape": [2 + 22 * most]}
    control.set(outputs=[output], side=side)
    found = found_by(control, "yolov8s.hef", hef(3, "HAILO8L", "detector", len(LABELS)), "hailo", "hailo8l")
    # The picture is letterboxed to the square input: its height is fractions of a longer side.
    assert [one.label for one in found] == ["dog", "bird"]
    assert found[0].box == pytest.approx([10, 12 / SIZE[0] * SIZE[1], 50, 60 / SIZE[0] * SIZE[1]], abs=0.5)
