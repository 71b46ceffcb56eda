"""Model files that do harm when they are run: they hang, take all memory, or crash the runtime."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.models.shipped import shipped
from tests.models.model_bytes import message, node, value_info

# The bit of the shipped digits.tflite that, when it flips, makes LiteRT 2.3.0 read where nothing is.
_FATAL_BYTE, _FATAL_BIT = 557, 1
_FLOAT, _INT64, _BOOL = 1, 7, 9


def classifier_options(path: Path) -> settings.Model:
    """Settings with which these models are read as classifiers of pictures."""
    return settings.Model.model_validate({"path": path, "labels": "none", "preprocess": {"normalize": "unit"}})


def hanging_onnx() -> bytes:
    """A loop of 2^62 rounds."""
    body = message(
        (1, node("Identity", ("go on",), ("go on still",))),
        (1, node("Neg", ("value",), ("next value",))),
        (2, "body"),
        (11, value_info("round", _INT64)),
        (11, value_info("go on", _BOOL)),
        (11, value_info("value", _FLOAT, 1, 1, 16, 2)),
        (12, value_info("go on still", _BOOL)),
        (12, value_info("next value", _FLOAT, 1, 1, 16, 2)),
    )
    loop = node("Loop", ("rounds", "yes", "image"), ("looped",)) + message(
        (5, message((1, "body"), (6, body), (20, 5)))
    )
    return _classifier(
        loop, constants=(_tensor("rounds", _INT64, struct.pack("<q", 2**62)), _tensor("yes", _BOOL, b"\1"))
    )


def memory_eating_onnx(count: int, *, only_if_bright: bool = False) -> bytes:
    """Fills a tensor of so many float32 and adds their sum to the picture, each time or only to a white one."""
    if only_if_bright:
        return _classifier(
            node("ReduceMean", ("image",), ("mean",)),
            node("Sub", ("mean", "nearly white"), ("above",)),
            node("Relu", ("above",), ("bright",)),
            node("Mul", ("bright", "count"), ("real count",)),
            node("Cast", ("real count",), ("whole count",)) + message((5, message((1, "to"), (3, _INT64), (20, 2)))),
            node("Reshape", ("whole count", "one"), ("shape",)),
            node("ConstantOfShape", ("shape",), ("filled",)),
            node("ReduceSum", ("filled",), ("sum",)),
            node("Add", ("image", "sum"), ("looped",)),
            constants=(
                _tensor("nearly white", _FLOAT, struct.pack("<f", 0.9)),
                _tensor("count", _FLOAT, struct.pack("<f", count / 0.1)),
                _tensor("one", _INT64, struct.pack("<q", 1), 1),
            ),
        )
    shape = _tensor("shape", _INT64, struct.pack("<q", count), 1)
    return _classifier(
        node("ConstantOfShape", ("shape",), ("filled",)),
        node("ReduceSum", ("filled",), ("sum",)),
        node("Add", ("image", "sum"), ("looped",)),
        constants=(shape,),
    )


def _classifier(*nodes: bytes, constants: tuple[bytes, ...]) -> bytes:
    """From `image` the given nodes make `looped`, and sigmoid scores of 32 classes come of that."""
    graph = message(
        *(
            (1, one)
            for one in (*nodes, node("Flatten", ("looped",), ("flat",)), node("Sigmoid", ("flat",), ("scores",)))
        ),
        (2, "harm"),
        *((5, one) for one in constants),
        (11, value_info("image", _FLOAT, 1, 1, 16, 2)),
        (12, value_info("scores", _FLOAT, 1, 32)),
    )
    return message((1, 7), (7, graph), (8, message((1, ""), (2, 12))))


def _tensor(name: str, dtype: int, content: bytes, *shape: int) -> bytes:
    return message(*((1, size) for size in shape), (2, dtype), (8, name), (9, content))


def crashing_tflite(folder: Path) -> Path:
    """A file of the digit reader that crashes the installed runtime; skips the test if it does not."""
    content = bytearray(shipped("digits/digits.tflite").read_bytes())
    content[_FATAL_BYTE] ^= 1 << _FATAL_BIT
    path = folder / "crashing.tflite"
    path.write_bytes(content)
    script = (
        "import sys; from pathlib import Path; from edge_agent.engines import load_engine; import numpy as np;"
        "from edge_agent.testing.engine_contract import identity;"
        "engine = load_engine(identity(Path(sys.argv[1])), 'cpu', 1);"
        "engine.run([np.zeros((1, 32, 24, 1), np.int8)])"
    )
    if subprocess.run([sys.executable, "-c", script, path], check=False).returncode >= 0:
        pytest.skip("this version of the runtime, or of the digit reader, does not crash like that")
    return path
