"""The other files that an ONNX model names: weights, and parts that are compiled for an accelerator.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md,
https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html
"""

from edge_agent.modelfile.facts import DamagedError
from edge_agent.modelfile.protobuf import Content, Wire, integer
from edge_agent.modelfile.view import View

MAX_NAMES = 1000
_MAX_DEPTH = 16
_LOCATION, _CONTEXT = b"location", b"EPContext"
# Field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _FUNCTION_DEFAULTS = 7, 11
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_TENSORS, _GRAPHS, _SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)  # of an attribute
_SPARSE_PARTS = (1, 2)


class NamedFiles:
    """Finds the files that a model names.

    Args:
        data: the model.

    Attributes:
        weights: names of files that tensors lie in.
        compiled: names of files that parts of the graph lie in, and of models that they were made from.

    Raises:
        DamagedError: the file holds what no model can hold.
    """

    def __init__(self, data: View) -> None:
        self.weights: set[str] = set()
        self.compiled: set[str] = set()
        self._wire = Wire()
        # Walking through all of a model takes its time, and most models name no file.
        if _LOCATION in data or _CONTEXT in data:
            for number, value in self._wire.fields(data):
                if number == _MODEL_GRAPH and not isinstance(value, int):
                    self._add_graph(value, 0)
                elif number == _MODEL_FUNCTIONS and not isinstance(value, int):
                    self._add_function(value)

    def _add_graph(self, graph: Content, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise DamagedError(f"its graphs are nested more than {_MAX_DEPTH} deep")
        for number, value in self._wire.fields(graph):
            if isinstance(value, int):
                continue
            if number == _GRAPH_NODE:
                self._add_node(value, depth)
            elif number == _GRAPH_INITIALIZER:
                self._add_tensor(value)
            elif number == _GRAPH_SPARSE:
                self._add_sparse(value)

    def _add_function(self, function: Content) -> None:
        for number, value in self._wire.fields(function):
            if number == _FUNCTION_NODE and not isinstance(value, int):
                self._add_node(value, 1)
            elif number == _FUNCTION_DEFAULTS and not isinstance(value, int):
                self._add_attribute(value, 1)

    def _add_node(self, node: Content, depth: int) -> None:
        if not (_has(node, _LOCATION) or _has(node, _CONTEXT)):
            return
        operator, attributes = "", list[Content]()
        for number, value in self._wire.fields(node):
            if number == _NODE_OPERATOR and not isinstance(value, int):
                operator = self._wire.string(value)
            elif number == _NODE_ATTRIBUTE and not isinstance(value, int):
                attributes.append(value)
        for attribute in attributes:
            self._add_attribute(attribute, depth)
        if operator == _CONTEXT.decode():
            self._add_context(attributes)

    def _add_attribute(self, attribute: Content, depth: int) -> None:
        if not (_has(attribute, _LOCATION) or _has(attribute, _CONTEXT)):
            return
        for number, value in self._wire.fields(attribute):
            if isinstance(value, int):
                continue
            if number in _TENSORS:
                self._add_tensor(value)
            elif number in _GRAPHS:
                self._add_graph(value, depth + 1)
            elif number in _SPARSE_TENSORS:
                self._add_sparse(value)

    def _add_context(self, attributes: list[Content]) -> None:
        """A node that stands for a compiled part of the graph, which lies in the node or in a file."""
        embedded, texts = True, list[tuple[str, str]]()
        for attribute in attributes:
            message = self._wire.message(attribute)
            name = self._wire.text(message, 1)
            texts.append((name, self._wire.text(message, 4)))
            embedded = embedded and (name != "embed_mode" or integer(message, 3) != 0)
        for name, text in texts:
            if name == "onnx_model_filename" or (name == "ep_cache_context" and not embedded):
                self._add_name(self.compiled, text)

    def _add_sparse(self, sparse: Content) -> None:
        for number, value in self._wire.fields(sparse):
            if number in _SPARSE_PARTS and not isinstance(value, int):
                self._add_tensor(value)

    def _add_tensor(self, tensor: Content) -> None:
        for number, value in self._wire.fields(tensor):
            if number == 13 and not isinstance(value, int):  # noqa: PLR2004 - external_data
                entry = self._wire.message(value)
                if self._wire.text(entry, 1) == _LOCATION.decode():
                    self._add_name(self.weights, self._wire.text(entry, 2))

    def _add_name(self, names: set[str], name: str) -> None:
        if name:
            names.add(name)
        if len(names) > MAX_NAMES:
            raise DamagedError(f"it names more than {MAX_NAMES} other files")


def _has(content: Content, needle: bytes) -> bool:
    return needle in (bytes(content) if isinstance(content, memoryview) else content)
