"""Small RKNN files, as RKNN-Toolkit2 lays them out: no chip could run them."""

import json
import struct
from typing import Any

from tests.models.model_bytes import flatbuffer


def rknn(
    platform: str = "rk3588",
    inputs: tuple[int, ...] = (1, 1, 32, 24),
    outputs: tuple[int, ...] = (1, 11),
    *further: tuple[int, ...],
) -> bytes:
    """A quantised file with one input, and one output or more.

    Args:
        platform: the chip.
        inputs: shape of the input, batch x channels x height x width.
        outputs: shape of the output.
        further: shapes of further ones.
    """
    attributes = {
        "attrs": {"image": {"mean": [0], "std": [255], "rgb2bgr": False}},
        "quant_tab": {"image": {"qmethod": "layer", "min": [0.0], "max": [1.0]}},
    }
    root = {
        1: "RKNPU v2",
        3: repr(attributes),
        7: "2.3.2-source_code(compiler version: 2.3.2 (c97804705@2025-03-29T19:29:52))",
        8: platform,
        12: json.dumps({"image": {"dtype": "int8", "layout": "NHWC"}}),
        13: json.dumps({"scores": {"dtype": "int8", "layout": "UNDEFINED"}}),
    }
    network = flatbuffer(root, b"RKNN")
    description: dict[str, Any] = {
        "graph": [
            {"left": "input", "left_tensor_id": 0, "right": "norm_tensor", "right_tensor_id": 0},
            {"left": "output", "left_tensor_id": 0, "right": "norm_tensor", "right_tensor_id": 1},
            *(
                {"left": "output", "left_tensor_id": at, "right": "norm_tensor", "right_tensor_id": 1 + at}
                for at in range(1, 1 + len(further))
            ),
        ],
        "norm_tensor": [
            {"tensor_id": 0, "url": "image", "dim_num": 4, "size": list(inputs)},
            {"tensor_id": 1, "url": "scores", "dim_num": 2, "size": list(outputs)},
            *(
                {"tensor_id": 1 + at, "url": f"scores{at}", "dim_num": len(shape), "size": list(shape)}
                for at, shape in enumerate(further, 1)
            ),
        ],
        "ori_network_platform": "ONNX",
        "target_platform": [platform],
        "version": "2.3.2",
    }
    text = json.dumps(description).encode()
    head = struct.pack("<8sQQ", b"RKNN", 6, len(network)).ljust(0x40, b"\0")
    return head + network + struct.pack("<Q", len(text)) + text
