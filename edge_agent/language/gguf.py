"""Language models in llama.cpp: one .gguf file, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""

import codecs
import ctypes
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import reason
from edge_agent.errors import InputError, MissingExtraError, ModelError
from edge_agent.language import CHUNK, Vocabulary
from edge_agent.system.text import decode_lenient

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    import llama_cpp as llama
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter
except ImportError as error:
    raise MissingExtraError("running .gguf models", "gguf", error) from None

# Bytes of a key or value, and of a logit.
_BYTES_OF_A_HALF, _BYTES_OF_A_NUMBER = 2, 4
_MAX_PIECE = 4096
_NULL_LOG = llama.llama_log_callback(lambda _level, _text, _data: None)


class GgufSession:
    """A context of llama.cpp."""

    def __init__(self, model: Any, size: int, context: int, threads: int) -> None:
        options = llama.llama_context_default_params()
        options.n_ctx = context
        options.n_batch = options.n_ubatch = CHUNK
        options.n_threads = options.n_threads_batch = threads
        self._size = size
        self._context = llama.llama_init_from_model(model, options)
        if not self._context:
            raise ModelError("llama.cpp has no memory for another conversation")

    def __del__(self) -> None:
        """Frees it."""
        if self._context:
            llama.llama_free(self._context)

    def extend(self, tokens: Sequence[int]) -> None:
        """See `Session.extend`.

        Raises:
            ModelError: the inference fails.
        """
        for start in range(0, len(tokens), CHUNK):
            part = tokens[start : start + CHUNK]
            numbers = (llama.llama_token * len(part))(*part)  # a name keeps it alive: the batch does not
            if problem := llama.llama_decode(self._context, llama.llama_batch_get_one(numbers, len(part))):
                raise ModelError(f"inference failed: llama.cpp says {problem}")

    def logits(self) -> "NDArray[np.float32]":
        """See `Session.logits`."""
        values = llama.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(values, shape=(self._size,)).copy()

    def rewind(self, length: int) -> bool:
        """See `Session.rewind`."""
        return bool(llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), 0, length, -1))


class GgufEngine:
    """A model of llama.cpp."""

    runtime = f"llama.cpp (llama-cpp-python {llama.__version__})"

    def __init__(self, path: Path, threads: int, context: int) -> None:
        llama.llama_log_set(_NULL_LOG, ctypes.c_void_p(0))
        llama.llama_backend_init()
        options = llama.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = llama.llama_model_load_from_file(str(path).encode(), options)
        if not self._model:
            raise ModelError(f"{self.runtime} refuses the model: it is damaged, or of a kind that it does not know")
        self._threads = threads
        self._words = llama.llama_model_get_vocab(self._model)
        self._bos = llama.llama_vocab_bos(self._words)
        size = llama.llama_vocab_n_tokens(self._words)
        self.context = min(context, llama.llama_model_n_ctx_train(self._model))
        # Keys and values for the whole context, and the logits of one chunk.
        heads, kv_heads = llama.llama_model_n_head(self._model), llama.llama_model_n_head_kv(self._model)
        width = llama.llama_model_n_embd(self._model) * kv_heads // max(1, heads)
        cached = 2 * llama.llama_model_n_layer(self._model) * width * self.context
        self.session_size = _BYTES_OF_A_HALF * cached + _BYTES_OF_A_NUMBER * CHUNK * size
        ends = tuple(token for token in range(size) if llama.llama_vocab_is_eog(self._words, token))
        self.vocabulary = Vocabulary(size, ends)
        template = llama.llama_model_chat_template(self._model, None)
        self._format = template and self._formatter(decode_lenient(template))

    def encode(self, text: str) -> list[int]:
        """See `LanguageEngine.encode`."""
        data = text.encode()
        room = len(data) + 8
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._words, data, len(data), tokens, room, True, True)
        if count < 0:
            raise InputError("the prompt can't be made into tokens")
        found = [int(token) for token in tokens[:count]]
        # If the chat template writes the BOS token as well, it is there twice.
        return found[1:] if found[:2] == [self._bos, self._bos] else found

    def has_template(self) -> bool:
        """See `LanguageEngine.has_template`."""
        return bool(self._format)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See `LanguageEngine.chat`."""
        if not self._format:
            raise InputError("the model has no template for conversations: send a prompt instead of messages")
        try:
            return str(self._format(messages=list(messages)).prompt)
        except Exception as error:  # noqa: BLE001 - a template is a program and may raise anything
            raise InputError(f"the model's template does not take these messages: {reason(error)}") from None

    def decoder(self) -> Callable[[int], str]:
        """See `LanguageEngine.decoder`."""
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: characters.decode(self._piece(token))

    def session(self) -> GgufSession:
        """See `LanguageEngine.session`."""
        return GgufSession(self._model, self.vocabulary.size, self.context, self._threads)

    def constraint_tokenizer(self) -> Any:
        """See `LanguageEngine.constraint_tokenizer`."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it uses deprecated names of llama.cpp
            return lltokenizer_from_vocab(self._words, eos_token=list(self.vocabulary.ends))

    def _piece(self, token: int, *, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(_MAX_PIECE)
        count = llama.llama_token_to_piece(self._words, token, buffer, _MAX_PIECE, 0, special)
        return buffer.raw[: max(0, count)]

    def _formatter(self, template: str) -> Any:
        ends = llama.llama_vocab_eos(self._words)
        texts = [decode_lenient(self._piece(token, special=True)) if token >= 0 else "" for token in (ends, self._bos)]
        try:
            return Jinja2ChatFormatter(template, eos_token=texts[0], bos_token=texts[1])
        except Exception as error:
            raise ModelError(f"its template for conversations can't be used: {reason(error)}") from error


def load(path: Path, threads: int, context: int) -> GgufEngine:
    """Loads a model file.

    Raises:
        ModelError: llama.cpp refuses it.
    """
    return GgufEngine(path, threads, context)
