import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.decoders.families import OF_PICTURES
from edge_agent.decoders.nearest import unknown_outputs
from edge_agent.decoders.raw import MAX_BYTES, MAX_LISTED, Raw
from edge_agent.engines import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.models.io_spec import Stated, derive
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import content_of
from edge_agent.settings import Preprocess as PreprocessSettings
from tests.decoders.scenes import ALL, as_it_is, facts

UNIT = PreprocessSettings(normalize="unit")


def published(*outputs: Any, count: int = 1, **quantised: Any) -> list[dict[str, Any]]:
    specs = [TensorSpec(f"out{n}", array.shape, array.dtype.name, **quantised) for n, array in enumerate(outputs)]
    content = content_of(Raw(specs)(outputs, [as_it_is()] * count, ALL), "raw")
    assert list(content) == ["tensors"]
    tensors: list[dict[str, Any]] = content["tensors"]
    return tensors


def test_tensors_are_published_as_they_are() -> None:
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    assert published(scores, np.array([3], np.int64), np.array([[True]]), np.array([[0.5]], np.float16)) == [
        {"name": "out0", "shape": [1, 3], "dtype": "float32", "values": [[0.1, 0.7, 0.2]]},
        {"name": "out1", "shape": [1], "dtype": "int64", "values": [3]},
        {"name": "out2", "shape": [1, 1], "dtype": "bool", "values": [[True]]},
        {"name": "out3", "shape": [1, 1], "dtype": "float16", "values": [[0.5]]},
    ]


def test_quantised_tensors_have_their_stored_values_and_how_to_read_them() -> None:
    (tensor,) = published(np.array([[-128, 127]], np.int8), scale=0.5, zero_point=-128)
    assert (tensor["values"], tensor["scale"], tensor["zero_point"]) == ([[-128, 127]], 0.5, -128)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(MAX_LISTED + 1, dtype=np.float32)[None],
        np.array([[1, np.nan, np.inf]], np.float32),
        np.zeros((1, 2000), np.int8),
    ],
)
def test_large_tensors_and_nan_are_base64_of_their_bytes(array: Any) -> None:
    (tensor,) = published(array)
    again = np.frombuffer(base64.b64decode(tensor["values"]), tensor["dtype"]).reshape(tensor["shape"])
    np.testing.assert_array_equal(again, array)


def test_each_region_has_tensors_of_its_own() -> None:
    tensors = published(np.array([[1, 2], [3, 4]], np.float32), count=2)
    assert [(one["shape"], one["values"]) for one in tensors] == [([1, 2], [[1.0, 2.0]]), ([1, 2], [[3.0, 4.0]])]
    with pytest.raises(ModelError, match="can't be used with several regions"):
        published(np.array([1, 2, 3], np.float32), count=2)


def test_outputs_that_no_broker_would_take_are_refused() -> None:
    with pytest.raises(ModelError, match="publishes at most"):
        published(np.zeros((1, MAX_BYTES + 1), np.int8))


def test_any_outputs_can_be_published_raw() -> None:
    file = facts((1, 40, 40, 7), (3,), (1, 2, 3, 4, 5))
    spec = derive(file, Stated(decoder="raw", preprocess=UNIT))
    assert (spec.family, spec.task, spec.labels) == ("raw", "raw", None)
    assert isinstance(spec.preprocess, Preprocess)


def test_unknown_outputs_name_what_was_seen_the_nearest_families_and_what_to_state() -> None:
    said = unknown_outputs(facts((1, 400, 4), (1, 400, 2), (1, 400, 10)), OF_PICTURES)
    assert "out0 [1, 400, 4] float32, out1 [1, 400, 2] float32" in said
    assert "retinaface gives [1, priors, 4], [1, priors, 2] and [1, priors, 10]" in said
    assert "the sizes here do not fit its pattern for the input [1, 64, 64, 3]" in said
    assert "decoder: embedding" in said
    assert "decoder: raw" in said


def test_outputs_of_open_sizes_that_no_family_knows_are_said_to_be_so() -> None:
    said = unknown_outputs(facts((1, 84, -1)), OF_PICTURES)
    assert "leaves sizes of its outputs open (-1): export it with fixed sizes" in said
    assert "nearest" not in said


def test_the_public_embedding_is_asked_about_by_name(data_dir: Path) -> None:
    from edge_agent.modelfile.inspect import read

    file = read(data_dir / "met_in_the_wild" / "osnet.onnx")
    with pytest.raises(ModelError, match="state decoder: embedding"):
        derive(file, Stated(preprocess=UNIT))
    assert derive(file, Stated(decoder="embedding", preprocess=UNIT)).task == "embedding"
