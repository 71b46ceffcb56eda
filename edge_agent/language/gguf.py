"""Language models in llama.cpp: one .gguf file, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""

import codecs
import ctypes
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import reason
from edge_agent.errors import InputError, MissingExtraError, ModelError
from edge_agent.language import CHUNK, Vocabulary
from edge_agent.language.llama import CONTROL, USER_DEFINED, Llama
from edge_agent.system.text import decode_lenient
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError as error:
    raise MissingExtraError("running .gguf models", "language", error) from None

# Bytes of a key or value, and of a logit.
_BYTES_OF_A_HALF, _BYTES_OF_A_NUMBER = 2, 4
_MAX_PIECE, _MAX_VALUE = 4096, 64
# Templates end where the answer begins, and the model is not to think aloud before it answers.
_CHOICES = {"add_generation_prompt": True, "enable_thinking": False}
# llama.cpp rounds contexts up to multiples of this.
_CONTEXT_STEP = 256


class GgufSession:
    """A sequence in the context of an engine.

    Attributes:
        number: its sequence id.
        length: tokens that it holds.
        scores: see `logits`; set by the engine.
    """

    def __init__(self, llama: Llama, memory: int, number: int) -> None:
        self.number = number
        self.length = 0
        self.scores: NDArray[np.float32]
        self._llama = llama
        self._memory = memory
        llama.memory_seq_rm(memory, number, -1, -1)

    def logits(self) -> "NDArray[np.float32]":
        """See `Session.logits`."""
        return self.scores

    def rewind(self, length: int) -> bool:
        """See `Session.rewind`."""
        self.length = length
        return bool(self._llama.memory_seq_rm(self._memory, self.number, length, -1))


class _Context:
    """A context of llama.cpp, and a batch. Each sequence has its own part of the keys and values."""

    def __init__(self, llama: Llama, model: int, sequences: int, context: int, threads: int) -> None:
        self.llama = llama
        self.size = CHUNK + sequences
        options = llama.context_default_params()
        options.n_ctx, options.n_seq_max = sequences * context, sequences
        options.n_batch = options.n_ubatch = self.size
        self.pointer = llama.init_from_model(model, options)
        if not self.pointer:
            raise ModelError(f"llama.cpp has no memory for {counted(sequences, 'conversation')} of {context} tokens")
        llama.set_n_threads(self.pointer, threads, threads)
        self.memory = llama.get_memory(self.pointer)
        self.batch = llama.batch_init(self.size, 0, 1)

    def __del__(self) -> None:
        """Frees it."""
        if self.pointer:
            self.llama.batch_free(self.batch)
            self.llama.free(self.pointer)


class GgufEngine:
    """A model of llama.cpp."""

    _context: _Context

    def __init__(self, path: Path, threads: int, context: int) -> None:
        self._llama = llama = Llama()
        self.runtime = f"llama.cpp {decode_lenient(llama.version() or b'')}".strip()
        self._model = llama.model_load_from_file(str(path).encode(), llama.model_default_params())
        if not self._model:
            raise ModelError(f"{self.runtime} refuses the model: it is damaged, or of a kind that it does not know")
        self._threads = threads
        self._words = llama.model_get_vocab(self._model)
        self._bos = llama.vocab_bos(self._words)
        size = llama.vocab_n_tokens(self._words)
        self.context = min(context, llama.model_n_ctx_train(self._model))
        # Keys and values for the whole context, and the logits of one chunk.
        self._rows = -(-self.context // _CONTEXT_STEP) * _CONTEXT_STEP
        cached = self._rows * llama.model_n_layer(self._model) * llama.model_n_head_kv(self._model) * self._head_sizes()
        self.session_size = _BYTES_OF_A_HALF * cached + _BYTES_OF_A_NUMBER * CHUNK * size
        ends = tuple(token for token in range(size) if llama.vocab_is_eog(self._words, token))
        self.vocabulary = Vocabulary(size, ends)
        template = llama.model_chat_template(self._model, None)
        self._template = template and _compiled(decode_lenient(template))

    def _head_sizes(self) -> int:
        """Numbers of a key and of a value of one head."""
        llama = self._llama
        stated = [self._stated(f"attention.{name}") for name in ("key_length", "value_length")]
        usual = llama.model_n_embd(self._model) // max(1, llama.model_n_head(self._model))
        return sum(int(size) if size.isdecimal() else usual for size in stated)

    def _stated(self, name: str) -> str:
        """A value in the file that belongs to its architecture; empty if there is none."""
        buffer = ctypes.create_string_buffer(_MAX_VALUE)

        def read(key: str) -> str:
            found = self._llama.model_meta_val_str(self._model, key.encode(), buffer, _MAX_VALUE)
            return decode_lenient(buffer.value) if found >= 0 else ""

        return read(f"{read('general.architecture')}.{name}")

    def encode(self, text: str) -> list[int]:
        """See `LanguageEngine.encode`."""
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        count = self._llama.tokenize(self._words, data, len(data), tokens, room, True, True)
        if count < 0:
            raise InputError("the prompt can't be made into tokens")
        found = [int(token) for token in tokens[:count]]
        # If the chat template writes the BOS token as well, it is there twice.
        return found[1:] if found[:2] == [self._bos, self._bos] else found

    def has_template(self) -> bool:
        """See `LanguageEngine.has_template`."""
        return bool(self._template)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See `LanguageEngine.chat`."""
        if not self._template:
            raise InputError("the model has no template for conversations: send a prompt instead of messages")
        try:
            return str(self._template.render(messages=list(messages), **self._marks, **_CHOICES))
        except Exception as error:  # noqa: BLE001 - a template is a program and may raise anything
            raise InputError(f"the model's template does not take these messages: {reason(error)}") from None

    def decoder(self) -> Callable[[int], str]:
        """See `LanguageEngine.decoder`."""
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: characters.decode(self.piece(token))

    def reserve(self, sessions: int) -> None:
        """See `LanguageEngine.reserve`."""
        vars(self).pop("_context", None)  # its memory first
        self._context = _Context(self._llama, self._model, sessions, self._rows, self._threads)

    def session(self, number: int) -> GgufSession:
        """See `LanguageEngine.session`."""
        return GgufSession(self._llama, self._context.memory, number)

    def extend(self, parts: Sequence[tuple[GgufSession, Sequence[int]]]) -> None:
        """See `LanguageEngine.extend`."""
        batch, place, ends = self._context.batch, 0, list[tuple[GgufSession, int]]()
        # llama.cpp reads sequences together whose numbers follow each other.
        for session, tokens in sorted(parts, key=lambda part: part[0].number):
            for token in tokens:
                batch.token[place], batch.pos[place] = token, session.length
                batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, session.number, 0
                session.length += 1
                place += 1
            batch.logits[place - 1] = 1
            ends.append((session, place - 1))
        batch.n_tokens = place
        if problem := self._llama.decode(self._context.pointer, batch):
            raise ModelError(f"inference failed: llama.cpp says {problem}")
        for session, last in ends:
            values = self._llama.get_logits_ith(self._context.pointer, last)
            session.scores = np.ctypeslib.as_array(values, shape=(self.vocabulary.size,)).copy()

    def constraint_tokenizer(self) -> Any:
        """See `LanguageEngine.constraint_tokenizer`."""
        import llguidance

        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Tokens(self)),
            n_vocab=self.vocabulary.size,
            eos_token=list(self.vocabulary.ends),
        )

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; those of a special one are none, or its name."""
        buffer = ctypes.create_string_buffer(_MAX_PIECE)
        count = self._llama.token_to_piece(self._words, token, buffer, _MAX_PIECE, 0, special)
        return buffer.raw[: max(0, count)]

    def is_special(self, token: int, name: bytes) -> bool:
        """Whether a token stands for no text: a mark of the template, for example."""
        kind = self._llama.vocab_get_attr(self._words, token)
        looks_so = name.startswith(b"<") and name.endswith(b">")
        return bool(kind & CONTROL or (kind & USER_DEFINED and looks_so))

    @cached_property
    def _marks(self) -> dict[str, str]:
        """What templates know of the vocabulary."""
        marks = {"eos_token": self._llama.vocab_eos(self._words), "bos_token": self._bos}
        return {
            name: decode_lenient(self.piece(token, special=True)) if token >= 0 else "" for name, token in marks.items()
        }


class _Tokens:
    """The vocabulary of an engine as `llguidance.TokenizerWrapper` takes it."""

    def __init__(self, engine: GgufEngine) -> None:
        self._engine = engine
        self.eos_token_id = engine.vocabulary.ends[0]
        self.bos_token_id = None
        self.tokens = [engine.piece(token, special=True) for token in range(engine.vocabulary.size)]
        self.special_token_ids = [token for token, name in enumerate(self.tokens) if engine.is_special(token, name)]

    def __call__(self, text: bytes | str) -> list[int]:
        """Tokens of a text."""
        return self._engine.encode(text if isinstance(text, str) else decode_lenient(text))


def _compiled(template: str) -> Any:
    """A template for conversations; it comes with the model, so it runs in Jinja's sandbox.

    Raises:
        ModelError: it can't be read.
    """
    # As in https://huggingface.co/docs/transformers/chat_templating.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _as_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ModelError(f"its template for conversations can't be used: {reason(error)}") from error


def _as_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return time.strftime(form)


def load(path: Path, threads: int, context: int) -> GgufEngine:
    """Loads a model file.

    Raises:
        ModelError: llama.cpp refuses it.
    """
    return GgufEngine(path, threads, context)
