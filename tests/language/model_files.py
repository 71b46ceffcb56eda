"""Language models with random weights, in the layout of onnxruntime-genai; made in a moment, without any download.

The graph is that of a Llama: what Hugging Face calls LlamaForCausalLM and the model builder of onnxruntime-genai writes
as GroupQueryAttention and MatMulNBits. Such a model says nothing that makes sense, always the same with one seed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, END_OF_TURN = range(3)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; the default takes about 200 kB."""

    vocabulary: int = 400
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 96
    context: int = 512
    int4: bool = False

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads


SMALL = Shape()
SMOLLM2_135M = Shape(49152, 576, 30, 9, 3, 1536, 2048, int4=True)
"""https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json, with a shorter context."""


def write_model(folder: Path, shape: Shape = SMALL, seed: int = 1, *, chat: bool = True) -> Path:
    """Writes a folder that onnxruntime-genai loads; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_Graph(shape, seed).model(), folder / "model.onnx")
    write_json(folder / "genai_config.json", _genai_config(shape))
    write_json(folder / "tokenizer.json", tokenizer(shape))
    template = {"chat_template": CHAT_TEMPLATE} if chat else {}
    tokens = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "tokenizer_class": "GPT2Tokenizer"}
    write_json(folder / "tokenizer_config.json", tokens | template)
    return folder


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


class _Graph:
    """Puts a graph together, node by node."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        shape = self.shape
        cache: list[str | int] = ["batch", shape.kv_heads, "past", shape.head_size]
        grown: list[str | int] = ["batch", shape.kv_heads, "total", shape.head_size]
        names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
        number, real = TensorProto.INT64, TensorProto.FLOAT
        info = helper.make_tensor_value_info
        inputs = [info("input_ids", number, ["batch", "new"]), info("attention_mask", number, ["batch", "total"])]
        inputs += [info(f"past_key_values.{name}", real, cache) for name in names]
        outputs = [info("logits", real, ["batch", "new", shape.vocabulary])]
        outputs += [info(f"present.{name}", real, grown) for name in names]
        self._forward()
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _forward(self) -> None:
        shape = self.shape
        past_length = self.node("ReduceSum", "attention_mask", self.constant(np.array([1], np.int64)), keepdims=0)
        past_length = self.node("Sub", past_length, self.constant(np.array(1, np.int64)))
        self.past_length = self.node("Cast", past_length, to=TensorProto.INT32)
        length = self.node("Gather", self.node("Shape", "attention_mask"), self.constant(np.array(1, np.int64)))
        self.length = self.node("Cast", length, to=TensorProto.INT32)
        self.rotation = [self.constant(table) for table in _rotation(shape)]
        words = self.random.standard_normal((shape.vocabulary, shape.hidden), np.float32)
        stream = self.node("Gather", self.constant(words), "input_ids")
        for layer in range(shape.layers):
            stream = self.node("Add", stream, self._attention(self._norm(stream), layer))
            stream = self.node("Add", stream, self._feed_forward(self._norm(stream)))
        self.linear(self._norm(stream), shape.hidden, shape.vocabulary, "logits", silent=(END_OF_TEXT, END_OF_TURN))

    def _norm(self, stream: str) -> str:
        ones = self.constant(np.ones(self.shape.hidden, np.float32))
        return self.node("SimplifiedLayerNormalization", stream, ones, axis=-1, epsilon=1e-5)

    def _attention(self, stream: str, layer: int) -> str:
        shape, size = self.shape, self.shape.head_size
        query = self.linear(stream, shape.hidden, shape.heads * size)
        key = self.linear(stream, shape.hidden, shape.kv_heads * size)
        value = self.linear(stream, shape.hidden, shape.kv_heads * size)
        mixed = f"attention.{layer}"
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [query, key, value, f"{past}.key", f"{past}.value", self.past_length, self.length, *self.rotation],
                [mixed, f"{present}.key", f"{present}.value"],
                domain="com.microsoft",
                num_heads=shape.heads,
                kv_num_heads=shape.kv_heads,
                do_rotary=1,
            )
        )
        return self.linear(mixed, shape.heads * size, shape.hidden)

    def _feed_forward(self, stream: str) -> str:
        shape = self.shape
        gate = self.linear(stream, shape.hidden, shape.feed_forward)
        gate = self.node("Mul", gate, self.node("Sigmoid", gate))
        return self.linear(
            self.node("Mul", gate, self.linear(stream, shape.hidden, shape.feed_forward)),
            shape.feed_forward,
            shape.hidden,
        )

    def linear(self, stream: str, columns: int, rows: int, name: str = "", silent: Sequence[int] = ()) -> str:
        """A product with random weights; `silent` rows give 0."""
        if not self.shape.int4:
            weights = self.random.standard_normal((columns, rows), np.float32) / np.sqrt(columns, dtype=np.float32)
            weights[:, list(silent)] = 0
            return self.node("MatMul", stream, self.constant(weights), name=name)
        blocks = columns // BLOCK
        packed = self.random.integers(0, 256, (rows, blocks, BLOCK // 2), np.uint8)
        # 4-bit numbers from -8 to 7, evenly spread, have a standard deviation of 4.6.
        scales = np.full((rows, blocks), 1 / (4.6 * np.sqrt(columns)), np.float32)
        scales[list(silent)] = 0
        return self.node(
            "MatMulNBits",
            stream,
            self.constant(packed),
            self.constant(scales.reshape(-1)),
            name=name,
            domain="com.microsoft",
            K=columns,
            N=rows,
            bits=4,
            block_size=BLOCK,
            accuracy_level=4,
        )

    def node(self, kind: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        output = name or f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def _rotation(shape: Shape) -> list[NDArray[np.float32]]:
    """Cosines and sines of the rotary embedding, (context, head size / 2); https://arxiv.org/abs/2104.09864."""
    half = shape.head_size // 2
    angles = np.outer(np.arange(shape.context), 100_000.0 ** (-np.arange(half) / half))
    return [np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)]


def _genai_config(shape: Shape) -> dict[str, Any]:
    """https://onnxruntime.ai/docs/genai/reference/config.html."""
    return {
        "model": {
            "type": "llama",
            "bos_token_id": END_OF_TEXT,
            "eos_token_id": END_OF_TURN,
            "pad_token_id": END_OF_TEXT,
            "vocab_size": shape.vocabulary,
            "context_length": shape.context,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": "model.onnx",
                "head_size": shape.head_size,
                "hidden_size": shape.hidden,
                "num_attention_heads": shape.heads,
                "num_key_value_heads": shape.kv_heads,
                "num_hidden_layers": shape.layers,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"max_length": shape.context, "past_present_share_buffer": True},
    }


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
