"""Language models: a request becomes text, token by token.

The model runs in a process of its own (`worker.py`), at a lower priority: its runtime holds Python's lock while it
reads a prompt, and a broken model can crash it. `generation.py` is what happens there; `process.py` is this side.
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
# Tokens of a prompt that are read at a time; between them it can be cancelled. Larger ones are no faster.
CHUNK = 64
# Conversations that are kept, at most, however small they are.
MAX_SESSIONS = 16


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens.

    Attributes:
        size: number of values that the model gives for each token.
        ends: tokens that end an answer.
    """

    size: int
    ends: tuple[int, ...]


class Session(Protocol):
    """What a model has read so far, and can go on from."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Reads on."""
        ...

    def logits(self) -> "NDArray[np.float32]":
        """(vocabulary,): what the next token may be, after the last one that was read."""
        ...

    def rewind(self, length: int) -> bool:
        """Forgets all but the first `length` tokens; False if it can't, and must not be used any more."""
        ...


class LanguageEngine(Protocol):
    """A language model in one runtime. Belongs to one thread."""

    runtime: str
    """Name and version of the runtime."""
    context: int
    """Tokens that a session holds, prompt and answer together."""
    session_size: int
    """Bytes that a session takes at most."""
    vocabulary: Vocabulary

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; those with a meaning of their own may stand in it as they are written."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A conversation as the model was trained to read it, up to where its answer begins.

        Raises:
            InputError: the model has no template for conversations, or that can't take this one.
        """
        ...

    def has_template(self) -> bool:
        """Whether the model was trained on conversations."""
        ...

    def decoder(self) -> Callable[[int], str]:
        """A function that takes the tokens of an answer one by one and gives the characters that each completes."""
        ...

    def constraint_tokenizer(self) -> Any:
        """The tokens in the form that constraints need: an `LLTokenizer` of llguidance; takes up to a second.

        Raises:
            ValueError: they are of a kind that is not supported.
        """
        ...

    def session(self) -> Session:
        """A new session in which nothing has been read."""
        ...


def load_engine(path: Path, file_format: str, threads: int, context: int) -> LanguageEngine:
    """Loads a model.

    Args:
        path: of the folder or file.
        file_format: one of `ENGINES`.
        threads: CPU threads.
        context: most tokens of a session; the model's own limit holds besides.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime refuses the model.
    """
    module = importlib.import_module(ENGINES[file_format])
    return cast("LanguageEngine", module.load(path, threads, context))
