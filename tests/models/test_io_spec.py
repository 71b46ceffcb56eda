import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.decoders.classification import Classification
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.modelfile.labels import parse_labels
from edge_agent.models import io_spec
from edge_agent.models.io_spec import EXTENSIONS, IOSpec, Stated, UnclearError
from edge_agent.preprocess import image as preprocess
from edge_agent.settings import Preprocess
from edge_agent.settings.base import Normalize

LABELS = ("cat", "dog", "bird")
FLOAT = ModelFile(
    path=Path("pets.tflite"),
    format="tflite",
    sha256="0" * 64,
    size=1000,
    inputs=(Tensor("image", (1, 32, 24, 3), "float32"),),
    outputs=(Tensor("scores", (1, 3), "float32"),),
    operators={"CONV_2D": 1, "SOFTMAX": 1},
    custom_operators=(),
    output_operators=("SOFTMAX",),
    version="schema 3",
    description="",
    metadata={},
    labels=LABELS,
    labels_from="labels.txt inside the file",
    normalization=((127.5,), (127.5,)),
    associated_files=(),
)
UNKNOWN = replace(FLOAT, output_operators=("",))


def image(shape: tuple[int, ...], dtype: str = "float32", **quantised: Any) -> ModelFile:
    return replace(FLOAT, inputs=(Tensor("image", shape, dtype, **quantised),))


def quantised(dtype: str, scale: float, zero_point: int, normalization: Any = None) -> ModelFile:
    file = image((1, 32, 24, 3), dtype, scale=scale, zero_point=zero_point)
    return replace(file, normalization=normalization)


def read(
    file: ModelFile, *, labels: tuple[str, ...] | None = None, output: settings.Output | None = None, **stated: Any
) -> IOSpec:
    pixels = Preprocess.model_validate(stated)
    labels_from = "names.txt" if labels is not None else ""
    return io_spec.derive(file, Stated(preprocess=pixels, output=output, labels=labels, labels_from=labels_from))


def how(spec: IOSpec) -> preprocess.Preprocess:
    """How pictures become its input."""
    assert isinstance(spec.preprocess, preprocess.Preprocess)
    return spec.preprocess


def scores(spec: IOSpec) -> str:
    """What the decoder takes the model's scores for."""
    decoder = spec.build([TensorSpec("scores", (1, 3), "float32")])
    assert isinstance(decoder, Classification)
    return decoder.output


def missing(file: ModelFile, **stated: Any) -> dict[str, str]:
    with pytest.raises(UnclearError) as caught:
        read(file, **stated)
    return caught.value.missing


@pytest.mark.parametrize(
    ("shape", "layout", "sides"),
    [
        ((1, 32, 24, 3), "nhwc", (32, 24, 3)),
        ((1, 32, 24, 1), "nhwc", (32, 24, 1)),
        ((-1, 32, 24, 3), "nhwc", (32, 24, 3)),
        ((1, 3, 32, 24), "nchw", (32, 24, 3)),
        ((1, 1, 28, 28), "nchw", (28, 28, 1)),
        ((-1, 1, 28, 28), "nchw", (28, 28, 1)),
    ],
)
def test_the_layout_is_read_from_the_shape(shape: tuple[int, ...], layout: str, sides: tuple[int, int, int]) -> None:
    spec = read(image(shape))
    assert (how(spec).layout, (how(spec).height, how(spec).width)) == (layout, sides[:2])
    assert f"layout: {layout}, from the input's shape {list(shape)}" in spec.evidence


@pytest.mark.parametrize("shape", [(1, 3, 24, 3), (1, 1, 24, 1), (1, 3, 24, 1)])
def test_a_layout_that_the_shape_does_not_tell_is_asked_for(shape: tuple[int, ...]) -> None:
    assert "state preprocess.layout: nhwc or nchw" in missing(image(shape))["preprocess.layout"]
    assert how(read(image(shape), layout="nhwc")).height == shape[1]
    assert how(read(image(shape), layout="nchw")).height == shape[2]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (image((1, 32, 24, 4)), "an input of 4 channels is not a picture: expected 1 or 3, shape [1, 32, 24, 4]"),
        (image((1, 100_000, 24, 3)), "the input's size is out of bounds, shape [1, 100000, 24, 3]: expected 1 to 8192"),
        (image((1, 32, 0, 3)), "the input's size is out of bounds"),
        (image((1, 32), "str"), "not a model of pictures: expected one input of four axes, found image [1, 32]"),
        (image(()), "not a model of pictures: expected one input of four axes, found image []"),
        (image((1, 32, 24, 3), "int64"), "not a model of pictures: its input is of type int64"),
        (replace(FLOAT, inputs=()), "not a model of pictures: expected one input of four axes, found none"),
        (replace(FLOAT, inputs=FLOAT.inputs * 2), "not a model of pictures: expected one input of four axes, found im"),
        (replace(FLOAT, custom_operators=(f"{EXTENSIONS}DecodeImage",)), "it has operators of onnxruntime-extensions"),
        (replace(FLOAT, outputs=()), "what its outputs mean is not known ("),
        (replace(FLOAT, outputs=FLOAT.outputs * 2), "what its outputs mean is not known ("),
        (replace(UNKNOWN, outputs=(Tensor("x", (), "float32"),)), "what its outputs mean is not known ("),
        (replace(FLOAT, outputs=(Tensor("x", (1, 25200, 85), "float32"),)), "what its outputs mean is not known ("),
        (replace(UNKNOWN, outputs=(Tensor("x", (1, -1), "float32"),)), "what its outputs mean is not known ("),
    ],
)  # fmt: skip
def test_what_is_no_model_of_pictures_or_of_no_known_family_is_refused(file: ModelFile, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(file)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (-1, 3), (1, 1, 1, 3), (1, 3, 1, 1)])
def test_classes_are_the_one_axis_of_the_output(shape: tuple[int, ...]) -> None:
    assert read(replace(FLOAT, outputs=(Tensor("scores", shape, "float32"),))).labels == LABELS


def test_colour_is_rgb_or_grey_by_the_channels_and_bgr_where_stated() -> None:
    assert how(read(FLOAT)).color == "rgb"
    assert how(read(image((1, 32, 24, 1)))).color == "gray"
    assert how(read(FLOAT, color="bgr")).color == "bgr"


@pytest.mark.parametrize(
    ("shape", "color"), [((1, 32, 24, 3), "gray"), ((1, 32, 24, 1), "rgb"), ((1, 32, 24, 1), "bgr")]
)
def test_a_colour_that_does_not_fit_the_channels_is_refused(shape: tuple[int, ...], color: str) -> None:
    with pytest.raises(ModelError, match=f"preprocess.color: {color} does not fit an input of {shape[-1]} channels"):
        read(image(shape), color=color)


IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    ("stated", "mean", "std"),
    [
        ({"normalize": "unit"}, (0.0,), (255.0,)),
        ({"normalize": "signed"}, (127.5,), (127.5,)),
        ({"normalize": "raw"}, (0.0,), (1.0,)),
        ({"normalize": "imagenet"}, IMAGENET_MEAN, IMAGENET_STD),
        ({"normalize": "imagenet", "color": "bgr"}, IMAGENET_MEAN[::-1], IMAGENET_STD[::-1]),
        ({"normalize": Normalize(mean=127, std=128)}, (127.0,), (128.0,)),
        ({"normalize": Normalize(mean=(1, 2, 3), std=4), "color": "bgr"}, (1.0, 2.0, 3.0), (4.0,)),
        ({}, (127.5,), (127.5,)),
    ],
    ids=["unit", "signed", "raw", "imagenet", "imagenet bgr", "one", "three", "metadata"],
)
def test_normalisation_of_a_float_input(
    stated: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    spec = read(FLOAT, **stated)
    assert (how(spec).mean, how(spec).std) == (mean, std)


def test_normalisation_that_nothing_states_is_asked_for() -> None:
    asked = missing(replace(FLOAT, normalization=None))
    assert list(asked) == ["preprocess.normalize"]
    assert "state preprocess.normalize: unit (0..1), signed (-1..1), raw (0..255), imagenet, or {mean: …" in str(asked)


@pytest.mark.parametrize(
    ("shape", "stated", "says"),
    [
        ((1, 32, 24, 1), {"normalize": "imagenet"}, "imagenet is for three channels: state mean and std"),
        ((1, 32, 24, 1), {"normalize": {"mean": [1, 2, 3]}}, "3 means and 1 stds for 1 channel"),
        ((1, 32, 24, 3), {"normalize": {"mean": [1, 2]}}, "2 means and 1 stds for 3 channel"),
        ((1, 32, 24, 3), {"normalize": {"std": []}}, "1 means and 0 stds for 3 channel"),
    ],
)
def test_normalisation_that_does_not_fit_the_channels_is_refused(
    shape: tuple[int, ...], stated: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        read(image(shape), **stated)


IDENTITY = {"uint8": ((0.0,), (1.0,)), "int8": ((128.0,), (1.0,))}
SIGNED_METADATA = ((127.5,), (127.5,))


@pytest.mark.parametrize(
    ("file", "stated"),
    [
        # The range that the quantisation covers is that of pixels.
        (quantised("uint8", 1 / 255, 0), None),
        (quantised("uint8", 1 / 256, 0), None),
        (quantised("uint8", 1 / 128, 128), None),
        (quantised("uint8", 1 / 127.5, 127), None),
        (quantised("uint8", 1.0, 0), None),
        (quantised("int8", 1 / 255, -128), None),
        (quantised("int8", 1 / 127.5, -1), None),
        (quantised("int8", 1 / 128, 0), None),
        (quantised("int8", 1.0, -128), None),
        # What is stated leads there once it is folded into the quantisation.
        (quantised("uint8", 1 / 128, 128, SIGNED_METADATA), None),
        (quantised("int8", 1 / 127.5, -1, SIGNED_METADATA), None),
        (quantised("uint8", 1 / 255, 0), "unit"),
        (quantised("int8", 1 / 255, -128), "unit"),
        (quantised("uint8", 1.0, 0), "raw"),
        (quantised("int8", 1 / 128, 0), "signed"),
        # Bytes without quantisation.
        (replace(image((1, 32, 24, 3), "uint8"), normalization=None), None),
    ],
)
def test_pixels_go_into_a_quantised_input_as_they_are_where_it_covers_their_range(
    file: ModelFile, stated: str | None
) -> None:
    spec = read(file, normalize=stated)
    assert (how(spec).mean, how(spec).std) == IDENTITY[file.inputs[0].dtype]


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("uint8", 0.0186, 114), ("int8", 0.0186, -14), ("int8", 0.58, 83), ("uint8", 2.0, 0)],
)
def test_a_quantised_input_of_another_range_is_asked_about(dtype: str, scale: float, zero_point: int) -> None:
    assert list(missing(quantised(dtype, scale, zero_point))) == ["preprocess.normalize"]


def test_imagenet_normalisation_is_folded_into_the_quantisation() -> None:
    scale, zero_point = 0.0186, -14
    spec = read(quantised("int8", scale, zero_point), normalize="imagenet")
    for pixel in (0, 100, 255):
        for channel in range(3):
            real = (pixel - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
            stored = (pixel - how(spec).mean[channel]) / how(spec).std[channel]
            assert math.isclose(stored, real / scale + zero_point, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("operator", "output"),
    [
        ("SOFTMAX", "probabilities"),
        ("Softmax", "probabilities"),
        ("QLinearSoftmax", "probabilities"),
        ("LOGISTIC", "sigmoid"),
        ("Sigmoid", "sigmoid"),
        ("LOG_SOFTMAX", "logits"),
        ("LogSoftmax", "logits"),
        ("FULLY_CONNECTED", "logits"),
        ("CONV_2D", "logits"),
        ("AVERAGE_POOL_2D", "logits"),
        ("Gemm", "logits"),
        ("MatMul", "logits"),
        ("Add", "logits"),
        ("QLinearMatMul", "logits"),
    ],
)
def test_the_last_operator_tells_what_the_scores_are(operator: str, output: str) -> None:
    spec = read(replace(FLOAT, output_operators=(operator,)))
    assert scores(spec) == output
    assert f"output: {output}, the last operator is {operator}" in spec.evidence


@pytest.mark.parametrize("operators", [("",), ("DIV",), ("edgetpu-custom-op",), ("ai.own.Head",)])
def test_scores_that_the_last_operator_does_not_tell_are_asked_for(operators: tuple[str, ...]) -> None:
    file = replace(FLOAT, output_operators=operators)
    assert "state output: probabilities, logits or sigmoid" in missing(file)["output"]
    assert scores(read(file, output="sigmoid")) == "sigmoid"


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("int8", -128)])
def test_scores_whose_quantised_range_is_0_to_1_are_probabilities(dtype: str, zero_point: int) -> None:
    output = Tensor("scores", (1, 3), dtype, scale=1 / 256, zero_point=zero_point)
    file = replace(FLOAT, outputs=(output,), output_operators=("edgetpu-custom-op",))
    assert scores(read(file)) == "probabilities"


def test_what_is_stated_goes_before_what_the_file_shows() -> None:
    spec = read(FLOAT, output="logits", labels=("a", "b", "c"), normalize="raw", resize="letterbox")
    assert (scores(spec), spec.labels, how(spec).mean, how(spec).resize) == (
        "logits",
        ("a", "b", "c"),
        (0.0,),
        "letterbox",
    )
    assert "labels: 3, from names.txt" in spec.evidence


def test_labels_come_from_the_file_where_none_are_stated() -> None:
    assert read(FLOAT).labels == LABELS
    assert "labels: 3, labels.txt inside the file" in read(FLOAT).evidence


def test_labels_that_nobody_has_are_asked_for_with_their_number() -> None:
    asked = missing(replace(FLOAT, labels=None, labels_from=""))
    says = "the file carries no labels: state labels: FILE with 3 lines, or `labels: none` for class numbers only"
    assert asked == {"labels": says}


def test_without_labels_classes_are_their_numbers() -> None:
    spec = io_spec.derive(FLOAT, Stated(without_labels=True))
    assert spec.labels is None
    decoder = spec.build([TensorSpec("scores", (1, 3), "float32")])
    assert isinstance(decoder, Classification)
    assert decoder.labels == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            ("background", "a", "b", "c"),
            r"labels names.txt: 4 labels for 3 classes: if the first line \('background'\)",
        ),
        (("a", "b"), "labels names.txt: 2 labels for 3 classes: if class 0 is a background class"),
        ((), "labels names.txt: 0 labels for 3 classes$"),
    ],
)
def test_labels_of_another_number_are_refused_with_a_hint(labels: tuple[str, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        read(FLOAT, labels=labels)


def test_embedded_labels_of_another_number_are_refused() -> None:
    with pytest.raises(ModelError, match=r"labels labels\.txt inside the file: 2 labels for 3 classes"):
        read(replace(FLOAT, labels=LABELS[:2]))


def test_everything_that_is_missing_is_asked_for_at_once() -> None:
    file = replace(image((1, 3, 24, 3)), normalization=None, labels=None, output_operators=("DIV",))
    with pytest.raises(UnclearError) as caught:
        read(file)
    assert set(caught.value.missing) == {"preprocess.layout", "preprocess.normalize", "output", "labels"}
    assert caught.value.family == "classification"
    assert all(question in str(caught.value) for question in caught.value.missing.values())


SCORE = replace(FLOAT, outputs=(Tensor("score", (1, 1), "float32"),), output_operators=("LOGISTIC",), labels=None)


def test_two_labels_for_one_sigmoid_name_0_and_1() -> None:
    spec = read(SCORE, labels=("cat", "dog"))
    decoder = spec.build([TensorSpec("score", (1, 1), "float32")])
    assert isinstance(decoder, Classification)
    assert (decoder.labels, decoder.binary, decoder.multi_label) == (("cat", "dog"), True, False)
    assert "its score is that of the second label; the first label has the rest" in spec.evidence
    in_file = read(replace(SCORE, labels=("cat", "dog"))).build([TensorSpec("score", (1, 1), "float32")])
    assert isinstance(in_file, Classification)
    assert in_file.binary
    alone = read(SCORE, labels=("dog",)).build([TensorSpec("score", (1, 1), "float32")])
    assert isinstance(alone, Classification)
    assert not alone.binary
    with pytest.raises(ModelError, match="3 labels for 1 classes"):
        read(SCORE, labels=LABELS)
    with pytest.raises(UnclearError, match="FILE with 1 line, or with 2 if the score is that of the second"):
        read(SCORE)


NAMES = tuple(f"TFLite_Detection_PostProcess{end}" for end in ("", ":1", ":2", ":3"))
SSD = replace(
    FLOAT,
    inputs=(Tensor("image", (1, 300, 300, 3), "uint8", 1 / 128, 128),),
    outputs=tuple(Tensor(name, (), "float32") for name in NAMES),
    custom_operators=("TFLite_Detection_PostProcess",),
    output_operators=("TFLite_Detection_PostProcess",) * 4,
    metadata={"detection.num_classes": "90"},
    labels=None,
)
COCO_90 = tuple(f"class {number}" for number in range(90))


@pytest.mark.parametrize(
    ("stated", "own", "says"),
    [
        (COCO_90[:80], None, "labels names.txt: 80 labels for 90 classes: COCO numbers its 80 classes up to 90"),
        (COCO_90[:80], COCO_90, "labels names.txt: 80 labels for 90 classes: COCO numbers"),
        (("background", *COCO_90[:79]), None, "labels names.txt: 79 labels for 90 classes"),
        (None, COCO_90[:80], "labels labels.txt inside the file: 80 labels for 90 classes"),
        (COCO_90, None, ""),
        (("???", *COCO_90), None, ""),
        (None, COCO_90, ""),
        (None, ("???", *COCO_90), ""),
    ],
)
def test_labels_of_a_detector_fit_the_number_of_classes_that_its_last_operator_states(
    stated: tuple[str, ...] | None, own: tuple[str, ...] | None, says: str
) -> None:
    file = replace(SSD, labels=own, labels_from="labels.txt inside the file" if own else "")
    if says:
        with pytest.raises(ModelError) as caught:
            read(file, labels=stated)
        assert str(caught.value).startswith(says)
    else:
        assert read(file, labels=stated).labels == COCO_90


def test_where_the_operator_states_no_number_the_labels_in_the_file_do() -> None:
    file = replace(SSD, metadata={}, labels=("???", *COCO_90))
    assert read(file, labels=tuple(reversed(COCO_90))).labels == tuple(reversed(COCO_90))
    with pytest.raises(ModelError, match=r"names\.txt: 80 labels, and the model carries 90 of its own"):
        read(file, labels=COCO_90[:80])
    assert read(replace(file, labels=None), labels=COCO_90[:80]).labels == COCO_90[:80]


def test_corals_numbered_list_and_the_list_of_80_names_on_the_real_detector(data_dir: Path) -> None:
    file = inspect.read(data_dir / "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")
    every = (data_dir / "labels/coral_coco_labels.txt").read_text().splitlines()
    numbered = "".join(f"{number}  {name}\n" for number, name in enumerate(every) if name != "n/a")
    labels = read(file, labels=parse_labels(numbered)).labels
    assert labels is not None
    assert (len(labels), labels[16], labels[17]) == (90, "cat", "dog")
    eighty = parse_labels((data_dir / "labels/coco80_names.txt").read_text())
    with pytest.raises(ModelError, match="80 labels for 90 classes"):
        read(file, labels=eighty)


OPEN = [((1, -1, -1, 3), "nhwc"), ((-1, 3, -1, -1), "nchw")]


@pytest.mark.parametrize(("shape", "layout"), OPEN)
def test_an_open_size_is_asked_for_together_with_what_else_is_missing(shape: tuple[int, ...], layout: str) -> None:
    file = replace(image(shape), normalization=None, labels=None)
    found = missing(file)
    assert set(found) == {"preprocess.size", "preprocess.normalize", "labels"}
    assert f"open, shape {list(shape)}: state preprocess.size: WIDTHxHEIGHT" in found["preprocess.size"]
    stated = how(read(image(shape), size="48x64"))
    assert (stated.width, stated.height, stated.layout) == (48, 64, layout)
    assert how(read(image(shape), size=48)).height == 48
    assert "size: 48 x 64, as stated" in read(image(shape), size="48x64").evidence


def test_a_side_that_the_file_fixes_stays() -> None:
    file = image((-1, 3, 32, -1))
    assert "such as 320x32, as it was trained" in missing(file)["preprocess.size"]
    assert how(read(file, size="200x32")).width == 200
    with pytest.raises(ModelError, match="200x48 is stated, the model takes anyx32"):
        read(file, size="200x48")


def test_an_open_size_is_that_of_the_export_where_the_file_has_it() -> None:
    file = replace(image((-1, 3, -1, -1)), metadata={"imgsz": "[384, 640]"})
    assert (how(read(file)).height, how(read(file)).width) == (384, 640)
    assert how(read(file, size="64x48")).height == 48


def test_a_stated_size_that_is_not_the_models_is_refused() -> None:
    assert how(read(image((1, 32, 24, 3)), size="24x32")).width == 24
    with pytest.raises(ModelError, match=r"preprocess\.size: 64x64 is stated, the model takes 24x32"):
        read(image((1, 32, 24, 3)), size="64x64")


@pytest.mark.parametrize(
    ("scale", "zero_point", "mean", "std"),
    [(1 / 255, -128, 0, 255), (2 / 255, 0, 127.5, 127.5), (1, -128, 0, 1)],
)
def test_the_range_of_an_input_that_is_quantised_at_once_is_known(
    scale: float, zero_point: int, mean: float, std: float
) -> None:
    made = Tensor("quantised", (1, 32, 24, 3), "int8", scale, zero_point)
    file = replace(image((1, 32, 24, 3)), normalization=None, quantised_input=made)
    assert (how(read(file)).mean, how(read(file)).std) == ((mean,), (std,))
    assert any(sentence.endswith("its first operator quantises exactly that range") for sentence in read(file).evidence)
    assert how(read(file, normalize="imagenet")).std == (58.395, 57.12, 57.375)
    odd = replace(file, quantised_input=replace(made, scale=0.0187))
    assert set(missing(odd)) == {"preprocess.normalize"}
