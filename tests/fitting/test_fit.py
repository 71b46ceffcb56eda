"""Settings of public models are found from labelled pictures alone."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import onnx
import pytest

from edge_agent import settings
from edge_agent.cli import main
from edge_agent.models import model as models
from edge_agent.models.bundle import read_manifest
from edge_agent.models.predictor import Predictor
from edge_agent.preprocess.files import read_file
from edge_agent.samples import Prediction

Say = Callable[[Path], list[Prediction]]
PHOTOS = "imagenet_100"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def bare(model: Path, folder: Path) -> Path:
    """A copy of an ONNX file without anything that describes it."""
    loaded = onnx.load(str(model))
    del loaded.metadata_props[:]
    loaded.producer_name = loaded.doc_string = loaded.graph.doc_string = ""
    loaded.graph.name = "g"
    onnx.save(loaded, str(folder / "bare.onnx"))
    return folder / "bare.onnx"


def says(model: Path, **stated: object) -> Say:
    """What a model says with its right settings."""
    predictor = Predictor(models.load("right", settings.Model(path=model, **stated), Path.cwd()), None, 0.5)
    return lambda path: predictor.ask(read_file(path)).predictions


def table(file: Path, rows: Sequence[Sequence[object]], pictures: Path) -> Path:
    """A CSV file of labels, beside links to the pictures that it names."""
    corners = ["xmin", "ymin", "xmax", "ymax"] if len(rows[0]) > 2 else []
    (file.parent / "images").mkdir(exist_ok=True)
    for name in {str(row[0]) for row in rows}:
        (file.parent / "images" / name).symlink_to(pictures / name)
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["file", "label", *corners], *rows])
    return file


def photographs(data_dir: Path) -> list[tuple[str, str]]:
    """File and class number of each."""
    lines = (data_dir / PHOTOS / "classes.tsv").read_text().splitlines()[1:]
    return [(name, number) for number, _, name in (line.partition("\t") for line in lines)]


def fitted(model: Path, data: Path, *further: str) -> settings.Preprocess:
    assert main(["models", "fit", str(model), str(data), "--out", "fitted", *further]) == 0
    return read_manifest(Path("fitted")).preprocess


def test_twenty_labelled_photographs_do_for_an_imagenet_classifier(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bare(data_dir / "classify_onnx/mobilenet_v2_quant.onnx", tmp_path)
    data = table(tmp_path / "data.csv", photographs(data_dir)[::5], data_dir / PHOTOS)
    found = fitted(model, data)
    assert (found.normalize, found.color, found.resize, found.crop) == ("imagenet", "rgb", "center_crop", 0.875)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["COMBINATION", "RIGHT", "95", "%", "PICTURES"]
    assert lines[1].startswith("normalize imagenet, color rgb")
    assert main(["predict", "fitted", str(data_dir / "images/cat.bmp")]) == 0


def test_a_face_detector_s_settings_are_found(data_dir: Path, tmp_path: Path) -> None:
    original, pictures = data_dir / "detect_onnx/ultraface_version-RFB-320.onnx", data_dir / PHOTOS
    ask = says(original)
    faces = ((path.name, [one.box for one in ask(path) if one.box]) for path in sorted(pictures.glob("*.JPEG")))
    seen = islice(((name, boxes) for name, boxes in faces if boxes), 25)
    rows = [[name, "face", *box] for name, boxes in seen for box in boxes]
    found = fitted(bare(original, tmp_path), table(tmp_path / "data.csv", rows, pictures))
    assert (found.color, found.resize, found.normalize) == ("rgb", "stretch", None)


@pytest.mark.faults
def test_a_detector_s_colours_and_padding_are_found(data_dir: Path, tmp_path: Path) -> None:
    original, pictures = data_dir / "detect_onnx/yolox_nano.onnx", data_dir / PHOTOS
    labels = data_dir / "labels/coco80_names.txt"
    ask = says(original, labels=labels)
    objects = ((path.name, ask(path)) for path in sorted(pictures.glob("*.JPEG")))
    seen = islice(((name, found) for name, found in objects if found), 50)
    rows = [[name, one.label, *(one.box or ())] for name, found in seen for one in found]
    data = table(tmp_path / "data.csv", rows, pictures)
    found = fitted(bare(original, tmp_path), data, "--labels", str(labels))
    assert (found.color, found.resize, found.normalize) == ("bgr", "letterbox", None)


def test_the_range_of_values_of_a_small_classifier_is_found(data_dir: Path, tmp_path: Path) -> None:
    model, pictures = data_dir / "tinymlperf/pretrainedResnet.tflite", data_dir / PHOTOS
    ask = says(model, labels=Path("none"), preprocess=settings.Preprocess(normalize="raw"))
    said = ((path.name, ask(path)) for path in sorted(pictures.glob("*.JPEG")))
    rows = list(islice(([name, found[0].class_id] for name, found in said if found), 40))
    found = fitted(model, table(tmp_path / "data.csv", rows, pictures))
    assert (found.normalize, found.color, found.resize) == ("raw", "rgb", "stretch")


def test_a_model_of_readings_is_refused_with_what_to_do(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = data_dir / "audio/yamnet_audio_classifier_with_metadata.tflite", tmp_path / "data"
    (data / "speech").mkdir(parents=True)
    shutil.copy(data_dir / "wav/speech.wav", data / "speech")
    assert "state `input`" in refused(model, data, capsys)


def refused(model: Path, data: Path, capsys: pytest.CaptureFixture[str], *further: str) -> str:
    assert main(["models", "fit", str(model), str(data), "--out", "fitted", *further]) in (1, 2)
    assert not Path("fitted").exists()
    return capsys.readouterr().err


def test_ten_pictures_of_one_class_decide_nothing(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = data_dir / "classify_onnx/mobilenet_v2_quant.onnx"
    one = [(name, "281") for name, _ in photographs(data_dir)]
    data = table(tmp_path / "data.csv", one[:10], data_dir / PHOTOS)
    assert "expected at least 12 pictures, found 10" in refused(model, data, capsys)
    shutil.rmtree(tmp_path / "images")
    data = table(tmp_path / "data.csv", one[:30], data_dir / PHOTOS)
    assert "30 of 30 pictures are of one class, 281" in refused(model, data, capsys)


def test_what_can_t_be_told_apart_is_named_with_how_many_pictures_would_do(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = data_dir / "classify_onnx/mobilenet_v2_quant.onnx"
    data = table(tmp_path / "data.csv", photographs(data_dir)[2:14], data_dir / PHOTOS)
    printed = refused(model, data, capsys, "--color", "rgb", "--resize", "stretch")
    assert "can't be distinguished on 12 pictures" in printed
    assert "would do" in printed


def test_wrong_labels_fit_no_combination(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, numbers = zip(*photographs(data_dir)[::7], strict=True)
    data = table(tmp_path / "data.csv", list(zip(names, numbers[::-1], strict=True)), data_dir / PHOTOS)
    model = data_dir / "classify_onnx/mobilenet_v2_quant.onnx"
    printed = refused(model, data, capsys, "--color", "rgb", "--resize", "stretch")
    assert "no combination is right" in printed


def test_without_labels_combinations_are_ranked_and_none_is_chosen(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, _ in photographs(data_dir)[::12]:
        (folder / name).symlink_to(data_dir / PHOTOS / name)
    model = data_dir / "classify_onnx/mobilenet_v2_quant.onnx"
    given = ["--color", "rgb", "--resize", "center_crop", "--json"]
    assert main(["models", "fit", str(model), str(folder), "--out", "fitted", *given]) == 1
    printed = capsys.readouterr()
    ranking = [one["choice"] for one in json.loads(printed.out)["ranking"]]
    assert ranking.index("normalize imagenet") < ranking.index("normalize raw")
    assert "the pictures have no labels" in printed.err
    assert not Path("fitted").exists()


def test_data_of_another_kind_is_refused(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path / "data.csv", photographs(data_dir)[:14], data_dir / PHOTOS)
    detector = data_dir / "detect_onnx/ultraface_version-RFB-320.onnx"
    assert "expected pictures with objects, for detection, found labels" in refused(detector, data, capsys)
    pose = data_dir / "misc_tflite/movenet_single_pose_lightning_ptq.tflite"
    assert "only models that classify or detect" in refused(pose, data, capsys)
