"""Writes a Llama as a folder for ONNX Runtime GenAI: the graph, node by node, and what has to stand beside it.

The graph is that of what Hugging Face calls LlamaForCausalLM, in the operators that ONNX Runtime has for it:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCK = 32
"""Weights that have one scale."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    base: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Numbers of each head."""
        return self.hidden // self.heads

    def angles(self) -> NDArray[np.float64]:
        """Of the rotary embedding, (context, head size / 2): https://arxiv.org/abs/2104.09864."""
        half = self.head_size // 2
        return np.outer(np.arange(self.context), self.base ** (-np.arange(half) / half))


@dataclass(frozen=True)
class Packed:
    """Weights of few bits, for MatMulNBits.

    Attributes:
        values: (rows, columns / BLOCK, bytes of a block), uint8; half of the range stands for 0.
        scales: (rows, columns / BLOCK).
        bits: of a weight.
        accuracy: 4: what they are multiplied with is of eight bits as well; 0: as the runtime likes it.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int
    accuracy: int = 0


class Weights(Protocol):
    """Where the weights come from; names are `layers.0.gate`, `last`, `words`."""

    def words(self) -> NDArray[Any]:
        """(vocabulary, hidden), float16 or float32."""
        ...

    def norm(self, name: str) -> NDArray[np.float32]:
        """(hidden,)."""
        ...

    def linear(self, name: str, rows: int, columns: int) -> Packed | NDArray[np.float32]:
        """Weights that make `rows` numbers of `columns`; those that are not packed are (columns, rows)."""
        ...


class Graph:
    """Puts the graph together."""

    def __init__(self, shape: Shape, weights: Weights) -> None:
        self._shape = shape
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """The whole."""
        shape = self._shape
        cache: list[str | int] = ["batch", shape.kv_heads, "past", shape.head_size]
        grown: list[str | int] = ["batch", shape.kv_heads, "total", shape.head_size]
        names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]
        info, number, real = helper.make_tensor_value_info, TensorProto.INT64, TensorProto.FLOAT
        inputs = [info("input_ids", number, ["batch", "new"]), info("attention_mask", number, ["batch", "total"])]
        inputs += [info(f"past_key_values.{name}", real, cache) for name in names]
        outputs = [info("logits", real, ["batch", "new", shape.vocabulary])]
        outputs += [info(f"present.{name}", real, grown) for name in names]
        self._forward()
        graph = helper.make_graph(self._nodes, "llama", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _forward(self) -> None:
        shape = self._shape
        past = self._node("ReduceSum", "attention_mask", self._constant(np.array([1], np.int64)), keepdims=0)
        past = self._node("Sub", past, self._constant(np.array(1, np.int64)))
        past = self._node("Cast", past, to=TensorProto.INT32)
        length = self._node("Gather", self._node("Shape", "attention_mask"), self._constant(np.array(1, np.int64)))
        length = self._node("Cast", length, to=TensorProto.INT32)
        rotation = [self._constant(table(shape.angles()).astype(np.float32)) for table in (np.cos, np.sin)]
        stream = self._node("Gather", self._constant(self._weights.words()), "input_ids")
        stream = self._node("Cast", stream, to=TensorProto.FLOAT)
        for number in range(shape.layers):
            layer = f"layers.{number}."
            found = self._norm(stream, layer + "before_attention")
            found = self._attention(found, layer + "attention.", number, [past, length, *rotation])
            stream = self._node("Add", stream, found)
            found = self._norm(stream, layer + "before_forward")
            gate = self._linear(found, layer + "gate", shape.feed_forward, shape.hidden)
            gate = self._node("Mul", gate, self._node("Sigmoid", gate))
            found = self._node("Mul", gate, self._linear(found, layer + "up", shape.feed_forward, shape.hidden))
            stream = self._node("Add", stream, self._linear(found, layer + "down", shape.hidden, shape.feed_forward))
        self._linear(self._norm(stream, "last"), "words", shape.vocabulary, shape.hidden, "logits")

    def _attention(self, found: str, weights: str, layer: int, positions: Sequence[str]) -> str:
        shape = self._shape
        query = self._linear(found, weights + "query", shape.heads * shape.head_size, shape.hidden)
        key, value = (
            self._linear(found, weights + part, shape.kv_heads * shape.head_size, shape.hidden)
            for part in ("key", "value")
        )
        mixed, past, present = f"attention.{layer}", f"past_key_values.{layer}", f"present.{layer}"
        self._nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [query, key, value, f"{past}.key", f"{past}.value", *positions],
                [mixed, f"{present}.key", f"{present}.value"],
                domain="com.microsoft",
                num_heads=shape.heads,
                kv_num_heads=shape.kv_heads,
                do_rotary=1,
            )
        )
        return self._linear(mixed, weights + "output", shape.hidden, shape.heads * shape.head_size)

    def _norm(self, stream: str, name: str) -> str:
        scale = self._constant(self._weights.norm(name))
        return self._node("SimplifiedLayerNormalization", stream, scale, axis=-1, epsilon=self._shape.epsilon)

    def _linear(self, stream: str, name: str, rows: int, columns: int, output: str = "") -> str:
        weights = self._weights.linear(name, rows, columns)
        if not isinstance(weights, Packed):
            return self._node("MatMul", stream, self._constant(weights), output=output)
        return self._node(
            "MatMulNBits",
            stream,
            self._constant(weights.values),
            self._constant(weights.scales.reshape(-1)),
            output=output,
            domain="com.microsoft",
            K=columns,
            N=rows,
            bits=weights.bits,
            block_size=BLOCK,
            accuracy_level=weights.accuracy,
        )

    def _node(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        output = output or f"{kind}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def write_folder(folder: Path, shape: Shape, weights: Weights, special: Sequence[str], template: str | None) -> None:
    """Writes everything but tokenizer.json.

    Args:
        folder: is made if need be.
        shape: the sizes.
        weights: where they come from.
        special: the first tokens as they are written: the first fills up and begins, the last ends an answer.
        template: for conversations, in Jinja; None: the model is not made for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(Graph(shape, weights).model(), folder / "model.onnx")
    config = _genai_config(shape, begin=0, end=len(special) - 1)
    words = {"bos_token": special[0], "eos_token": special[-1], "tokenizer_class": "GPT2Tokenizer"}
    about = words | ({} if template is None else {"chat_template": template})
    for name, document in {"genai_config.json": config, "tokenizer_config.json": about}.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _genai_config(shape: Shape, begin: int, end: int) -> dict[str, Any]:
    """https://onnxruntime.ai/docs/genai/reference/config.html."""
    return {
        "model": {
            "type": "llama",
            "bos_token_id": begin,
            "eos_token_id": end,
            "pad_token_id": begin,
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


def write_manifest(bundle: Path, name: str, version: str, golden: Sequence[Mapping[str, str]]) -> None:
    """Writes the model.yaml of a bundle of ours.

    Args:
        bundle: its folder.
        name: of the model, and of its recipe.
        version: of the model.
        golden: golden samples, `prompt` and `text` of each.
    """
    lines = [
        f"name: {name}",
        f'version: "{version}"',
        "task: text",
        "licence: Apache-2.0",
        f"source: models/recipes/{name}",
        "files: {genai: genai_config.json}",
        "golden_text:",
        *(f"  - {json.dumps(one)}" for one in golden),
    ]
    (bundle / "model.yaml").write_text("\n".join([*lines, ""]), encoding="utf-8")


def packed_weights(bundle: Path) -> int:
    """The number of weights; what reads the words is stored twice, in another form, and counts once."""
    stored = onnx.load(bundle / "model.onnx").graph.initializer
    return sum(numpy_helper.to_array(one).size for one in stored if one.data_type == onnx.TensorProto.UINT8)


def bytes_of(bundle: Path) -> int:
    """Bytes of all its files but the card."""
    return sum(part.stat().st_size for part in bundle.iterdir() if part.name != "README.md")
