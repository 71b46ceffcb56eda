"""Language models: a request becomes text, token by token.

The model runs in a process of its own (`worker.py`), at a lower priority: its runtime holds the GIL while it reads a
prompt, and a broken model can crash it. There, `batching.py` answers several requests at once, each of them a
`generation.py`; `process.py` is the parent's side.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Format of the model -> the module that runs it, imported in the worker.
ENGINES = {
    "genai": "edge_agent.language.genai",
    "gguf": "edge_agent.language.gguf",
}
# Tokens of prompts that are read in one call; between two calls a request can be cancelled, and answers in progress get
# their next token. Larger chunks are no faster.
CHUNK = 64
# Sessions that are cached, at most, however small they are.
MAX_SESSIONS = 16


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        size: length of the logits.
        ends: tokens that end an answer.
    """

    size: int
    ends: tuple[int, ...]


class Session(Protocol):
    """The state of a model after the tokens that it has read: keys and values. It can read on from there."""

    def logits(self) -> "NDArray[np.float32]":
        """Scores for the token that follows the last one that was read, shape (vocabulary,), float32."""
        ...

    def rewind(self, length: int) -> bool:
        """Drops all but the first `length` tokens; False if it can't: then the session must not be used any more."""
        ...


class LanguageEngine(Protocol):
    """A language model in one runtime. Belongs to one thread."""

    runtime: str
    """Name and version of the runtime."""
    context: int
    """Tokens that a session holds, prompt and answer together."""
    session_size: int
    """Bytes that a session takes, at most."""
    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Tokens of a text. Special tokens may stand in the text as they are written."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Applies the chat template: the text of a conversation, up to where the answer begins.

        Raises:
            InputError: the model has no chat template, or the template refuses this conversation.
        """
        ...

    def has_template(self) -> bool:
        """Whether the model has a chat template."""
        ...

    def decoder(self) -> Callable[[int], str]:
        """A function that takes the tokens of an answer one by one and returns the characters that each completes."""
        ...

    def constraint_tokenizer(self) -> Any:
        """The vocabulary in the form that constraints need: an `LLTokenizer` of llguidance; takes up to a second.

        Raises:
            ValueError: llguidance does not support this kind of tokenizer.
        """
        ...

    def reserve(self, sessions: int) -> None:
        """Makes room for this many sessions; those that there are must not be used any more.

        Raises:
            ModelError: there is no memory for them.
        """
        ...

    def session(self, number: int) -> Session:
        """An empty session. Those with adjacent numbers are read together fastest.

        Args:
            number: of its place, below what was reserved. A session that had it before must not be used any more.
        """
        ...

    def extend(self, parts: "Sequence[tuple[Any, Sequence[int]]]") -> None:
        """Reads on in several sessions, in one batch if the runtime can do that.

        Args:
            parts: sessions, each at most once, and the tokens to read there: one each, and `CHUNK` besides, at most.

        Raises:
            ModelError: the inference fails; the state of all sessions is unknown then.
        """
        ...


def load_engine(path: Path, file_format: str, threads: int, context: int) -> LanguageEngine:
    """Loads a model.

    Args:
        path: of the folder or file.
        file_format: one of `ENGINES`.
        threads: CPU threads.
        context: tokens of a session, at most; the model's own limit also applies.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the model.
    """
    module = importlib.import_module(ENGINES[file_format])
    return cast("LanguageEngine", module.load(path, threads, context))
