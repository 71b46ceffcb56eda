import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.cli import main
from edge_agent.errors import ModelError
from edge_agent.modelfile.inspect import read
from edge_agent.models.bundle import read_manifest
from edge_agent.quantization import converters, proof
from edge_agent.quantization.accuracy import Accuracy
from edge_agent.quantization.proof import split
from edge_agent.quantization.samples import GivenSample
from edge_agent.quantization.speed import Speed
from edge_agent.samples import Sample

UINT8 = "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"
FLOAT = "tinymlperf/pretrainedResnet.tflite"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def measured(before: float, after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is faster depends on the machine, and on what else it does."""
    monkeypatch.setattr(proof, "compare_speed", lambda *_: Speed(before, after, faster=after < before))


def pictures(folder: Path, count: int) -> Path:
    """Pictures of a few large blots."""
    folder.mkdir()
    generator = np.random.default_rng(3)
    for number in range(count):
        coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.resize(coarse, (40, 40), interpolation=cv2.INTER_CUBIC))
    return folder


def arguments(data_dir: Path, model: str, out: Path, *further: str) -> list[str]:
    return ["models", "quantize", str(data_dir / model), "-o", str(out), *further]


def test_a_faster_model_that_says_the_same_becomes_a_bundle_with_its_original_and_the_figures(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(2.0, 1.0, monkeypatch)
    out, samples = tmp_path / "int8", str(data_dir / "imagenet_100" / "n02[0-2]*")
    assert main(arguments(data_dir, UINT8, out, "--samples", samples)) == 0
    first, second, _, last = capsys.readouterr().out.splitlines()
    assert first.startswith("same result for ")
    assert second == "1.00 ms instead of 2.00 ms on this machine"
    assert last == f"{out}: written"
    assert read(out / "model.tflite").operators["QUANTIZE"] == 2
    quantized = read_manifest(out).quantized
    assert quantized is not None
    assert (out / quantized.original).read_bytes() == (data_dir / UINT8).read_bytes()
    assert (quantized.original_ms, quantized.ms) == (2.0, 1.0)
    assert 20 <= quantized.compared == quantized.same + quantized.tied
    picture = str(next((data_dir / "imagenet_100").glob("n02*")))
    assert main(["predict", str(out), picture]) == 0


def test_a_float_model_is_compared_on_pictures_that_it_was_not_made_with(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    measured(2.0, 1.0, monkeypatch)
    out, samples = tmp_path / "small.zip", pictures(tmp_path / "pictures", 40)
    facts = ["--labels", "none", "--normalize", "raw", "--agreement", "0.5"]
    assert main(arguments(data_dir, FLOAT, out, "--samples", str(samples), *facts, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["path"], document["compared"], document["calibrated"]) == (str(out), 20, 10)
    assert document["size"] < document["original_size"] / 2
    assert main(["predict", str(out), str(samples / "000.png")]) == 0


def test_a_model_of_readings_is_compared_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(2.0, 1.0, monkeypatch)
    generator = np.random.default_rng(5)
    weights = numpy_helper.from_array(generator.normal(size=(24, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Softmax", ["m"], ["y"], axis=1)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 24]), ("y", [1, 3]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "m.onnx")
    )
    for folder in ("walking", "running"):
        (tmp_path / "readings" / folder).mkdir(parents=True)
        rows = generator.normal(size=24 * 30).round(3)
        (tmp_path / "readings" / folder / "1.csv").write_text("\n".join(map(str, rows)) + "\n")
    given = ["--samples", str(tmp_path / "readings"), "--input", "series", "--labels", "none", "--json"]
    out = tmp_path / "int8"
    assert main(["models", "quantize", str(tmp_path / "m.onnx"), "-o", str(out), *given]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["unit"], document["compared"], document["calibrated"]) == ("samples", 30, 15)
    assert document["same"] + document["tied"] >= 29
    assert read_manifest(out).input is not None


def test_what_is_no_faster_is_not_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(1.0, 1.0, monkeypatch)
    out, samples = tmp_path / "int8", str(data_dir / "imagenet_100" / "n02[0-2]*")
    assert main(arguments(data_dir, UINT8, out, "--samples", samples, "--json")) == 1
    printed = capsys.readouterr()
    assert "nothing is written, since it is not faster" in printed.err
    document = json.loads(printed.out)
    assert (document["path"], document["original_ms"], document["ms"]) == (None, 1.0, 1.0)
    assert not out.exists()


def test_what_says_something_else_is_not_written(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = (data_dir / "classify_tflite" / "mobilenet_v1_0.5_160_quant.tflite").read_bytes()
    monkeypatch.setattr(converters, "to_int8", lambda _: other)
    measured(2.0, 1.0, monkeypatch)
    out, samples = tmp_path / "int8", str(data_dir / "imagenet_100" / "n02[0-2]*")
    assert main(arguments(data_dir, UINT8, out, "--samples", samples, "--labels", "none")) == 1
    assert "nothing is written, since its results differ" in capsys.readouterr().err
    assert not out.exists()


def labelled(folder: Path, data_dir: Path) -> Path:
    """Photographs with the numbers of their classes, in a model with a background."""
    lines = [line.split("\t") for line in (data_dir / "imagenet_100/classes.tsv").read_text().splitlines()[1:]]
    (folder / "images").mkdir()
    rows = ["file,label"]
    for number, name in lines[::4]:
        (folder / "images" / name).symlink_to(data_dir / "imagenet_100" / name)
        rows.append(f"{name},{int(number) + 1}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


def test_where_there_are_labels_both_have_to_be_as_right(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(2.0, 1.0, monkeypatch)
    out, samples = tmp_path / "int8", str(data_dir / "imagenet_100" / "n02[0-2]*")
    data = labelled(tmp_path, data_dir)
    given = ["--samples", samples, "--labels", "none", "--labelled", str(data), "--loss", "0.1"]
    assert main(arguments(data_dir, UINT8, out, *given)) == 0
    assert "on 25 labelled samples" in capsys.readouterr().out
    quantized = read_manifest(out).quantized
    assert quantized is not None
    assert quantized.accuracy is not None
    assert quantized.original_accuracy is not None
    assert 0.2 < quantized.accuracy <= 1


@pytest.mark.parametrize(
    ("value", "interval", "worse"),
    [
        (0.70, (-0.05, 0.05), False),
        (0.69, (-0.05, 0.03), False),
        (0.67, (-0.08, 0.02), True),
        (0.69, (-0.02, -0.01), True),
    ],
)
def test_int8_is_worse_by_more_than_is_accepted_or_beyond_doubt(
    value: float, interval: tuple[float, float], *, worse: bool
) -> None:
    assert Accuracy("top1", 100, 0.70, value, interval).worse(0.02) == worse


def test_wrong_arguments_are_answered_before_anything_is_done(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = str(data_dir / "images")
    for model, out, sentence in (
        (UINT8, tmp_path, f"{tmp_path}: is there already"),
        (UINT8, tmp_path / "x", "--samples: expected at least 20 samples"),
        ("sensor/none.tflite", tmp_path / "x", "there is no such file"),
        ("misc_tflite/movenet_single_pose_lightning_ptq.tflite", tmp_path / "x", "can be compared, not pose"),
        ("tinymlperf/vww_96_int8.tflite", tmp_path / "x", "stored as integers already"),
        ("tinymlperf/ad01_int8.tflite", tmp_path / "x", "can be compared, not anomaly"),
    ):
        facts = ["--labels", "none"] if "vww" in model else []
        assert main(arguments(data_dir, model, out, "--samples", few, *facts)) in (1, 2)
        assert sentence in capsys.readouterr().err


def test_no_picture_is_used_for_two_things() -> None:
    files = [GivenSample(Path(str(number)), lambda: Sample(b"", 0.0, 0.0, {})) for number in range(40)]
    calibration, choice, compared = split(files, chooses=True)
    assert {one.path for one in (*calibration, *choice, *compared)} == {one.path for one in files}
    assert len(calibration) + len(choice) + len(compared) == len(files)
    assert len(compared) == 20
    assert split(files, chooses=False) == ([], [], files)
    with pytest.raises(ModelError, match="expected at least 40 samples, found 39"):
        split(files[:39], chooses=True)
