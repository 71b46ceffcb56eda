"""Folders as Ultralytics writes them are models as they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import settings
from edge_agent.commands import inspect_model
from edge_agent.errors import ModelError
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.system import chips
from tests.modelfile.hef_bytes import hef
from tests.modelfile.rknn_bytes import rknn

NAMES = {number: f"thing {number}" for number in range(80)}
METADATA = {"description": "Ultralytics YOLO11n", "task": "detect", "stride": 32, "imgsz": [640, 640], "names": NAMES}


def export(folder: Path, files: dict[str, bytes], **facts: Any) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "metadata.yaml").write_text(yaml.safe_dump(METADATA | facts))
    return folder


def source(path: Path, **options: Any) -> ModelSource:
    return resolve_model(settings.Model.model_validate({"path": path, **options}), Path.cwd())


def test_an_export_for_hailo_is_a_detector_with_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export(tmp_path / "best_hailo_model", {"best.hef": hef(3, "HAILO8L"), "nms_config.json": b"{}"})
    found = source(folder)
    assert (found.file.format, found.options.accelerators) == ("hef", ("hailo",))
    inspect_model.run(found, found.options, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["task"], shown["decoder"], shown["problem"]) == ("detection", "hailo_nms", None)
    assert shown["labels"] == list(NAMES.values())
    assert shown["compiled"]["chips"] == ["hailo8l", "hailo8"]


def test_an_export_for_rockchip_is_read_and_runs_on_its_chip_alone(tmp_path: Path) -> None:
    content = rknn("rk3588", (1, 3, 640, 640), (1, 84, 8400))
    folder = export(tmp_path / "yolo11n_rknn_model", {"yolo11n-rk3588.rknn": content})
    found = source(folder)
    assert (found.file.path.name, found.options.accelerators) == ("yolo11n-rk3588.rknn", ("rknn",))
    assert found.file.metadata["task"] == "detect"
    assert source(folder, accelerators=["rknn", "cpu"]).options.accelerators == ("rknn", "cpu")


def test_of_several_files_the_one_for_this_board_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"best-{chip}.rknn": rknn(chip, (1, 3, 640, 640), (1, 84, 8400)) for chip in ("rk3576", "rk3588")}
    folder = export(tmp_path / "best_rknn_model", files)
    monkeypatch.setenv(chips.VARIABLE, "rk3588")
    assert source(folder).file.path.name == "best-rk3588.rknn"
    monkeypatch.setenv(chips.VARIABLE, "")
    with pytest.raises(ModelError, match=r"found 2 \(best-rk3576\.rknn, best-rk3588\.rknn\): name one"):
        source(folder)


def test_an_export_for_the_ai_camera_is_read_once_it_is_packed(tmp_path: Path, data_dir: Path) -> None:
    made_from = (shipped("digits") / "digits.onnx").read_bytes()
    folder = export(tmp_path / "yolo11n_imx_model", {"packerOut.zip": b"PK\3\4", "yolo11n_imx.onnx": made_from})
    with pytest.raises(ModelError, match=r"`imx500-package -i packerOut\.zip -o \.`"):
        source(folder)
    shutil.copy(data_dir / "compiled" / "imx500_network_yolo11n_pp.rpk", folder / "network.rpk")
    found = source(folder)
    assert (found.file.format, found.options.accelerators) == ("rpk", ("imx500",))
    assert found.file.metadata["task"] == "detect"


@pytest.mark.parametrize(
    ("name", "files", "says"),
    [
        ("best_openvino_model", {"best.xml": b"<net/>", "best.bin": b""}, r"accelerators: \[openvino, cpu\]"),
        ("best_ncnn_model", {"model.ncnn.param": b""}, "reads NCNN: export it as ONNX or TFLite"),
        ("best_hailo_model", {}, r"expected a \.hef file in it"),
        ("something", {}, "there is no model file in it that can be run here"),
    ],
)
def test_a_folder_without_an_engine_for_it_says_what_would_help(
    name: str, files: dict[str, bytes], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says):
        source(export(tmp_path / name, files))
