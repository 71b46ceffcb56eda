"""ONNX models of which the weights lie in another file."""

import onnx
from onnx import TensorProto, helper

PLACES = ("initializer", "constant", "subgraph", "function", "sparse")


def with_weights_in(location: str, where: str = "initializer") -> onnx.ModelProto:
    """A model that adds the four floats of a file to its input, x of shape (1, 4).

    Args:
        location: of the file, relative to the model.
        where: one of `PLACES`: what refers to the file.
    """
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    functions, initializers, nodes = [], [tensor], [add]
    if where != "initializer":
        initializers, nodes = [], [constant, add]
    if where == "subgraph":
        branch = helper.make_graph([constant, helper.make_node("Add", ["x", "w"], ["z"])], "b", [], [output])
        branch.output[0].name = "z"
        truth = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
        nodes = [truth, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    if where == "function":
        functions = [helper.make_function("own", "Plus", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)])]
        nodes = [helper.make_node("Plus", ["x"], ["y"], domain="own")]
    graph = helper.make_graph(nodes, "g", [source], [output], initializers)
    if where == "sparse":
        graph.sparse_initializer.add(values=tensor, indices=tensor, dims=[4])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)
