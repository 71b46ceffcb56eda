"""What TFLite files hold that changes how they may be run: patterns that the runtime computes wrongly, and state."""

from collections.abc import Sequence

from edge_agent.modelfile.flatbuffer import Table

MAX_OPERATORS = 100_000
MAX_TENSORS = 1_000_000
MAX_RANK = 64
MAX_INPUTS = 512
_FLOAT32, _INT8 = 0, 9
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_RESOURCES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
_CHANNELS = 3


def miscomputed(model: Table, names: Sequence[str]) -> str:
    """What in a file the runtime computes wrongly without an error, and what to do about it; "" if nothing is known.

    The kernels for float input and int8 weights of DEPTHWISE_CONV_2D and of a grouped CONV_2D read one scale for each
    channel, also where the weights have a single one, and so read past the end of the list. Sources:
    https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/depthwise_conv.cc
    (EvalHybridPerChannel), https://github.com/ultralytics/ultralytics/issues/17073.

    Args:
        model: the root of the file.
        names: of the operators, by the index of their code.

    Raises:
        DamagedError: an offset points outside of the file.
    """
    for graph in model.tables(2):
        for operator in graph.tables(3, MAX_OPERATORS):
            name = _name(operator, names)
            if name in _CONVOLUTIONS and (kind := _reads_past_scales(graph, operator, name)):
                return (
                    f"the runtime computes it wrongly: {kind} with float input has int8 weights with one scale for the "
                    "whole tensor, and the runtime expects one for each channel: export the model as full integer "
                    "(Ultralytics: the *_full_integer_quant.tflite beside it), as float16 or as float32"
                )
    return ""


def keeps_state(model: Table, names: Sequence[str]) -> bool:
    """Whether a file keeps state from one inference to the next in variables of its own.

    Args:
        model: the root of the file.
        names: of the operators, by the index of their code.

    Raises:
        DamagedError: an offset points outside of the file.
    """
    if any(name in _RESOURCES for name in names):
        return True
    return any(tensor.number(5, "?") for graph in model.tables(2) for tensor in graph.tables(0, MAX_TENSORS))


def _name(operator: Table, names: Sequence[str]) -> str:
    index = operator.number(0, "I")
    return names[index] if index < len(names) else ""


def _reads_past_scales(graph: Table, operator: Table, name: str) -> str:
    """What the operator is, in words, if its weights have fewer scales than the kernel reads; else ""."""
    inputs = operator.numbers(1, "i", MAX_INPUTS)
    if len(inputs) < 2 or min(inputs[:2]) < 0:  # noqa: PLR2004 - the picture and the weights
        return ""
    picture, weights = graph.element(0, inputs[0]), graph.element(0, inputs[1])
    if (_dtype(picture), _dtype(weights)) != (_FLOAT32, _INT8):
        return ""
    quantization = weights.inner(4)
    shapes = picture.numbers(0, "i", MAX_RANK), weights.numbers(0, "i", MAX_RANK)
    if quantization is None or any(len(shape) != _CHANNELS + 1 for shape in shapes):
        return ""
    taken, (kernels, *_, depth) = shapes[0][_CHANNELS], shapes[1]
    depthwise = name == "DEPTHWISE_CONV_2D"
    if quantization.vector(2, 4)[1] >= min(2, depth if depthwise else kernels) or (not depthwise and taken == depth):
        return ""
    return name if depthwise else "a grouped CONV_2D"


def _dtype(tensor: Table) -> int:
    return tensor.number(1, "b")
