import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.images import decode_image

GOLDEN = shipped("digits") / "golden"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called; no model has been pulled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "pulled"))
    return tmp_path


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error."""
    code = cli.main(["predict", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def documents(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    code, out, err = predict(capsys, *arguments, "--json")
    assert (code, err) == (0, [])
    found: list[dict[str, Any]] = json.loads(out)
    return found


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(100)


def test_the_shipped_model_reads_its_golden_samples(capsys: pytest.CaptureFixture[str]) -> None:
    samples = sorted(GOLDEN.glob("*.png"))
    read = documents(capsys, "digits", *samples)
    assert [document["predictions"][0]["label"] for document in read] == [
        path.name.partition("_")[0] for path in samples
    ]
    assert [document["input"]["path"] for document in read] == [str(path) for path in samples]


def test_a_document_is_a_result_as_the_daemon_publishes_it(capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = documents(capsys, "digits", GOLDEN / "7_printed.png", "--top-k", "2")
    assert set(document) == {
        *("device_id", "pipeline", "boot_id", "seq", "captured_at", "clock_synced", "replayed"),
        *("model", "task", "predictions", "input", "timing_ms"),
    }
    assert (document["model"]["name"], document["model"]["version"], document["seq"]) == ("digits", "1", 1)
    assert document["task"] == "classification"
    assert [prediction["class_id"] for prediction in document["predictions"]][:1] == [7]
    assert len(document["predictions"]) == 2
    assert {"width", "height", "path"} <= set(document["input"])
    assert set(document["timing_ms"]) >= {"queue", "preprocess", "inference", "postprocess", "total"}


def test_for_a_person_it_prints_the_file_and_a_line_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    image = GOLDEN / "7_printed.png"
    code, out, err = predict(capsys, "digits", image, "--top-k", "1")
    assert (code, err) == (0, [])
    first, second = out.splitlines()
    assert first == str(image)
    assert second.strip().split() == [second.split()[0], "7"]
    assert second.split()[0].endswith("%")


def test_what_is_below_min_confidence_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = documents(capsys, "digits", GOLDEN / "7_printed.png", "--min-confidence", "0.5")
    assert [prediction["label"] for prediction in document["predictions"]] == ["7"]
    cv2.imwrite("grey.png", np.full((32, 24), 128, np.uint8))
    code, out, _ = predict(capsys, "digits", "grey.png", "--min-confidence", "1")
    assert (code, out) == (0, "grey.png\n  nothing\n")


def test_without_labels_classes_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    blank = GOLDEN / "blank_printed.png"
    (document,) = documents(capsys, "digits", blank, "--labels", "none", "--top-k", "1")
    assert document["predictions"][0]["label"] == "10"


def test_model_labels_and_inputs_may_be_relative_paths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model").symlink_to(shipped("digits"))
    (folder / "names.txt").write_text("".join(f"digit {n}\n" for n in range(11)))
    (folder / "7.png").symlink_to(GOLDEN / "7_printed.png")
    for model in ("model", "./model/", "model/digits.tflite"):
        arguments = (model, "7.png", "--labels", "names.txt", "--normalize", "unit")
        (document,) = documents(capsys, *arguments)
        assert document["predictions"][0]["label"] == "digit 7"
        assert document["model"]["name"] == ("digits" if model.endswith(".tflite") else "model")
        assert document["input"]["path"] == "7.png"


def bad_inputs(folder: Path) -> dict[str, str]:
    """Inputs that can't be used, and what is said of each."""
    good = (GOLDEN / "7_printed.png").read_bytes()
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "huge.png").write_bytes(png_header(50_000, 50_000))
    (folder / "gif.gif").write_bytes(b"GIF89a" + bytes(100))
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(300_000_000)
    return {
        "gone.jpg": "gone.jpg: can't be read: No such file or directory",
        "empty.jpg": "the image is empty: 0 bytes",
        "text.jpg": "not a JPEG, PNG, BMP or WebP image",
        "cut.png": "is cut off or damaged",
        "cut.jpg": "is cut off or damaged",
        "huge.png": "50000 x 50000 pixels: at most 50 megapixels are decoded",
        "gif.gif": "not a JPEG, PNG, BMP or WebP image",
        "large.jpg": "large.jpg: larger than 200000000 bytes",
    }


def test_inputs_that_can_not_be_used_stand_in_their_place_with_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bad_inputs(folder)
    inputs = [path for name in bad for path in (name, str(GOLDEN / "7_printed.png"))]
    code, out, err = predict(capsys, "digits", *inputs, "--json")
    assert (code, err) == (1, [])
    found = json.loads(out)
    assert [document["input"]["path"] for document in found] == inputs
    for document in found[::2]:
        assert "predictions" not in document
        assert bad[document["input"]["path"]] in document["error"]
    results = found[1::2]
    assert {document["predictions"][0]["label"] for document in results} == {"7"}
    assert [document["seq"] for document in results] == list(range(1, len(bad) + 1))


def test_for_a_person_each_bad_input_is_one_line_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = bad_inputs(folder)
    code, out, err = predict(capsys, "digits", *bad, GOLDEN / "7_printed.png", "--top-k", "1")
    assert code == 1
    assert len(out.splitlines()) == 2
    for (name, says), line in zip(bad.items(), err, strict=True):
        assert line.startswith(f"{name}: ")
        assert says in line
        assert line.count(name) == 1


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("gone.tflite", "gone.tflite: there is no such file"),
        ("mobilenet-v2", "`edge-agent models pull mobilenet-v2`"),
        ("mobilenet-v", "did you mean 'mobilenet-v"),
        (".", "it has no model.yaml"),
        ("text.tflite", "text that begins with 'no model'"),
        ("image.onnx", "found a PNG image"),
        ("empty.tflite", "empty"),
        ("/dev/null", "a device or a pipe"),
    ],
)
def test_a_model_that_can_not_be_used_is_one_line_and_exit_code_2(
    model: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text.tflite").write_text("no model")
    (folder / "image.onnx").write_bytes((GOLDEN / "7_printed.png").read_bytes())
    (folder / "empty.tflite").touch()
    code, out, err = predict(capsys, model, GOLDEN / "7_printed.png", "--json")
    assert (code, out) == (2, "")
    (line,) = err
    assert says in line


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("gone.txt", "gone.txt: can't be read"),
        (".", ": can't be read: Is a directory"),
        ("few.txt", "few.txt: 2 labels for 11 classes"),
        ("many.txt", "many.txt: 30 labels for 11 classes"),
        ("binary.txt", "binary.txt: not text in UTF-8"),
        ("large.txt", "large.txt: larger than 4000000 bytes"),
    ],
)
def test_labels_that_do_not_fit_are_one_line_and_exit_code_2(
    labels: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "few.txt").write_text("a\nb\n")
    (folder / "many.txt").write_text("a\n" * 30)
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "large.txt").write_bytes(b"\xffx" * 3_000_000)
    code, out, err = predict(capsys, "digits", GOLDEN / "7_printed.png", "--labels", labels)
    assert (code, out) == (2, "")
    (line,) = err
    assert says in line


@pytest.mark.parametrize("file", ["digits.tflite", "digits.onnx"])
def test_a_model_cut_off_anywhere_is_refused_with_one_line(
    file: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (shipped("digits") / file).read_bytes()
    lengths = sorted({1, 3, 4, 7, 8, 16, 100, len(content) - 1, *np.linspace(1, len(content) - 1, 60, dtype=int)})
    for length in lengths:
        (folder / file).write_bytes(content[:length])
        code, out, err = predict(capsys, file, GOLDEN / "7_printed.png", "--labels", "none", "--normalize", "unit")
        assert (code, out, len(err)) == (2, "", 1), f"{length} of {len(content)} bytes"
        assert file in err[0]


def test_a_runtime_that_is_at_a_loss_prints_nothing_of_its_own(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = (shipped("digits") / "digits.onnx").read_bytes()
    (folder / "odd.onnx").write_bytes(content.replace(b"Conv", b"\xffonv"))
    code = cli.main(["predict", "odd.onnx", str(GOLDEN / "7_printed.png"), "--labels", "none", "--normalize", "unit"])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


# What the plain interpreters say, from the README of the test data.
SEEN = [
    ("classify_tflite/mobilenet_v2_1.0_224_quant.tflite", "cat.bmp", "Egyptian cat", 0.79),
    ("classify_tflite/mobilenet_v2_1.0_224_quant.tflite", "parrot.jpg", "macaw", 0.996),
    ("classify_tflite/mobilenet_v2_1.0_224_quant.tflite", "grace_hopper.bmp", "military uniform", 0.92),
    ("classify_tflite/mobilenet_v2_1.0_224_quant.tflite", "hot_dog.jpg", "hotdog", 0.89),
    ("classify_tflite/mobilenet_v1_0.25_224_quant.tflite", "cat.bmp", "Egyptian cat", 0.43),
    ("classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite", "cat.bmp", "Egyptian cat", 0.49),
]


@pytest.mark.parametrize(("model", "image", "label", "confidence"), SEEN)
def test_public_classifiers_say_what_their_plain_interpreters_say(
    model: str, image: str, label: str, confidence: float, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The README's figures are for stretched pictures.
    stated = ("--top-k", "1", "--resize", "stretch")
    (document,) = documents(capsys, data_dir / model, data_dir / "images" / image, *stated)
    (top,) = document["predictions"]
    assert top["label"].startswith(label)
    assert top["confidence"] == pytest.approx(confidence, abs=0.05)


def test_logits_of_a_quantised_classifier_are_told_from_probabilities(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = data_dir / "classify_tflite/mobilenet_v2_1.0_224_quant_tflitesupport.tflite"
    labels = data_dir / "labels/coral_imagenet_labels.txt"
    (document,) = documents(capsys, model, data_dir / "images/cat.bmp", "--labels", labels, "--top-k", "1000")
    assert document["predictions"][0]["label"].startswith("Egyptian cat")
    assert sum(prediction["confidence"] for prediction in document["predictions"]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("image", "class_id", "label"), [("cat.bmp", 285, "Egyptian cat"), ("parrot.jpg", 88, "macaw")]
)
def test_an_onnx_classifier_says_what_its_plain_session_says(
    image: str, class_id: int, label: str, folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The confidences of the README can't be met: this model's depend much on how the picture was resized for them.
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = data_dir / "classify_onnx/mobilenet_v2_quant.onnx", data_dir / "images" / image
    labels = (data_dir / "labels/coral_imagenet_labels.txt").read_text().splitlines(keepends=True)
    (folder / "imagenet.txt").write_text("".join(labels[1:]))
    stated = ("--labels", "imagenet.txt", "--normalize", "imagenet", "--resize", "stretch", "--top-k", "1")
    (document,) = documents(capsys, model, path, *stated)
    (top,) = document["predictions"]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    pixels = cv2.resize(decode_image(path.read_bytes()), (224, 224), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    tensor = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    feed = {"input": tensor.astype(np.float32).transpose(2, 0, 1)[np.newaxis]}
    powers = np.exp(session.run(None, feed)[0][0])
    assert (top["class_id"], top["label"].partition(",")[0]) == (class_id, label)
    assert top["confidence"] == pytest.approx(powers[class_id] / powers.sum(), abs=0.001)


@pytest.mark.parametrize(
    ("image", "confidence"), [("person_arduino.jpg", 0.90), ("no_person_arduino.jpg", 0.02), ("cat.bmp", 0.05)]
)
def test_a_person_detector_of_int8(
    image: str, confidence: float, folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.txt").write_text("no person\nperson\n")
    model = data_dir / "tinymlperf/vww_96_int8.tflite"
    (document,) = documents(capsys, model, data_dir / "images" / image, "--labels", "labels.txt")
    person = next(prediction for prediction in document["predictions"] if prediction["label"] == "person")
    assert person["confidence"] == pytest.approx(confidence, abs=0.05)


def test_handwritten_digits_in_grey_and_nchw(folder: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist = data_dir / "datasets/mnist"
    with gzip.open(mnist / "t10k-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(16 + 200 * 784)[16:], np.uint8).reshape(200, 28, 28)
    with gzip.open(mnist / "t10k-labels-idx1-ubyte.gz") as file:
        truth = list(file.read(8 + 200)[8:])
    names = [f"{number:03}.png" for number in range(len(truth))]
    for name, digit in zip(names, digits, strict=True):
        cv2.imwrite(name, digit)
    model = data_dir / "classify_onnx/mnist.onnx"
    read = documents(capsys, model, *names, "--labels", "none", "--normalize", "raw", "--top-k", "1")
    right = sum(document["predictions"][0]["class_id"] == label for document, label in zip(read, truth, strict=True))
    assert right >= 196


def test_a_model_whose_facts_are_missing_asks_for_each(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = predict(capsys, data_dir / "classify_onnx/mnist.onnx", GOLDEN / "7_printed.png")
    assert (code, out) == (2, "")
    (line,) = err
    assert "state preprocess.normalize: unit (0..1)" in line
    assert "state labels: FILE with 10 lines" in line
