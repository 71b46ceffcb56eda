"""Small models of numbers, written byte by byte."""

import struct
from pathlib import Path

from edge_agent import settings
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.resolve import resolve_model
from edge_agent.settings.series import Input
from tests.models.model_bytes import message, node, value_info

_FLOAT = 1


def clipping_autoencoder(length: int | str, batch: int | str = "batch") -> bytes:
    """Gives back its input, but nothing below -1 and above 1: each 2 in a row of N zeros scores 1 / N."""
    graph = message(
        (1, node("Clip", ("readings", "least", "most"), ("readings again",))),
        (2, "clips"),
        (5, _number("least", -1.0)),
        (5, _number("most", 1.0)),
        (11, value_info("readings", _FLOAT, batch, length)),
        (12, value_info("readings again", _FLOAT, batch, length)),
    )
    return message((1, 7), (7, graph), (8, message((1, ""), (2, 13))))


def adding_up(length: int) -> bytes:
    """Stateful: answers, through a sigmoid, the sum of all that it was ever given, times a constant."""
    graph = message(
        (1, node("ReduceSum", ("readings",), ("now",))),
        (1, node("Mul", ("now", "factor"), ("weighed",))),
        (1, node("Add", ("weighed", "sum"), ("next sum",))),
        (1, node("Reshape", ("next sum", "row"), ("in a row",))),
        (1, node("Sigmoid", ("in a row",), ("scores",))),
        (2, "adds up"),
        (5, message((1, 2), (2, 7), (8, "row"), (9, struct.pack("<2q", 1, 1)))),
        (11, value_info("readings", _FLOAT, "batch", length)),
        (11, value_info("sum", _FLOAT, 1, 1)),
        (11, value_info("factor", _FLOAT)),
        (12, value_info("scores", _FLOAT, 1, 1)),
        (12, value_info("next sum", _FLOAT, 1, 1)),
    )
    return message((1, 7), (7, graph), (8, message((1, ""), (2, 13))))


def _number(name: str, value: float) -> bytes:
    return message((2, _FLOAT), (8, name), (9, struct.pack("<f", value)))


def autoencoder(folder: Path, size: int | str, **stated: object) -> Model:
    """A loaded `clipping_autoencoder`; what is stated of its input."""
    path = folder / "clips.onnx"
    path.write_bytes(clipping_autoencoder(size))
    options = settings.Model(path=path, input=Input.model_validate({"kind": "series"} | stated))
    return models.load_unqualified("clips", resolve_model(options, folder))
