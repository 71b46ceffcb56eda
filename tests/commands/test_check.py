import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli
from edge_agent.errors import MissingExtraError
from edge_agent.models.shipped import shipped


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called, with the shipped model's files in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "pulled"))
    for file in shipped("digits").glob("digits.*"):
        shutil.copy(file, tmp_path)
    shutil.copy(shipped("digits") / "labels.txt", tmp_path)
    (tmp_path / "frames").mkdir()
    return tmp_path


def check(text: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error."""
    Path("agent.yaml").write_text(text)
    code = cli.main(["check", "-c", "agent.yaml", *options])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


CONFIGURATION = """\
device_id: porch-pi
mqtt: {url: 'mqtts://broker.lan', topic_prefix: home}
models:
  tflite: {path: digits.tflite, labels: labels.txt, preprocess: {normalize: unit}}
  onnx: {path: digits.onnx, labels: labels.txt, preprocess: {normalize: unit}, accelerators: [edgetpu, cpu]}
  shipped: {path: digits}
pipelines:
  meter:
    source: {type: images, path: frames}
    model: tflite
    regions: {a: [0, 0, 0.5, 1], b: [0.5, 0, 1, 1]}
  lab: {source: {type: mqtt, topic: lab/images}, model: shipped}
"""


def test_it_prints_what_would_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(CONFIGURATION, capsys)
    assert (code, err) == (3, [])  # onnx falls back
    first, *lines = out.splitlines()
    assert first == "agent.yaml is valid: device porch-pi, broker mqtts://broker.lan"
    assert "  meter: images -> tflite -> home/porch-pi/meter/result" in lines
    assert "  lab: mqtt -> shipped -> home/porch-pi/lab/result" in lines
    (tflite,) = [line for line in lines if line.startswith("  model tflite: digits.tflite: ")]
    assert tflite.endswith(" on cpu, classification")


def test_a_fallback_is_told_with_its_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = check(CONFIGURATION, capsys)
    assert "    falls back to cpu, since edgetpu: " in out


def test_as_json_it_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(CONFIGURATION, capsys, "--json")
    plan: dict[str, Any] = json.loads(out)
    assert (code, err) == (3, [])
    assert (plan["device_id"], plan["broker"]) == ("porch-pi", "mqtts://broker.lan")
    assert plan["pipelines"][0] == {
        "name": "meter",
        "source": "images",
        "model": "tflite",
        "topic": "home/porch-pi/meter/result",
    }
    assert {model["name"]: model["accelerator"] for model in plan["models"]} == {
        "tflite": "cpu",
        "onnx": "cpu",
        "shipped": "cpu",
    }


@pytest.mark.parametrize("text", ["", "device_id: porch\n", "models: {m: {path: digits}}\n"])
def test_a_configuration_without_pipelines_is_refused_as_by_run(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = "agent.yaml:1: pipelines: none are configured, so there is nothing to run"
    assert check(text, capsys) == (2, "", [problem])
    assert cli.main(["run", "-c", "agent.yaml"]) == 2
    assert capsys.readouterr() == ("", f"{problem}\n")


def test_it_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("agent.yaml").write_text(CONFIGURATION)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    check(CONFIGURATION, capsys)
    before.pop(folder / "agent.yaml")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "agent.yaml"} == before


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("{path: gone.tflite}", "no such file"),
        ("{path: digitz}", "'digits'"),
        ("{path: mobilenet-v2}", "`edge-agent models pull mobilenet-v2`"),
        ("{path: frames}", "model.yaml"),
        ("{path: labels.txt}", "begins with '0'"),
        ("{path: cut.tflite, labels: none}", "damaged"),
        ("{path: cut.onnx, labels: none}", "damaged"),
        ("{path: empty.tflite}", "empty"),
        ("{path: labels.txt/digits.tflite}", "Not a directory"),
        ("{path: ~nobody/digits.tflite}", "no such file"),
        ('{path: "a\\0b"}', "embedded null byte"),
        (f"{{path: {'x' * 5000}}}", "File name too long"),
        ("{path: bare/digits.tflite}", "labels: FILE with 11 lines"),
        ("{path: digits.onnx, labels: none}", "preprocess.normalize"),
        ("{path: digits.tflite, labels: few.txt}", "labels few.txt: 10 labels for 11 classes: "),
        ("{path: digits.tflite, labels: many.txt}", "labels many.txt: 12 labels for 11 classes: "),
        ("{path: digits.tflite, labels: empty.tflite}", "labels empty.tflite: 0 labels for 11 classes"),
        ("{path: digits.tflite, labels: digits.tflite}", "labels digits.tflite: not text in UTF-8"),
        ("{path: digits.tflite, labels: none, preprocess: {color: bgr}}", "preprocess.color: bgr"),
        ("{path: digits.tflite, labels: none, accelerators: [edgetpu]}", "edgetpu: "),
        ("{path: digits.onnx, labels: none, accelerators: [edgetpu], preprocess: {normalize: unit}}",
         ".onnx files can be run on cpu, openvino, cuda, "),
    ],
)  # fmt: skip
def test_a_model_that_can_not_be_used_is_told_with_the_line_of_its_name(
    model: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("digits.tflite", "digits.onnx"):
        content = Path(name).read_bytes()
        Path(name.replace("digits", "cut")).write_bytes(content[: len(content) // 2])
    Path("bare").mkdir()
    shutil.copy("digits.tflite", "bare")  # no labels.txt beside it
    labels = Path("labels.txt").read_text().splitlines(keepends=True)
    Path("few.txt").write_text("".join(labels[:-1]))
    Path("many.txt").write_text("".join([*labels, "one more\n"]))
    Path("empty.tflite").touch()
    code, out, err = check(f"device_id: porch\nmodels:\n  m: {model}\n", capsys, "--json")
    assert (code, out) == (2, "")
    (line,) = err
    assert line.startswith("agent.yaml:3: models.m: ")
    assert says in line


def test_every_model_that_can_not_be_used_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = check("models:\n  a: {path: x}\n  b: {path: digits}\n  c: {path: y}\n", capsys)
    assert code == 2
    assert [line.split(": ")[:2] for line in err] == [["agent.yaml:2", "models.a"], ["agent.yaml:4", "models.c"]]


@pytest.mark.parametrize("path", ["digits.tflite", "digits.onnx"])
def test_an_unknown_accelerator_is_refused_alike_for_every_engine(
    path: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"{{path: {path}, labels: none, preprocess: {{normalize: unit}}, accelerators: [cpu, tpu]}}"
    code, _, err = check(f"models:\n  m: {model}\n", capsys)
    known = "cpu, edgetpu, ethosu, gpu, npu, hailo, rknn, imx500, openvino, "
    (line,) = err
    assert code == 2
    assert line.startswith(f"agent.yaml:2: models.m.accelerators.1: must be {known}")
    assert line.endswith("(got tpu)")


@pytest.mark.parametrize("entry", ["xnnpack", "{delegate: xnnpack, options: {flags: 3}}"])
def test_xnnpack_is_refused_with_what_to_write_instead(
    entry: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = check(f"models:\n  m: {{path: digits, accelerators: [{entry}, cpu]}}\n", capsys)
    sentence = "xnnpack is no longer an accelerator: use cpu, which runs .tflite models on XNNPACK"
    assert (code, err) == (2, [f"agent.yaml:2: models.m.accelerators: {sentence}"])


def test_a_public_model_falls_back_from_the_edge_tpu_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str], data_dir: Path
) -> None:
    path = data_dir / "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"
    models = f"models: {{m: {{path: '{path}', accelerators: [edgetpu, cpu]}}}}\n"
    code, out, err = check(models + "pipelines: {p: {model: m, source: {type: mqtt, topic: in}}}\n", capsys)
    assert (code, err) == (3, [])
    assert "    falls back to cpu, since edgetpu: its library can't be loaded: libedgetpu.so.1: " in out


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "classify_tflite/mobilenet_v1_0.5_160_quant_edgetpu.tflite",
            "quant_edgetpu.tflite: it is compiled for the Edge TPU: run it there",
        ),
        (
            "bad_models/person_detect_vela.tflite",
            "person_detect_vela.tflite: it is compiled for the Ethos-U: run it there",
        ),
        ("bad_models/model_invoking_error.tflite", "what its outputs mean is not known"),
        ("tflm/person_detect.tflite", "refuses the model: quantized_dimension must be in range [0, 1)."),
    ],
)
def test_a_public_model_that_no_runtime_here_can_run_is_refused_with_the_reason(
    path: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str], data_dir: Path
) -> None:
    code, _, err = check(f"models: {{m: {{path: '{data_dir / path}', labels: none}}}}\n", capsys)
    assert code == 2
    (line,) = err
    assert line.startswith(f"agent.yaml:1: models.m: {data_dir / path}: ")
    assert says in line
    assert len(line) < 700


def test_programs_and_packages_that_sources_need_are_looked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {
        "a": "{type: command, argv: [no-such-program, --password, hidden], format: mjpeg}",
        "b": "{type: command, argv: [./sensor.sh], format: jsonl}",
        "c": "{type: command, argv: [cat, readings], format: jsonl}",
        "d": "{type: microphone}",
        "e": "{type: serial, port: /dev/ttyUSB0, format: csv}",
        "f": "{type: command, argv: [./gone.sh], format: jsonl}",
    }
    (folder / "sensor.sh").write_text("#!/bin/sh\n")
    (folder / "sensor.sh").chmod(0o755)
    (folder / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setitem(sys.modules, "serial", None)
    pipelines = "".join(f"  {name}: {{model: m, source: {source}}}\n" for name, source in sources.items())
    code, out, err = check(f"models: {{m: {{path: digits}}}}\npipelines:\n{pipelines}", capsys)
    missing_extra = MissingExtraError("reading a serial port", "serial")
    assert (code, out) == (2, "")
    assert err == [
        "agent.yaml:3: pipelines.a.source.argv: there is no program no-such-program: install it, or give its path",
        "agent.yaml:6: pipelines.d.source: the program arecord is missing: apt-get install alsa-utils",
        f"agent.yaml:7: pipelines.e.source: {missing_extra}",
        "agent.yaml:8: pipelines.f.source.argv: there is no program ./gone.sh: install it, or give its path",
    ]


def test_packages_that_monitoring_lacks_are_named_and_a_token_is_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "metrics: {}\nhttp: {token_file: token}\n"
    (folder / "token").write_text("short")
    code, _, problems = check(text, capsys)
    assert (code, problems) == (2, ["http.token_file: the token must have at least 16 characters (got 5)"])
    (folder / "token").write_text("correct horse battery")
    for package in "prometheus_client", "waitress":
        monkeypatch.setitem(sys.modules, package, None)
    code, _, problems = check(text, capsys)
    assert code == 2
    assert problems == [
        f"agent.yaml:1: metrics: {MissingExtraError('serving metrics', 'metrics')}",
        f"agent.yaml:2: http: {MissingExtraError('serving http', 'http')}",
    ]
