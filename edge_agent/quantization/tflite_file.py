"""A .tflite file as the objects of its schema: read, named and written."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from edge_agent.errors import MissingExtraError, ModelError

_IDENTIFIER = b"TFL3"


class TFLiteFile:
    """The content of a file.

    Args:
        content: of the file, with the files that are appended to it.

    Attributes:
        schema: the generated classes of the format.
        model: a `ModelT` of them, which may be changed.

    Raises:
        MissingExtraError: the runtime, which has the schema, is not installed.
    """

    def __init__(self, content: bytes) -> None:
        try:
            import flatbuffers
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise MissingExtraError("rewriting .tflite models", "tflite", error) from None
        self._flatbuffers, self.schema, self._content = flatbuffers, schema, content
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        self._operators = _by_number(schema.BuiltinOperator)
        self._types = _by_number(schema.TensorType)

    @property
    def graph(self) -> Any:
        """The only `SubGraphT` of the model.

        Raises:
            ModelError: it has none, or several.
        """
        if len(self.model.subgraphs) != 1:
            raise ModelError(f"can't be converted: expected one graph, found {len(self.model.subgraphs)}")
        return self.model.subgraphs[0]

    def kind(self, operator: Any) -> str:
        """The name of an operator in the schema. Files from before 2020 have its code in another field."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self._operators[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def type_of(self, tensor: Any) -> str:
        """The name of a tensor's type in the schema."""
        return self._types[tensor.type]

    def packed(self) -> bytes:
        """The model as it is now, without appended files."""
        builder = self._flatbuffers.Builder(len(self._content))
        builder.Finish(self.model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())


def _by_number(names: type) -> Mapping[int, str]:
    return {number: name for name, number in vars(names).items() if isinstance(number, int)}


def with_appended_files(rewritten: bytes, original: bytes) -> bytes:
    """The files of a model's metadata, such as its labels, which are a zip archive at its end."""
    if not zipfile.is_zipfile(io.BytesIO(original)):
        return rewritten
    whole = io.BytesIO(rewritten)
    with zipfile.ZipFile(io.BytesIO(original)) as before, zipfile.ZipFile(whole, "a") as after:
        for entry in before.infolist():
            after.writestr(entry, before.read(entry))
    return whole.getvalue()
