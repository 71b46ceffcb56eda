"""Reads the sizes of a language model: https://onnxruntime.ai/docs/genai/reference/config.html."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.engines import reason
from edge_agent.errors import ModelError
from edge_agent.language import CHUNK
from edge_agent.system.text import parse_json, read_file

CONFIG = "genai_config.json"
MAX_SIZE = 1_000_000
_BYTES_OF_A_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a model.

    Attributes:
        context: tokens of a session, at most.
        vocabulary: length of the logits.
        cached: numbers that a session keeps for each token (keys and values).
    """

    context: int
    vocabulary: int
    cached: int

    def session(self, context: int) -> int:
        """Bytes of a session: keys and values of the whole context, and the logits for one chunk of a prompt."""
        return _BYTES_OF_A_NUMBER * (self.cached * min(context, self.context) + CHUNK * self.vocabulary)


def read_sizes(folder: Path) -> Sizes:
    """The sizes of the model in a folder.

    Raises:
        ModelError: `genai_config.json` is missing, damaged or incomplete.
    """
    try:
        model: Any = parse_json(read_file(folder / CONFIG, MAX_SIZE))["model"]
        decoder = model["decoder"]
        layers, heads, size = (decoder[key] for key in ("num_hidden_layers", "num_key_value_heads", "head_size"))
        context, vocabulary = model["context_length"], model["vocab_size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{CONFIG} can't be used: {reason(error)}") from None
    numbers = (layers, heads, size, context, vocabulary)
    if not all(isinstance(number, int) and 0 < number < 2**31 for number in numbers):
        raise ModelError(f"{CONFIG} can't be used: its sizes must be whole numbers above 0")
    return Sizes(context, vocabulary, 2 * layers * heads * size)
