import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from edge_agent.cli import main
from edge_agent.models.bundle import read_manifest
from edge_agent.models.shipped import shipped

DIGITS = shipped("digits")
STATED = ["--labels", str(DIGITS / "labels.txt"), "--normalize", "unit", "--name", "meter"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bare model file."""
    return Path(shutil.copy(DIGITS / "digits.tflite", tmp_path / "bare.tflite"))


def picture(name: str) -> str:
    return str(DIGITS / "golden" / f"{name}.png")


def test_a_bundle_states_what_was_stated_and_what_was_found(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "meter"
    arguments = [
        *STATED,
        "--version",
        "1.10",
        "--licence",
        "MIT",
        "--golden",
        picture("7_printed"),
        picture("3_seven_segment"),
    ]
    assert main(["models", "bundle", str(model), *arguments, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: classification, golden samples: 2\n"
    manifest = read_manifest(out)
    assert (manifest.name, manifest.version, manifest.licence) == ("meter", "1.10", "MIT")
    assert (manifest.task, manifest.decoder) == ("classification", "classification")
    assert manifest.files == {"tflite": Path("model.tflite")}
    assert (manifest.preprocess.color, manifest.preprocess.layout) == ("gray", "nhwc")
    assert (manifest.preprocess.resize, manifest.preprocess.normalize) == ("stretch", "unit")
    assert (out / "model.tflite").read_bytes() == model.read_bytes()
    assert (out / "labels.txt").read_text().split() == (DIGITS / "labels.txt").read_text().split()
    assert [(str(line.input), line.label, line.tolerance) for line in manifest.golden] == [
        ("golden/3_seven_segment.png", "3", 0.05),
        ("golden/7_printed.png", "7", 0.05),
    ]
    assert "# output: probabilities, the last operator is SOFTMAX" in (out / "model.yaml").read_text()


def test_a_bundle_is_verified_and_used_where_it_was_made(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "meter.zip")
    main(["models", "bundle", str(model), *STATED, "--golden", picture("7_printed"), "-o", out])
    assert main(["models", "verify", out]) == 0
    capsys.readouterr()
    assert main(["predict", out, picture("7_printed"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["predictions"][0]["label"] == "7"


def test_paths_may_be_relative(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(picture("7_printed"), "seven.png")
    assert main(["models", "bundle", model.name, *STATED, "--golden", "seven.png", "-o", "meter"]) == 0
    assert main(["models", "verify", "meter"]) == 0
    assert main(["models", "bundle", model.name, *STATED, "--golden", "seven.png", "-o", "new/meter.zip"]) == 0
    assert main(["models", "verify", "new/meter.zip"]) == 0


def test_the_same_content_makes_the_same_archive(model: Path, tmp_path: Path) -> None:
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for out in archives:
        main(["models", "bundle", str(model), *STATED, "--golden", picture("7_printed"), "-o", str(out)])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        assert archive.namelist() == ["golden/7_printed.png", "labels.txt", "model.tflite", "model.yaml"]


def test_without_labels_the_bundle_says_so(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "meter"
    arguments = ["--labels", "none", "--normalize", "unit", "--name", "meter", "-o", str(out), "--json"]
    assert main(["models", "bundle", str(model), *arguments, "--golden", picture("7_printed")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(out)
    assert document["labels"] == "none"
    assert document["golden"][0]["label"] == "7"
    assert main(["models", "verify", str(out)]) == 0


def test_without_golden_samples_it_is_a_bundle_that_proves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "bundle", str(model), *STATED, "-o", str(tmp_path / "meter")]) == 0
    assert "can't be verified: --golden IMAGE… records some" in capsys.readouterr().err
    assert "golden" not in yaml.safe_load((tmp_path / "meter" / "model.yaml").read_text())


def test_what_the_file_does_not_say_is_asked_for_and_nothing_is_left_behind(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert main(["models", "bundle", str(model), "--name", "meter", "-o", str(tmp_path / "meter")]) == 2
    assert "state labels: FILE with 11 lines" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("text.png", b"no picture", "text.png: can't be a golden sample: "),
        ("gone.png", None, "gone.png: No such file or directory"),
    ],
)
def test_what_is_no_picture_makes_no_golden_sample(
    name: str,
    content: bytes | None,
    sentence: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = set(tmp_path.iterdir()) | {tmp_path / "cache"}
    arguments = [*STATED, "--golden", str(tmp_path / name), "-o", str(tmp_path / "meter")]
    assert main(["models", "bundle", str(model), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert set(tmp_path.iterdir()) <= before


def test_names_of_pictures_become_plain_and_must_differ(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Path(shutil.copy(picture("7_printed"), tmp_path / "12:30 'porch'.png"))
    out = tmp_path / "meter.zip"
    assert main(["models", "bundle", str(model), *STATED, "--golden", str(odd), "-o", str(out)]) == 0
    assert main(["models", "verify", str(out)]) == 0
    assert "golden/12-30--porch-.png" in capsys.readouterr().out
    twice = [*STATED, "--golden", str(odd), str(odd), "-o", str(tmp_path / "other")]
    assert main(["models", "bundle", str(model), *twice]) == 2
    assert "another golden sample is called 12-30--porch-.png as well" in capsys.readouterr().err


def test_what_is_there_already_is_not_overwritten(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "meter.zip"
    out.write_bytes(b"mine")
    assert main(["models", "bundle", str(model), *STATED, "-o", str(out)]) == 2
    assert capsys.readouterr().err == f"{out}: is there already: remove it, or name another place\n"
    assert out.read_bytes() == b"mine"


def test_a_place_that_can_not_be_written_to_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "bundle", str(model), *STATED, "-o", str(model / "meter")]) == 2
    assert capsys.readouterr().err == f"{model}: File exists\n"


def test_golden_samples_of_a_detector_have_boxes(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "yolo"
    model = data_dir / "detect_tflite/yolov8n_integer_quant.tflite"
    arguments = ["--name", "yolo", "--golden", str(data_dir / "images/bus.jpg"), "-o", str(out)]
    assert main(["models", "bundle", str(model), *arguments]) == 0
    manifest = read_manifest(out)
    assert (manifest.task, manifest.decoder, manifest.labels) == ("detection", "yolov8", None)
    assert sorted(line.label for line in manifest.golden) == ["bus", "person", "person", "person"]
    assert all(line.box and line.confidence and line.confidence >= 0.5 for line in manifest.golden)
    assert main(["models", "verify", str(out)]) == 0


def test_a_decoder_that_the_file_does_not_show_is_kept(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "mnist"
    model = data_dir / "classify_onnx/mnist.onnx"
    arguments = ["--decoder", "classification", "--normalize", "raw", "--labels", "none", "--name", "mnist"]
    assert main(["models", "bundle", str(model), *arguments, "-o", str(out)]) == 0
    assert read_manifest(out).decoder == "classification"
