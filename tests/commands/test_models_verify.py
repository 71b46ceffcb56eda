import json
import re
import shutil
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.models.shipped import BUNDLES, shipped
from tests.evaluation import data


@pytest.fixture(autouse=True)
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pulled models are, of the test's own."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def copied(folder: Path, old: str = "", new: str = "") -> Path:
    """The digit reader in that folder, with a part of its manifest replaced."""
    shutil.copytree(shipped("digits"), folder)
    manifest = folder / "model.yaml"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    return folder


def test_the_shipped_bundle_is_right_sample_by_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify", "digits"]) == 0
    printed = capsys.readouterr()
    heading, *lines, last = printed.out.splitlines()
    assert heading.startswith("digits: ")
    assert heading.endswith(" on cpu")
    assert len(lines) == 14
    assert re.fullmatch(r"  right  golden/0_printed\.png +expected 0 at least 0\.900, found 0 0\.996", lines[0])
    assert last == "digits: 14 of 14 golden samples come out right"
    assert printed.err == ""


def test_a_wrong_sample_is_shown_with_what_was_expected_and_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path / "bundle", 'label: "7"', 'label: "1"')
    assert main(["models", "verify", str(folder)]) == 1
    printed = capsys.readouterr()
    (wrong,) = [line for line in printed.out.splitlines() if line.startswith("  WRONG")]
    assert re.fullmatch(r"  WRONG  golden/7_printed\.png +expected 1 at least 0\.900, found 7 0\.9\d\d", wrong)
    assert printed.err == f"{folder}: 1 of 14 golden samples come out wrong\n"


def test_as_json_it_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(tmp_path / "bundle", 'label: "7"', 'label: "1"')
    assert main(["models", "verify", "digits", str(folder), "gone", "--json"]) == 1
    right, wrong, gone = json.loads(capsys.readouterr().out)
    assert right["bundle"] == "digits"
    assert right["accelerator"] == "cpu"
    assert right["runtime"]
    assert right["checks"][0] == {
        "input": "golden/0_printed.png",
        "expected": "0 at least 0.900",
        "found": "0 0.996",
        "right": True,
    }
    assert "error" not in right
    assert [check["right"] for check in wrong["checks"]].count(False) == 1
    assert wrong["error"] == "1 of 14 golden samples come out wrong"
    assert "there is no such file or folder" in gone["error"]


def test_a_zip_is_verified_as_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = shutil.make_archive(str(tmp_path / "digits"), "zip", shipped("digits"))
    assert main(["models", "verify", archive]) == 0
    assert capsys.readouterr().out.endswith("14 of 14 golden samples come out right\n")


def test_without_names_all_that_is_here_and_has_golden_samples_is_verified(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(models_dir / "good")
    without = copied(models_dir / "without")
    manifest = without / "model.yaml"
    manifest.write_text(manifest.read_text().partition("golden:")[0])
    (models_dir / "unfinished").mkdir()
    assert main(["models", "verify", "--json"]) == 0
    bundles = [answer["bundle"] for answer in json.loads(capsys.readouterr().out)]
    assert bundles == [*BUNDLES, str(models_dir / "good")]


def test_a_pulled_bundle_that_can_not_be_read_is_reported(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = copied(models_dir / "broken", "name: digits", "nme: digits")
    assert main(["models", "verify"]) == 1
    printed = capsys.readouterr()
    assert "digits: 14 of 14 golden samples come out right" in printed.out
    assert f"{broken}/model.yaml:1: nme: unknown key" in printed.err
    assert len(printed.err.splitlines()) == 1


def test_what_has_no_golden_samples_proves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = shutil.copy(shipped("digits/digits.tflite"), tmp_path)
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(model, folder)
    shutil.copy(shipped("digits/labels.txt"), folder)
    (folder / "model.yaml").write_text(
        "{name: d, version: 1, task: classification, files: {tflite: digits.tflite}, labels: labels.txt,"
        " preprocess: {normalize: unit}}"
    )
    assert main(["models", "verify", str(folder)]) == 1
    assert capsys.readouterr().err.startswith(f"{folder}: it has no golden samples")


def test_a_detector_is_right_within_its_tolerances(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "yolo"
    folder.mkdir()
    shutil.copy(data_dir / "detect_tflite/yolov8n_integer_quant.tflite", folder / "yolo.tflite")
    shutil.copy(data_dir / "images/bus.jpg", folder)
    (folder / "model.yaml").write_text(
        """
name: yolo
version: "1"
task: detection
files: {tflite: yolo.tflite}
golden:
  - {input: bus.jpg, label: person, confidence: 0.88, box: [230, 413, 346, 861]}
  - {input: bus.jpg, label: person, confidence: 0.88, box: [52, 396, 241, 904]}
  - {input: bus.jpg, label: person, confidence: 0.86, box: [669, 390, 803, 876]}
  - {input: bus.jpg, label: bus, confidence: 0.88, box: [26, 230, 801, 760]}
"""
    )
    assert main(["models", "verify", str(folder)]) == 0
    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace("[26, 230, 801, 760]", "[26, 230, 801, 660]"))
    assert main(["models", "verify", str(folder)]) == 1
    (wrong,) = [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert "expected bus 0.830 to 0.930 at [26, 230, 801, 660], found bus 0.881 at [26, 230, 801, 760]" in wrong


def with_data(folder: Path, least: float, wrong: int = 0) -> Path:
    """The digit reader with labelled data in its bundle, some of them labelled wrong."""
    copied(folder)
    pictures = data.digits(folder / "evaluation")
    for number, picture in enumerate(sorted(pictures.glob("[1-8]/*.png"))[:wrong]):
        picture.rename(pictures / "0" / f"{number}.png")
    for place in pictures.iterdir():
        if not any(place.iterdir()):
            place.rmdir()
    with (folder / "model.yaml").open("a") as manifest:
        manifest.write(f"evaluation: {{data: evaluation, require: {{top1: {least}}}}}\n")
    return folder


def test_labelled_data_in_a_bundle_prove_that_it_is_right_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = with_data(tmp_path / "good", 0.85, wrong=2)
    assert main(["models", "verify", str(good), "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["evaluation"] == [
        {"metric": "top1", "required": 0.85, "found": pytest.approx(12 / 14, abs=1e-4), "met": True}
    ]
    bad = with_data(tmp_path / "bad", 0.9, wrong=2)
    assert main(["models", "verify", str(bad)]) == 1
    printed = capsys.readouterr()
    assert "  WRONG  top1 0.8571, required 0.9\n" in printed.out
    assert printed.err.startswith(f"{bad}: it is not right enough here: ")


@pytest.mark.parametrize(
    ("color", "offset", "code"), [("rgb", 0, 0), ("bgr", 0, 1), ("rgb", 1, 1)], ids=["right", "colours", "labels"]
)
def test_a_bundle_with_wrong_colours_or_labels_is_refused_by_what_it_requires(
    color: str, offset: int, code: int, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    (folder / "evaluation").mkdir(parents=True)
    shutil.copy(data_dir / "classify_tflite/mobilenet_v1_0.25_224_quant.tflite", folder / "model.tflite")
    rows = [line.split("\t") for line in (data_dir / "imagenet_100/classes.tsv").read_text().splitlines()[1:25]]
    for _, name in rows:
        shutil.copy(data_dir / "imagenet_100" / name, folder / "evaluation")
    table = "".join(f"{name},{int(number) + 1}\n" for number, name in rows)
    (folder / "evaluation" / "labels.csv").write_text(f"file,label\n{table}")
    (folder / "labels.txt").write_text("".join(f"{(number + offset) % 1001}\n" for number in range(1001)))
    (folder / "model.yaml").write_text(
        "name: photos\nversion: '1'\ntask: classification\nfiles: {tflite: model.tflite}\nlabels: labels.txt\n"
        f"preprocess: {{color: {color}}}\nevaluation: {{data: evaluation, require: {{top1: 0.5}}}}\n"
    )
    assert main(["models", "verify", str(folder)]) == code


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ("{data: ../data, require: {top1: 0.5}}", "lies outside of the bundle"),
        ("{data: gone, require: {top1: 0.5}}", "No such file"),
        ("{data: golden, require: {top1: 0.5}}", "expected labelled data"),
        ("{data: evaluation, require: {ap50: 0.5}}", "there are top1"),
        ("{data: evaluation, require: {}}", "require"),
        ("{data: elsewhere.yaml, require: {top1: 0.5}}", "outside of the bundle"),
    ],
)
def test_labelled_data_that_can_not_be_used_are_refused(
    stated: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_data(tmp_path / "bundle", 0.5)
    other = data.digits(tmp_path / "other")
    (folder / "elsewhere.yaml").write_text(f"names: [a]\nval: {other}\n")
    manifest = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(f"{manifest.partition('evaluation:')[0]}evaluation: {stated}\n")
    assert main(["models", "verify", str(folder)]) == 1
    assert sentence in capsys.readouterr().err


def test_a_language_model_is_verified_on_the_requests_in_its_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime_genai")
    folder = tmp_path / "intents"
    shutil.copytree(shipped("intents"), folder)
    (folder / "requests.jsonl").write_text('{"prompt": "open the garage door", "expected": "no such answer"}\n')
    with (folder / "model.yaml").open("a") as manifest:
        manifest.write("evaluation: {data: requests.jsonl, require: {exact: 0.5}}\n")
    assert main(["models", "verify", str(folder), "--json"]) == 1
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["evaluation"] == [{"metric": "exact", "required": 0.5, "found": 0, "met": False}]
    assert all(check["right"] for check in answer["checks"])
