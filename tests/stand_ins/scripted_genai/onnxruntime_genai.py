"""ONNX Runtime GenAI with a model that says what the test wants: a real tokenizer and template, made-up logits.

With this folder in PYTHONPATH. `SCRIPTED_ANSWERS` is JSON: `first`, what it answers, and `then`, what it answers once
the conversation has the result of a call. A constraint still has the last word.
"""

import json
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np

from tests.language.model_files import END_OF_TURN, Shape

_elsewhere = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]
_spec = PathFinder.find_spec(__name__, _elsewhere)
assert _spec is not None
assert _spec.loader is not None
_real = module_from_spec(_spec)
sys.modules[__name__] = _real
_spec.loader.exec_module(_real)
ANSWERS = json.loads(os.environ["SCRIPTED_ANSWERS"])
# What Home Assistant answers when a tool has been called.
RESULT = "Result: "


class Generator:
    """Goes on with the answer of the script."""

    def __init__(self, model: Any, params: Any) -> None:
        del params
        self._tokenizer = _real.Tokenizer(model)
        self._begin = [int(token) for token in self._tokenizer.encode("<|im_start|>assistant\n")]
        self._tokens: list[int] = []

    def append_tokens(self, tokens: Any) -> None:
        """See GenAI."""
        self._tokens += [int(token) for token in tokens]

    def rewind_to(self, length: int) -> None:
        """See GenAI."""
        del self._tokens[length:]

    def get_logits(self) -> Any:
        """See GenAI."""
        size, length = len(self._tokens), len(self._begin)
        begun = [at for at in range(size) if self._tokens[at : at + length] == self._begin]
        said = self._tokens[begun[-1] + length :] if begun else []
        answer = ANSWERS["then" if RESULT in self._tokenizer.decode(self._tokens) else "first"]
        script = [int(token) for token in self._tokenizer.encode(answer)]
        logits = np.zeros((1, 1, Shape.vocabulary), np.float32)
        goes_on = said == script[: len(said)] and len(said) < len(script)
        logits[0, 0, script[len(said)] if goes_on else END_OF_TURN] = 100.0
        return logits


vars(_real)["Generator"] = Generator
