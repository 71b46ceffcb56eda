from pathlib import Path

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.models.shipped import shipped
from tests.images import decode_image

GOLDEN = shipped("digits") / "golden"
THREE = GOLDEN / "3_seven_segment.png"


def predict(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments)])


def test_a_picture_with_its_predictions_drawn_in_is_written(data_dir: Path, tmp_path: Path) -> None:
    bus = data_dir / "images" / "bus.jpg"
    out = tmp_path / "out.jpg"
    assert predict(data_dir / "detect_tflite/yolov8n_integer_quant.tflite", bus, "--annotate", out) == 0
    before, after = decode_image(bus.read_bytes()), decode_image(out.read_bytes())
    assert after.shape == before.shape
    changed = np.abs(before.astype(int) - after).max(axis=2) > 60
    assert changed[225:780, 15:820].sum() > 2000  # the edges of the bus and of the persons before it
    assert changed[960:].sum() == 0  # below all boxes and the labels below them


def test_several_pictures_go_into_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert predict("digits", THREE, GOLDEN / "9_printed.png", "--annotate", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["3_seven_segment.jpg", "9_printed.jpg"]


def test_a_picture_that_can_not_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out.jpg"
    assert predict("digits", THREE, "--annotate", out) == 1
    assert capsys.readouterr().err.splitlines() == [f"{out}: can't be written: File exists"]
