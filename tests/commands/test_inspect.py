import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import cli
from edge_agent.commands.inspect_model import BLANK
from edge_agent.models.shipped import shipped
from tests.models.model_bytes import tflite

# What a user would fill in for what `inspect` asks for.
ANSWERS = {"labels": "none", "normalize": "unit", "output": "probabilities", "layout": "nhwc"}
PUBLIC = [
    "audio/silero_vad.onnx",
    "audio/yamnet_audio_classifier_with_metadata.tflite",
    "bad_models/model_invoking_error.tflite",
    "bad_models/person_detect_vela.tflite",
    "bad_models/sentencepiece_tokenizer_flex_op.tflite",
    "classify_onnx/mnist.onnx",
    "classify_onnx/mobilenet_v2_quant.onnx",
    "classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite",
    "classify_tflite/mobilenet_v1_0.25_224_quant.tflite",
    "classify_tflite/mobilenet_v1_0.5_160_quant.tflite",
    "classify_tflite/mobilenet_v1_0.5_160_quant_edgetpu.tflite",
    "classify_tflite/mobilenet_v2_1.0_224_quant.tflite",
    "classify_tflite/mobilenet_v2_1.0_224_quant_tflitesupport.tflite",
    "detect_onnx/ultraface_version-RFB-320.onnx",
    "detect_onnx/yolox_nano.onnx",
    "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite",
    "detect_tflite/yolov5n-int8.tflite",
    "detect_tflite/yolov8n_integer_quant.tflite",
    "lm/tiny-random-gpt2-fp32/past.onnx",
    "misc_tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "misc_tflite/movenet_single_pose_lightning_ptq.tflite",
    "text/movie_review.tflite",
    "tflm/hello_world_int8.tflite",
    "tflm/person_detect.tflite",
    "tinymlperf/ad01_int8.tflite",
    "tinymlperf/kws_ref_model.tflite",
    "tinymlperf/pretrainedResnet.tflite",
    "tinymlperf/pretrainedResnet_quant.tflite",
    "tinymlperf/vww_96_int8.tflite",
]
# Those of pictures, but for those that are compiled for hardware that is not here, or that the runtime refuses.
PICTURES = [
    name
    for name in PUBLIC
    if name.startswith(("classify_", "detect_", "misc_", "tinymlperf/pretrained", "tinymlperf/vww"))
    and "edgetpu" not in name
]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model file without its bundle, which says less of itself than is needed."""
    return Path(shutil.copy(shipped("digits") / "digits.onnx", tmp_path))


def inspect(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["inspect", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def facts(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(inspect(capsys, *arguments, "--json"))
    return document


def with_pipeline(models: str) -> str:
    """A configuration of models, and a pipeline for the first of them: without one there is nothing to check."""
    (name, *_) = yaml.safe_load(models)["models"]
    return f"{models.rstrip()}\npipelines: {{p: {{source: {{type: mqtt, topic: a}}, model: {name}}}}}\n"


def snippet(text: str) -> str:
    """The configuration at the end of what is printed for a person, its blanks filled in."""
    lines = text[text.index("models:\n") :].splitlines()
    return "".join(f"{line.replace(BLANK, ANSWERS.get(line.split(':')[0].strip(), ''))}\n" for line in lines)


def test_it_tells_a_person_what_the_file_is_and_how_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    lines = inspect(capsys, "digits").splitlines()
    rows = [line for line in lines if line[:12].strip() and not line.startswith(("In a", "models", " "))]
    assert [line.split()[0] for line in rows] == [
        *("file", "format", "description", "input", "output", "operators", "labels", "metadata", "decoder", "evidence")
    ]
    for text in (
        "format      TFLite, schema 3",
        "labels      11: 0; 1; 2; …; blank",
        "decoder     classification",
        "            layout: nhwc, from the input's shape [-1, 32, 24, 1]",
        "            output: probabilities, the last operator is SOFTMAX",
    ):
        assert text in lines
    assert lines[-5:] == ["In a configuration:", "", "models:", "  digits:", "    path: digits"]


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    document = facts(capsys, "digits")
    assert (document["engine"], document["task"], document["decoder"]) == ("tflite", *["classification"] * 2)
    assert document["path"] == str(shipped("digits") / "digits.tflite")
    assert len(document["sha256"]) == 64
    assert document["size"] == (shipped("digits") / "digits.tflite").stat().st_size
    (tensor,) = document["inputs"]
    assert (tensor["shape"], tensor["dtype"]) == ([-1, 32, 24, 1], "int8")
    assert tensor["quantization"] == {"scale": pytest.approx(1 / 255), "zero_point": -128}
    assert document["outputs"][0]["shape"] == [-1, 11]
    assert document["labels"] == [*"0123456789", "blank"]
    assert document["operators"]["CONV_2D"] > 0
    assert document["custom_operators"] == []
    assert "output: probabilities, the last operator is SOFTMAX" in document["evidence"]
    assert (document["missing"], document["problem"]) == ({}, None)
    assert document["configuration"] == {"models": {"digits": {"path": "digits"}}}


def test_what_is_missing_is_asked_for_by_its_key(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = facts(capsys, bare)
    assert (document["decoder"], document["task"], document["problem"]) == ("classification", None, None)
    assert list(document["missing"]) == ["preprocess.normalize", "labels"]
    assert document["missing"]["labels"] == (
        "the file carries no labels: state labels: FILE with 11 lines, or `labels: none` for class numbers only"
    )
    assert document["configuration"] == {
        "models": {"digits": {"path": str(bare), "preprocess": {"normalize": BLANK}, "labels": BLANK}}
    }
    text = inspect(capsys, bare)
    assert f"\nIn a configuration, with each {BLANK} filled in:\n" in text
    assert text.count(BLANK) == 3


def test_what_is_stated_is_not_asked_for(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = shipped("digits") / "labels.txt"
    document = facts(capsys, bare, "--labels", labels, "--normalize", "unit")
    assert document["missing"] == {}
    assert document["configuration"]["models"]["digits"] == {
        "path": str(bare),
        "labels": str(labels),
        "preprocess": {"normalize": "unit"},
    }


def test_the_configuration_has_absolute_paths_so_that_it_fits_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").symlink_to(shipped("digits"))
    (tmp_path / "names.txt").write_text("x\n" * 11)
    monkeypatch.chdir(tmp_path)
    found = facts(capsys, "model/digits.tflite", "--labels", "names.txt")["configuration"]["models"]["digits"]
    assert Path(found["path"]).is_absolute()
    assert Path(found["labels"]) == tmp_path / "names.txt"


def test_labels_that_do_not_fit_are_told_as_the_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("x\n" * 10)
    arguments = (shipped("digits") / "digits.tflite", "--labels", tmp_path / "names.txt")
    assert facts(capsys, *arguments)["problem"] == (
        f"labels {tmp_path}/names.txt: 10 labels for 11 classes: if class 0 is a background class, "
        "put a first line `background` into the file"
    )
    assert "decoder     none: labels " in inspect(capsys, *arguments)


def test_a_file_can_not_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hostile.tflite"
    path.write_bytes(tflite(metadata={"version\x1b[31m\nfile fake": b"1\x1b]0;title\x07"}))
    text = inspect(capsys, path)
    assert "\x1b" not in text
    assert not any(line.startswith("file fake") for line in text.splitlines())


@pytest.mark.parametrize("content", [b"", b"no model", b"TFL3", b"\x08\x07"])
def test_what_is_no_model_is_one_line_and_exit_code_2(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    assert cli.main(["inspect", str(tmp_path / "model.tflite"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", PUBLIC)
def test_any_public_model_is_described_and_says_what_it_is_or_lacks(
    name: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = facts(capsys, data_dir / name)
    text = inspect(capsys, data_dir / name)
    for tensor in document["inputs"] + document["outputs"]:
        assert tensor["name"] in text
    assert document["inputs"]
    assert document["outputs"]
    assert document["decoder"] or document["missing"] or document["problem"]
    assert text.count("\nmodels:\n") == (document["configuration"] is not None)
    assert all(len(line) < 600 for line in text.splitlines())


@pytest.mark.parametrize("name", PICTURES)
def test_check_accepts_the_configuration_that_is_printed_once_it_is_completed(
    name: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.yaml").write_text(with_pipeline(snippet(inspect(capsys, data_dir / name))))
    assert cli.main(["check", "-c", str(tmp_path / "agent.yaml")]) == 0
    assert f"{data_dir / name}: " in capsys.readouterr().out


@pytest.mark.parametrize("file", ["digits.tflite", "digits.onnx", ""])
def test_check_accepts_the_configuration_for_the_shipped_model(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.yaml").write_text(with_pipeline(snippet(inspect(capsys, shipped("digits") / file))))
    assert cli.main(["check", "-c", str(tmp_path / "agent.yaml")]) == 0


def test_check_refuses_the_configuration_while_a_blank_is_left(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = inspect(capsys, bare)
    (tmp_path / "agent.yaml").write_text(with_pipeline(text[text.index("models:\n") :]))
    assert cli.main(["check", "-c", str(tmp_path / "agent.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "models.digits.preprocess.normalize",
        "models.digits.labels",
    ]
