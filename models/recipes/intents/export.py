"""Writes the trained model as a folder for ONNX Runtime GenAI, its weights as numbers of eight bits."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .shape import ANSWER, END, PAD, SHAPE, SPECIAL

BLOCK = 32
"""Weights that have one scale."""
TEMPLATE = "{{ messages[-1]['content'] | trim | lower }}" + ANSWER
"""It was trained on single commands in small letters."""


class Graph:
    """Puts a Llama together, node by node, in the operators that ONNX Runtime has for it.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """The whole."""
        cache = ["batch", SHAPE.kv_heads, "past", SHAPE.head_size]
        grown = ["batch", SHAPE.kv_heads, "total", SHAPE.head_size]
        names = [f"{layer}.{part}" for layer in range(SHAPE.layers) for part in ("key", "value")]
        info, number, real = helper.make_tensor_value_info, TensorProto.INT64, TensorProto.FLOAT
        inputs = [info("input_ids", number, ["batch", "new"]), info("attention_mask", number, ["batch", "total"])]
        inputs += [info(f"past_key_values.{name}", real, cache) for name in names]
        outputs = [info("logits", real, ["batch", "new", SHAPE.vocabulary])]
        outputs += [info(f"present.{name}", real, grown) for name in names]
        self._forward()
        graph = helper.make_graph(self._nodes, "intents", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _forward(self) -> None:
        past = self._node("ReduceSum", "attention_mask", self._constant(np.array([1], np.int64)), keepdims=0)
        past = self._node("Sub", past, self._constant(np.array(1, np.int64)))
        past = self._node("Cast", past, to=TensorProto.INT32)
        length = self._node("Gather", self._node("Shape", "attention_mask"), self._constant(np.array(1, np.int64)))
        length = self._node("Cast", length, to=TensorProto.INT32)
        angles = torch.outer(torch.arange(SHAPE.context), SHAPE.frequencies())
        positions = [past, length, self._constant(angles.cos().numpy()), self._constant(angles.sin().numpy())]
        words = self._weights["words.weight"].astype(np.float16)
        stream = self._node("Cast", self._node("Gather", self._constant(words), "input_ids"), to=TensorProto.FLOAT)
        for number in range(SHAPE.layers):
            layer = f"layers.{number}."
            found = self._norm(stream, layer + "before_attention")
            stream = self._node("Add", stream, self._attention(found, layer + "attention.", number, positions))
            found = self._norm(stream, layer + "before_forward")
            gate = self._linear(found, layer + "gate")
            gate = self._node("Mul", gate, self._node("Sigmoid", gate))
            found = self._node("Mul", gate, self._linear(found, layer + "up"))
            stream = self._node("Add", stream, self._linear(found, layer + "down"))
        self._linear(self._norm(stream, "last"), "words", "logits")

    def _attention(self, found: str, weights: str, layer: int, positions: list[str]) -> str:
        query, key, value = (self._linear(found, weights + part) for part in ("query", "key", "value"))
        mixed, past, present = f"attention.{layer}", f"past_key_values.{layer}", f"present.{layer}"
        self._nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [query, key, value, f"{past}.key", f"{past}.value", *positions],
                [mixed, f"{present}.key", f"{present}.value"],
                domain="com.microsoft",
                num_heads=SHAPE.heads,
                kv_num_heads=SHAPE.kv_heads,
                do_rotary=1,
            )
        )
        return self._linear(mixed, weights + "output")

    def _norm(self, stream: str, name: str) -> str:
        scale = self._constant(self._weights[f"{name}.weight"])
        return self._node("SimplifiedLayerNormalization", stream, scale, axis=-1, epsilon=SHAPE.epsilon)

    def _linear(self, stream: str, name: str, output: str = "") -> str:
        weights = self._weights[f"{name}.weight"]
        rows, columns = weights.shape
        blocks = weights.reshape(rows, -1, BLOCK)
        scales = np.maximum(np.abs(blocks).max(-1), 1e-8) / 127
        # 128 stands for 0.
        packed = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8)
        return self._node(
            "MatMulNBits",
            stream,
            self._constant(packed),
            self._constant(scales.astype(np.float32).reshape(-1)),
            output=output,
            domain="com.microsoft",
            K=columns,
            N=rows,
            bits=8,
            block_size=BLOCK,
        )

    def _node(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        output = output or f"{kind}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def genai_config() -> dict[str, Any]:
    """https://onnxruntime.ai/docs/genai/reference/config.html."""
    pad, _, end = range(len(SPECIAL))
    return {
        "model": {
            "type": "llama",
            "bos_token_id": pad,
            "eos_token_id": end,
            "pad_token_id": pad,
            "vocab_size": SHAPE.vocabulary,
            "context_length": SHAPE.context,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": "model.onnx",
                "head_size": SHAPE.head_size,
                "hidden_size": SHAPE.hidden,
                "num_attention_heads": SHAPE.heads,
                "num_key_value_heads": SHAPE.kv_heads,
                "num_hidden_layers": SHAPE.layers,
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
        "search": {"max_length": SHAPE.context, "past_present_share_buffer": True},
    }


def main() -> None:
    """Writes the folder, without what measure.py writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="folder of what train.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    options = parser.parse_args()
    build: Path = options.build
    out: Path = options.out

    out.mkdir(parents=True, exist_ok=True)
    weights = torch.load(build / "weights.pt", weights_only=True)
    onnx.save(Graph({name: values.numpy() for name, values in weights.items()}).model(), out / "model.onnx")
    shutil.copyfile(build / "tokenizer.json", out / "tokenizer.json")
    about = {"bos_token": PAD, "eos_token": END, "tokenizer_class": "GPT2Tokenizer", "chat_template": TEMPLATE}
    for name, document in {"genai_config.json": genai_config(), "tokenizer_config.json": about}.items():
        (out / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
