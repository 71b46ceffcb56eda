import json
import struct
import zipfile
from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import Tensor
from tests.models import model_bytes
from tests.models.model_bytes import Scalar, builtin, floats, int32s, int64s, operator, quantized, tflite, zipped

LABELS = {"labels.txt": "circle\nsquare\nstar\n"}


def test_a_plain_file_gives_its_tensors_and_operators(reading: Any) -> None:
    model = reading(tflite())

    assert model.format == "tflite"
    assert model.version == "schema 3"
    assert model.description == "made by a test"
    assert model.inputs == (Tensor("image", (1, 8, 8, 3), "uint8", 0.0078125, 128),)
    assert model.outputs == (Tensor("probabilities", (1, 3), "float32"),)
    assert model.operators == {"CONV_2D": 1, "SOFTMAX": 1, "DEQUANTIZE": 1}
    assert model.custom_operators == ()
    assert (model.labels, model.labels_from, model.normalization, model.associated_files) == (
        None,
        "",
        None,
        (),
    )


def test_the_operator_behind_an_output_is_seen_through_dequantize(reading: Any) -> None:
    assert reading(tflite()).output_operators == ("SOFTMAX",)


def test_a_real_input_that_is_quantised_at_once_shows_its_range(reading: Any) -> None:
    real = {0: int32s(1, 8, 8, 3), 1: Scalar("Int8", 0), 3: "image"}
    stored = {0: int32s(1, 8, 8, 3), 1: Scalar("Int8", 9), 3: "stored", 4: quantized(1 / 255, -128)}
    scores = {0: int32s(1, 3), 1: Scalar("Int8", 0), 3: "scores"}
    changes = {"outputs": (2,), "codes": [builtin(114), builtin(25)]}
    operators = [operator(0, (0,), (1,)), operator(1, (1,), (2,))]
    file = reading(tflite(tensors=[real, stored, scores], operators=operators, **changes))
    assert file.quantised_input is not None
    assert file.quantised_input.covers((0, 1))
    other = [operator(1, (0,), (1,)), operator(0, (1,), (2,))]
    assert reading(tflite(tensors=[real, stored, scores], operators=other, **changes)).quantised_input is None
    requantised = [real | {1: Scalar("Int8", 3), 4: quantized(1 / 255, 0)}, stored, scores]
    assert reading(tflite(tensors=requantised, operators=operators, **changes)).quantised_input is None


def test_an_output_that_is_an_input_has_no_operator(reading: Any) -> None:
    assert reading(tflite(operators=[operator(2, (0,), (3,))])).output_operators == ("",)


def test_operators_that_run_in_a_circle_end_in_no_operator(reading: Any) -> None:
    circle = [operator(2, (3,), (2,)), operator(2, (2,), (3,))]

    assert reading(tflite(operators=circle)).output_operators == ("",)


def test_an_operator_is_named_from_either_field_of_its_code(reading: Any) -> None:
    old, new, unknown = {0: Scalar("Int8", 25)}, builtin(150), builtin(9999)

    assert reading(tflite(codes=[old, new, unknown])).operators == {
        "SOFTMAX": 1,
        "GELU": 1,
        "BUILTIN_9999": 1,
    }


def test_a_custom_operator_is_named_as_the_file_names_it(reading: Any) -> None:
    custom = {0: Scalar("Int8", 32), 1: "edgetpu-custom-op", 3: Scalar("Int32", 32)}
    model = reading(tflite(codes=[builtin(3), builtin(25), custom]))

    assert model.custom_operators == ("edgetpu-custom-op",)
    assert model.operators["edgetpu-custom-op"] == 1
    assert model.output_operators == ("edgetpu-custom-op",)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (
            {0: int32s(1, 4), 1: Scalar("Int8", 9), 3: "x", 7: int32s(-1, 4)},
            Tensor("x", (-1, 4), "int8"),
        ),
        ({0: int32s(), 1: Scalar("Int8", 5)}, Tensor("", (), "str")),
        ({0: int32s(2), 1: Scalar("Int8", 18)}, Tensor("", (2,), "bfloat16")),
        ({0: int32s(2), 1: Scalar("Int8", 99)}, Tensor("", (2,), "type99")),
        (
            {0: int32s(2), 1: Scalar("Int8", 9), 4: {2: floats(0.5, 0.25), 3: int64s(0, 0)}},
            Tensor("", (2,), "int8"),
        ),
        ({0: int32s(2), 1: Scalar("Int8", 9), 4: {2: floats(0.5)}}, Tensor("", (2,), "int8", 0.5)),
        ({0: int32s(2), 1: Scalar("Int8", 9), 4: {2: floats(0.0)}}, Tensor("", (2,), "int8")),
        (
            {0: int32s(2), 1: Scalar("Int8", 0), 4: {2: floats(0.5), 3: int64s(1)}},
            Tensor("", (2,), "float32"),
        ),
    ],
    ids=[
        "dynamic",
        "text",
        "beyond numpy",
        "unknown type",
        "scale per channel",
        "no zero point",
        "scale 0",
        "float",
    ],
)
def test_a_tensor(tensor: dict[int, Any], expected: Tensor, reading: Any) -> None:
    assert reading(tflite(tensors=[tensor], outputs=(), operators=[])).inputs == (expected,)


def test_metadata_states_names_labels_and_normalization(reading: Any) -> None:
    metadata = {"min_runtime_version": b"2.5.0" + bytes(11), "TFLITE_METADATA": model_bytes.tflite_metadata()}
    model = reading(tflite(metadata=metadata) + zipped(LABELS))

    assert model.description == "Shapes: Tells shapes."
    assert model.metadata == {
        "min_runtime_version": "2.5.0",
        "name": "Shapes",
        "description": "Tells shapes.",
        "version": "v7",
        "author": "Ada",
        "license": "CC0",
        "input0.name": "image",
        "input0.color_space": "RGB",
        "output0.name": "probability",
    }
    assert model.labels == ("circle", "square", "star")
    assert model.labels_from == "labels.txt inside the file"
    assert model.normalization == ((127.5,), (127.5,))
    assert model.associated_files == ("labels.txt",)


def test_metadata_of_another_schema_is_left_alone(reading: Any) -> None:
    table = model_bytes.tflite_metadata().replace(b"M001", b"M002")

    assert reading(tflite(metadata={"TFLITE_METADATA": table})).metadata == {}


def test_labels_keep_their_lines_whatever_the_line_ends(reading: Any) -> None:
    table = model_bytes.tflite_metadata(label_type=3)
    archive = zipped({"labels.txt": "\ufeffcircle\r\n\r\nstar, five points\r\n\r\n"})

    labels = reading(tflite(metadata={"TFLITE_METADATA": table}) + archive).labels

    assert labels == ("circle", "", "star, five points")


def test_a_file_that_is_not_declared_to_be_labels_is_only_listed(reading: Any) -> None:
    table = model_bytes.tflite_metadata(label_type=1)
    model = reading(tflite(metadata={"TFLITE_METADATA": table}) + zipped(LABELS))

    assert model.labels is None
    assert model.associated_files == ("labels.txt",)


def test_a_label_file_that_is_not_there_is_said(reading: Any) -> None:
    model = reading(tflite(metadata={"TFLITE_METADATA": model_bytes.tflite_metadata()}))

    assert model.labels is None
    assert model.metadata["missing_files"] == "labels.txt"


def test_the_signature_names_inputs_and_outputs(reading: Any) -> None:
    signature = {
        0: [{0: "images", 1: Scalar("Uint32", 0)}],
        1: [{0: "boxes", 1: Scalar("Uint32", 3)}],
        2: "serving_default",
    }
    model = reading(tflite(signatures=[signature]))

    assert model.metadata == {"input0.signature": "images", "output0.signature": "boxes"}


FACTS = {"task": "classify", "imgsz": [8, 8], "names": {0: "circle", 1: "it's", 2: 'a "star"'}}


@pytest.mark.parametrize(
    ("name", "text"), [("metadata.json", json.dumps(FACTS, indent=2)), ("temp_meta.txt", str(FACTS))]
)
def test_an_ultralytics_export_states_task_and_labels(name: str, text: str, reading: Any) -> None:
    table = model_bytes.tflite_metadata(label_file=name)
    model = reading(tflite(metadata={"TFLITE_METADATA": table}) + zipped({name: text}))

    assert model.metadata["task"] == "classify"
    assert model.metadata["imgsz"] == "[8, 8]"
    assert model.labels == ("circle", "it's", 'a "star"')
    assert model.labels_from == f"`names` in {name} inside the file"


@pytest.mark.parametrize(
    "text",
    [
        "{'names': " + "[" * 100_000,
        '{"names": ' + "[" * 900 + "]" * 900 + "}",
        "{'names': " + "-" * 100_000 + "1}",
        "{'names': 1if 2else 3}",
        "{'names': '\\d'}",
        "{'names': {0: 'a', 2: 'b'}}",
        "{" + "'a': 1, " * 100_000 + "}",
        "[1, 2]",
        "\0",
    ],
)
def test_facts_that_make_no_sense_are_no_labels(text: str, reading: Any) -> None:
    model = reading(tflite() + zipped({"metadata.json": text}))

    assert model.labels is None
    assert model.associated_files == ("metadata.json",)


def test_a_damaged_archive_is_refused_with_one_sentence(reading: Any) -> None:
    archive = zipped(LABELS).replace(b"PK\1\2", b"PK\1\7")

    with pytest.raises(ModelError, match=r"model.bin: .*damaged: the archive at its end cannot be read") as error:
        reading(tflite() + archive)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zipped({"labels.txt": "a" * 2_000_000}), "more than 1048576 bytes"),
        (zipped({f"{number}": "" for number in range(300)}), "has 300 files and"),
        (zipped(LABELS, zipfile.ZIP_LZMA), "compressed in a way"),
        (zipped(LABELS, zipfile.ZIP_STORED).replace(b"circle", b"circus"), "cannot be read"),
    ],
    ids=["too large", "too many files", "unbounded compression", "wrong checksum"],
)
def test_an_archive_out_of_bounds_is_refused(archive: bytes, reason: str, reading: Any) -> None:
    model = tflite(metadata={"TFLITE_METADATA": model_bytes.tflite_metadata()})

    with pytest.raises(ModelError, match=reason):
        reading(model + archive)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": (7,)}, "item 7 of a list of 4"),
        ({"outputs": (-1,)}, "item -1 of a list of 4"),
        ({"codes": [builtin(3)]}, "an operator has the number 1, of 1"),
        ({"tensors": [{0: int32s(-5)}], "outputs": (), "operators": []}, r"the shape \(-5,\)"),
        ({"tensors": [{0: int32s(*[1] * 100)}], "outputs": ()}, "100 items, expected at most 64"),
        (
            {"tensors": [{1: Scalar("Int8", 9), 4: {2: floats(float("nan"))}}], "outputs": ()},
            "the scale nan",
        ),
        ({"metadata": {"TFLITE_METADATA": b"\xff\xff\xff\x7fM001"}}, "points outside"),
    ],
)
def test_what_no_sound_file_says_is_refused(changes: dict[str, Any], reason: str, reading: Any) -> None:
    with pytest.raises(ModelError, match=f"the model file is damaged: .*{reason}.*: copy or download it again"):
        reading(tflite(**changes))


def test_a_list_longer_than_the_file_is_refused(reading: Any) -> None:
    shape = struct.pack("<5I", 4, 1, 8, 8, 3)
    content = tflite()
    assert content.count(shape) == 1

    with pytest.raises(ModelError, match="one of its lists has 2147483648 items, more than the file can hold"):
        reading(content.replace(shape, struct.pack("<I", 2**31) + shape[4:]))
