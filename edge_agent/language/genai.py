"""Language models in ONNX Runtime GenAI: a folder with `genai_config.json`, ONNX files and the tokenizer.

https://onnxruntime.ai/docs/genai/reference/config.html
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import reason
from edge_agent.errors import InputError, MissingExtraError, ModelError
from edge_agent.language import Vocabulary
from edge_agent.language.genai_config import read_sizes
from edge_agent.system.text import parse_json, read_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    import onnxruntime_genai as og
except ImportError as error:
    raise MissingExtraError("running language models", "language", error) from None

TOKENIZER = "tokenizer.json"
_FATAL_ONLY = 4
# Some list every added token.
_MAX_TOKENIZER_CONFIG = 50_000_000
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)  # see engines/onnx.py


class GenaiSession:
    """A generator of ONNX Runtime GenAI, which holds the keys and values of the tokens that it has read."""

    def __init__(self, model: Any, context: int) -> None:
        options = og.GeneratorParams(model)
        options.set_search_options(max_length=context, batch_size=1, num_beams=1)
        self._generator = og.Generator(model, options)

    def extend(self, tokens: Sequence[int]) -> None:
        """Reads on."""
        self._generator.append_tokens(np.asarray(tokens, np.int32))

    def logits(self) -> "NDArray[np.float32]":
        """See `Session.logits`."""
        return np.asarray(self._generator.get_logits()[0, -1], np.float32)

    def rewind(self, length: int) -> bool:
        """See `Session.rewind`."""
        try:
            self._generator.rewind_to(length)
        except RuntimeError:  # a model whose state is not one of keys and values per token
            return False
        return True


class GenaiEngine:
    """A model of ONNX Runtime GenAI."""

    runtime = f"ONNX Runtime GenAI {og.__version__}"

    def __init__(self, folder: Path, threads: int, context: int) -> None:
        sizes = read_sizes(folder)
        self.context = min(context, sizes.context)
        config = og.Config(str(folder))
        session_options = {
            "intra_op_num_threads": threads,
            "inter_op_num_threads": 1,
            "session.intra_op.allow_spinning": "0",
            "log_severity_level": _FATAL_ONLY,
        }
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session_options}}}))
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._template = _has_template(folder)
        self.session_size = sizes.session(context)
        ends = tuple(int(token) for token in self._tokenizer.eos_token_ids)
        self.vocabulary = Vocabulary(sizes.vocabulary, ends)
        self._folder = folder

    def encode(self, text: str) -> list[int]:
        """See `LanguageEngine.encode`."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def has_template(self) -> bool:
        """See `LanguageEngine.has_template`."""
        return self._template

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See `LanguageEngine.chat`."""
        if not self._template:
            raise InputError("the model has no template for conversations: send a prompt instead of messages")
        try:
            return str(self._tokenizer.apply_chat_template(json.dumps(list(messages))))
        except RuntimeError as error:
            raise InputError(f"the model's template does not take these messages: {reason(error)}") from None

    def decoder(self) -> Callable[[int], str]:
        """See `LanguageEngine.decoder`."""
        decode: Callable[[int], str] = self._tokenizer.create_stream().decode
        return decode

    def constraint_tokenizer(self) -> Any:
        """See `LanguageEngine.constraint_tokenizer`."""
        import llguidance

        file, words = str(self._folder / TOKENIZER), self.vocabulary
        return llguidance.LLTokenizer(file, n_vocab=words.size, eos_token=list(words.ends))

    def reserve(self, sessions: int) -> None:
        """See `LanguageEngine.reserve`; a session takes its memory when it is made."""

    def session(self, number: int) -> GenaiSession:  # noqa: ARG002 - it has its own generator wherever it is
        """See `LanguageEngine.session`."""
        return GenaiSession(self._model, self.context)

    def extend(self, parts: Sequence[tuple[GenaiSession, Sequence[int]]]) -> None:
        """See `LanguageEngine.extend`: one after the other, since a batch of this runtime begins and ends together."""
        for session, tokens in parts:
            session.extend(tokens)


def load(path: Path, threads: int, context: int) -> GenaiEngine:
    """Loads the model in a folder.

    Raises:
        ModelError: a file is missing or the runtime refuses it; the message has the reason.
    """
    try:
        return GenaiEngine(path, threads, context)
    except RuntimeError as error:
        raise ModelError(f"{GenaiEngine.runtime} refuses the model: {reason(error)}") from error


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(parse_json(read_file(folder / "tokenizer_config.json", _MAX_TOKENIZER_CONFIG)).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False
