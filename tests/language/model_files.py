"""Language models with random weights, in the layout of onnxruntime-genai; made in a moment, without any download.

Such a model says nothing that makes sense, always the same with one seed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.recipes import llama

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, END_OF_TURN = range(3)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape(llama.Shape):
    """The sizes of a model; the default takes about 200 kB."""

    vocabulary: int = 400
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 96
    context: int = 512
    base: float = 100_000.0
    int4: bool = False


SMALL = Shape()
SMOLLM2_135M = Shape(49152, 576, 30, 9, 3, 1536, 2048, int4=True)
"""https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json, with a shorter context."""


def write_model(
    folder: Path, shape: Shape = SMALL, seed: int = 1, *, chat: bool = True, template: str = CHAT_TEMPLATE
) -> Path:
    """Writes a folder that onnxruntime-genai loads; returns it."""
    llama.write_folder(folder, shape, _Random(shape, seed), SPECIAL, template if chat else None)
    write_json(folder / "tokenizer.json", tokenizer(shape))
    return folder


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


class _Random:
    """Weights by chance; see `llama.Weights`."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._random = np.random.default_rng(seed)

    def words(self) -> NDArray[np.float32]:
        return self._random.standard_normal((self._shape.vocabulary, self._shape.hidden), np.float32)

    def norm(self, _name: str) -> NDArray[np.float32]:
        return np.ones(self._shape.hidden, np.float32)

    def linear(self, name: str, rows: int, columns: int) -> llama.Packed | NDArray[np.float32]:
        # A text goes on until it is cut short.
        silent = [END_OF_TEXT, END_OF_TURN] if name == "words" else []
        if not self._shape.int4:
            weights: NDArray[np.float32] = self._random.standard_normal((columns, rows), np.float32)
            weights /= np.sqrt(columns, dtype=np.float32)
            weights[:, silent] = 0
            return weights
        blocks = columns // llama.BLOCK
        packed = self._random.integers(0, 256, (rows, blocks, llama.BLOCK // 2), np.uint8)
        # 4-bit numbers from -8 to 7, evenly spread, have a standard deviation of 4.6.
        scales = np.full((rows, blocks), 1 / (4.6 * np.sqrt(columns)), np.float32)
        scales[silent] = 0
        return llama.Packed(packed, scales, bits=4, accuracy=4)


def tokenizer(shape: Shape) -> dict[str, Any]:
    """Byte pairs: single bytes, then pairs of common letters, then pairs of those."""
    alphabet = list(bytes_as_text().values())
    words = [*SPECIAL, *alphabet]
    letters = [" etaoinshrdlu".replace(" ", "Ġ")[i] for i in range(13)] + list("bcfgjkmpqvwxyz")
    merges: list[str] = []
    known = set(words)
    parts: list[str] = letters
    while len(words) < shape.vocabulary:
        longer = [f"{a} {b}" for a in parts for b in parts if a + b not in known and not b.startswith("Ġ")]
        for merge in longer[: shape.vocabulary - len(words)]:
            word = merge.replace(" ", "")
            if word not in known:
                known.add(word)
                words.append(word)
                merges.append(merge)
        parts = [merge.replace(" ", "") for merge in merges][: 2 * len(parts)]
    specials = [
        {"id": index, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for index, token in enumerate(SPECIAL)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": {word: index for index, word in enumerate(words)},
            "merges": merges,
        },
    }


def bytes_as_text() -> dict[int, str]:
    """How byte-level vocabularies write bytes: https://github.com/openai/gpt-2/blob/master/src/encoder.py."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
