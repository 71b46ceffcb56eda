"""Model files as compilers for accelerators leave them: their own operators, which no plain runtime has."""

import shutil
from pathlib import Path
from typing import Any

import flatbuffers
import yaml
from ai_edge_litert import schema_py_generated as schema

from edge_agent.models.shipped import shipped
from tests.models.model_bytes import message, node, value_info

DIGITS = shipped("digits")
# Of the schema's operators.
RESHAPE, CUSTOM = 22, 32
# Of ONNX's types: of elements, and of attributes.
FLOAT, INT, STRING = 1, 2, 3


def for_ethosu() -> bytes:
    """The bundled digit reader, one operation of which is left to an Ethos-U: that which only changes a shape.

    So a delegate that copies an input to an output computes the same.
    """
    model = schema.ModelT.InitFromPackedBuf((DIGITS / "digits.tflite").read_bytes(), 0)
    at = next(at for at, code in enumerate(model.operatorCodes) if code.builtinCode == RESHAPE)
    code = model.operatorCodes[at]
    code.builtinCode = code.deprecatedBuiltinCode = CUSTOM
    code.customCode = "ethos-u"
    for operator in model.subgraphs[0].operators:
        if operator.opcodeIndex == at:
            operator.builtinOptionsType, operator.builtinOptions = 0, None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_context() -> bytes:
    """What stands for the bundled digit reader where the Qualcomm provider has compiled it: one node with a binary.

    https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html
    """
    attributes = [
        message((1, "embed_mode"), (3, 1), (20, INT)),
        message((1, "ep_cache_context"), (4, b"a binary for the Hexagon"), (20, STRING)),
        message((1, "source"), (4, "QNN"), (20, STRING)),
    ]
    context = node("EPContext", ("image",), ("probabilities",), "com.microsoft")
    graph = message(
        (1, context + message(*((5, attribute) for attribute in attributes))),
        (2, "compiled"),
        (11, value_info("image", FLOAT, "n", 1, 32, 24)),
        (12, value_info("probabilities", FLOAT, "n", 11)),
    )
    return message((1, 7), (7, graph), (8, message((1, ""), (2, 13))), (8, message((1, "com.microsoft"), (2, 1))))


def bundle(folder: Path, **entries: Any) -> Path:
    """The bundled digit reader with compiled files, `digits_ethosu.tflite` and `digits_qnn.onnx`.

    Args:
        folder: which it is made in.
        entries: of its manifest, in place of those of the digit reader.
    """
    shutil.copytree(DIGITS, folder)
    (folder / "digits_ethosu.tflite").write_bytes(for_ethosu())
    (folder / "digits_qnn.onnx").write_bytes(with_context())
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest | entries))
    return folder
