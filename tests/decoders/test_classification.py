import gzip
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.decoders.classification import Classification, Output, softmax
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError
from edge_agent.models import model as models
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import Prediction
from tests.decoders.scenes import as_it_is
from tests.images import decode_image

ANIMALS = ("cat", "dog", "owl", "ant")


def classification(output: Output, **spec: Any) -> Classification:
    tensor = TensorSpec(**({"name": "scores", "shape": (1, 4), "dtype": "float32"} | spec))
    return Classification(tensor, ANIMALS, output)


def decode(decoder: Classification, scores: NDArray[Any], *, top_k: int = 4, at_least: float = 0.0) -> list[Prediction]:
    return decoder([scores], [as_it_is()] * len(scores), Limits(top_k, at_least))


def labels(predictions: list[Prediction]) -> list[str | None]:
    return [prediction.label for prediction in predictions]


def two(output: Output) -> Classification:
    return Classification(TensorSpec("score", (1, 1), "float32"), ("cat", "dog"), output, binary=True)


@pytest.mark.parametrize(("output", "score"), [("sigmoid", 0.047), ("probabilities", 0.047), ("logits", -3.0094)])
def test_a_single_score_with_two_labels_is_that_of_the_second(output: Output, score: float) -> None:
    first, second = decode(two(output), np.array([[score]], np.float32))
    assert (first.label, first.class_id, second.label, second.class_id) == ("cat", 0, "dog", 1)
    assert (first.confidence, second.confidence) == pytest.approx((0.953, 0.047), abs=1e-3)
    assert decode(two("sigmoid"), np.array([[1.0001]], np.float32))[-1].confidence == 0
    assert not two(output).multi_label


def test_a_batch_of_single_scores() -> None:
    found = decode(two("sigmoid"), np.array([[0.25], [0.75]], np.float32), top_k=1)
    assert labels(found) == ["cat", "dog"]


def test_a_single_logit_with_one_label_is_no_certainty() -> None:
    one = Classification(TensorSpec("score", (1, 1), "float32"), ("dog",), "logits")
    assert decode(one, np.array([[0.0]], np.float32))[0].confidence == 0.5


def test_the_most_confident_comes_first_with_its_own_index() -> None:
    predictions = decode(classification("probabilities"), np.array([[0.1, 0.6, 0.05, 0.25]], np.float32))
    assert [(one.label, one.class_id) for one in predictions] == [("dog", 1), ("ant", 3), ("cat", 0), ("owl", 2)]
    assert [one.confidence for one in predictions] == pytest.approx([0.6, 0.25, 0.1, 0.05])
    assert all(one.region is None for one in predictions)


@pytest.mark.parametrize(("top_k", "expected"), [(1, ["dog"]), (2, ["dog", "ant"]), (4, None), (1000, None)])
def test_no_more_than_top_k_come(top_k: int, expected: list[str] | None) -> None:
    scores = np.array([[0.1, 0.6, 0.05, 0.25]], np.float32)
    found = labels(decode(classification("probabilities"), scores, top_k=top_k))
    assert found == (expected or ["dog", "ant", "cat", "owl"])


def test_less_confident_ones_are_left_out_and_none_may_be_left() -> None:
    scores = np.array([[0.1, 0.6, 0.05, 0.25]], np.float32)
    assert labels(decode(classification("probabilities"), scores, at_least=0.25)) == ["dog", "ant"]
    assert decode(classification("probabilities"), scores, at_least=0.9) == []


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_among_equals_the_lower_index_comes_first(top_k: int) -> None:
    scores = np.array([[0.2, 0.3, 0.3, 0.2]], np.float32)
    expected = ["dog", "owl", "cat", "ant"][:top_k]
    assert labels(decode(classification("probabilities"), scores, top_k=top_k)) == expected


def test_logits_become_probabilities_that_sum_to_one() -> None:
    predictions = decode(classification("logits"), np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    assert labels(predictions) == ["ant", "owl", "dog", "cat"]
    assert sum(float(one.confidence or 0) for one in predictions) == pytest.approx(1.0)
    assert predictions[0].confidence == pytest.approx(np.exp(4) / np.exp([1, 2, 3, 4]).sum())


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4, 3e38])
def test_softmax_minds_only_differences_and_never_overflows(shift: float) -> None:
    assert softmax(np.full((1, 4), shift, np.float32)) == pytest.approx(0.25)


def test_sigmoid_scores_stand_each_for_itself() -> None:
    predictions = decode(classification("sigmoid"), np.array([[0.9, 0.8, 0.1, 0.7]], np.float32))
    assert [one.confidence for one in predictions] == pytest.approx([0.9, 0.8, 0.7, 0.1])


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "stored"),
    [("uint8", 1 / 256, 0, [26, 154, 13, 64]), ("int8", 1 / 256, -128, [-102, 26, -115, -64])],
)
def test_quantised_scores_get_their_real_values(dtype: str, scale: float, zero_point: int, stored: list[int]) -> None:
    decoder = classification("probabilities", dtype=dtype, scale=scale, zero_point=zero_point)
    predictions = decode(decoder, np.array([stored], dtype))
    assert labels(predictions) == ["dog", "ant", "cat", "owl"]
    assert [one.confidence for one in predictions] == pytest.approx([0.6, 0.25, 0.1, 0.05], abs=1 / 256)


def test_quantised_logits_get_their_real_values_first() -> None:
    decoder = classification("logits", dtype="uint8", scale=0.5, zero_point=100)
    predictions = decode(decoder, np.array([[102, 104, 106, 108]], np.uint8))
    assert predictions[0].confidence == pytest.approx(np.exp(4) / np.exp([1, 2, 3, 4]).sum())


def test_a_score_rounded_to_more_than_one_is_a_confidence_of_one() -> None:
    decoder = classification("probabilities", dtype="uint8", scale=1 / 255 + 1e-4, zero_point=0)
    assert decode(decoder, np.array([[255, 0, 0, 0]], np.uint8))[0].confidence == 1.0


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 4), (1, 4, 1, 1), (4,)])
def test_axes_of_one_make_no_difference(shape: tuple[int, ...]) -> None:
    scores = np.array([0.1, 0.6, 0.05, 0.25], np.float32).reshape(shape)
    assert labels(classification("probabilities")([scores], [as_it_is()], Limits(1, 0.0))) == ["dog"]


@pytest.mark.parametrize("output", ["probabilities", "logits", "sigmoid"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_no_answer(output: Output, wrong: float) -> None:
    with pytest.raises(InputError, match="values that are not numbers"):
        decode(classification(output), np.array([[0.1, wrong, 0.1, 0.1]], np.float32))


IMAGENET = "labels/coral_imagenet_labels.txt"
# What public models say to public pictures, as their own runtimes say it: shared data's README.
V1, V2 = "classify_tflite/mobilenet_v1_0.25_224", "classify_tflite/mobilenet_v2_1.0_224_quant"
V2_ONNX, WAKE = "classify_onnx/mobilenet_v2_quant.onnx", "tinymlperf/vww_96_int8.tflite"
IMAGENET_LABELS: dict[str, Any] = {"labels": IMAGENET}
NUMBERS: dict[str, Any] = {"labels": "none"}
FOR_ONNX: dict[str, Any] = {"labels": "no background", "preprocess": {"normalize": "imagenet"}}
REAL = [
    (f"{V2}.tflite", IMAGENET_LABELS, "parrot.jpg", "macaw", 0.996),
    (f"{V2}.tflite", IMAGENET_LABELS, "cat.bmp", "Egyptian cat", 0.79),
    (f"{V2}.tflite", IMAGENET_LABELS, "grace_hopper.bmp", "military uniform", 0.92),
    (f"{V2}.tflite", IMAGENET_LABELS, "hot_dog.jpg", "hotdog", 0.89),
    (f"{V2}_tflitesupport.tflite", IMAGENET_LABELS, "cat.bmp", "Egyptian cat", None),
    (f"{V1}_quant.tflite", {}, "cat.bmp", "Egyptian cat", 0.43),
    (f"{V1}_1_metadata_1.tflite", {}, "cat.bmp", "Egyptian cat", 0.49),
    (WAKE, NUMBERS, "person_arduino.jpg", "1", 0.90),
    (WAKE, NUMBERS, "no_person_arduino.jpg", "0", 0.98),
    (WAKE, NUMBERS, "cat.bmp", "0", 0.95),
    (V2_ONNX, FOR_ONNX, "cat.bmp", "Egyptian cat", 0.55),
    (V2_ONNX, FOR_ONNX, "parrot.jpg", "macaw", 0.51),
]


def short(label: str | None) -> str:
    """Some label files give several names to a class."""
    return str(label).split(",")[0]


def label_file(keys: dict[str, Any], data_dir: Path, folder: Path) -> dict[str, Any]:
    """`keys` with a path to the labels that they name."""
    if keys.get("labels") in (None, "none"):
        return keys
    path = data_dir / IMAGENET
    if keys["labels"] == "no background":
        path = folder / "labels.txt"
        lines = (data_dir / IMAGENET).read_text().splitlines()
        path.write_text("\n".join(lines[1:]))
    return keys | {"labels": str(path)}


@pytest.mark.parametrize(("name", "keys", "picture", "label", "confidence"), REAL)
def test_public_models_say_what_their_runtimes_say(
    name: str, keys: dict[str, Any], picture: str, label: str, confidence: float | None, data_dir: Path, tmp_path: Path
) -> None:
    # Their runtimes' values are of whole pictures, stretched.
    pixels = keys.get("preprocess", {}) | {"resize": "stretch"}
    keys = label_file(keys, data_dir, tmp_path) | {"preprocess": pixels}
    model = models.load("it", settings.Model.model_validate(keys | {"path": str(data_dir / name)}), tmp_path)
    image = decode_image((data_dir / "images" / picture).read_bytes())
    outputs = model.infer(model.preprocess([image]))
    [first] = model.decode(outputs, [as_it_is()], Limits(1, 0.0))
    assert short(first.label) == label
    if confidence is not None:
        assert first.confidence == pytest.approx(confidence, abs=0.1)


@pytest.mark.parametrize("name", ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"])
def test_a_float_network_and_its_int8_twin_agree(name: str, data_dir: Path, tmp_path: Path) -> None:
    # CIFAR-10 pictures are not at hand; what the plain interpreter says to a photograph is.
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    path = data_dir / "tinymlperf" / name
    keys = {"path": str(path), "labels": "none", "preprocess": {"normalize": "raw"}}
    model = models.load("it", settings.Model.model_validate(keys), tmp_path)
    interpreter = interpreters.Interpreter(str(path))
    interpreter.allocate_tensors()
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()
    for picture in sorted((data_dir / "images").glob("*.jpg")):
        image = cv2.imread(str(picture))
        assert image is not None
        pixels = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)[None, :, :, ::-1].astype(np.float32)
        if given["dtype"] == np.int8:
            scale, zero_point = given["quantization"]
            pixels = np.clip(np.rint(pixels / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], np.ascontiguousarray(pixels))
        interpreter.invoke()
        scores = interpreter.get_tensor(made["index"])[0].astype(np.float64)
        if made["dtype"] == np.int8:
            scores = (scores - made["quantization"][1]) * made["quantization"][0]
        [first] = model.decode(
            model.infer(model.preprocess([decode_image(picture.read_bytes())])), [as_it_is()], Limits(1, 0.0)
        )
        assert first.class_id == scores.argmax()
        assert first.confidence == pytest.approx(scores.max(), abs=0.005)


def test_handwritten_digits_are_read_as_the_plain_runtime_reads_them(data_dir: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = data_dir / "classify_onnx" / "mnist.onnx"
    keys = {"path": str(path), "labels": "none", "preprocess": {"normalize": "raw"}}
    model = models.load("mnist", settings.Model.model_validate(keys), tmp_path)
    assert isinstance(model.preprocess, Preprocess)
    assert (model.preprocess.layout, model.preprocess.color) == ("nchw", "gray")
    session = onnxruntime.InferenceSession(str(path))
    images = idx(data_dir, "images", 16).reshape(-1, 28, 28)[:1000]
    truth = idx(data_dir, "labels", 8)[:1000]
    said = []
    for image in images:
        [first] = model.decode(model.infer(model.preprocess([cv2.merge([image] * 3)])), [as_it_is()], Limits(1, 0.0))
        [scores] = session.run(None, {session.get_inputs()[0].name: image.astype(np.float32)[None, None]})
        assert first.class_id == scores[0].argmax()
        powers = np.exp(scores[0] - scores[0].max())
        assert first.confidence == pytest.approx(powers.max() / powers.sum(), abs=1e-4)
        said.append(first.class_id)
    assert (np.array(said) == truth).mean() > 0.98


def idx(data_dir: Path, what: str, header: int) -> NDArray[np.uint8]:
    """The bytes of one of MNIST's files after its header."""
    kind = 3 if what == "images" else 1
    with gzip.open(data_dir / "datasets" / "mnist" / f"t10k-{what}-idx{kind}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8)[header:]
