"""How readings and sound become the input tensor of a model, derived from its file and what is stated."""

from collections.abc import Sequence
from dataclasses import replace

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.models.state import Feed
from edge_agent.settings.series import Input
from edge_agent.system.units import counted
from edge_agent.timeseries.numbers import SeriesPreprocess

_DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64")
_AXES_OF_A_PICTURE = 4
LEAST_SIDE = 16
MAX_NUMBERS = 10_000_000
MAX_RATE = 768_000


def takes_numbers(file: ModelFile, stated: Input | None) -> bool:
    """Whether a model takes readings or sound: as stated, or because its only input can't be a picture or text."""
    if stated is not None and stated.kind != "image":
        return True
    if stated is not None or len(file.inputs) != 1:
        return stated is None and _is_table(file.inputs)
    tensor = file.inputs[0]
    return 0 < len(tensor.shape) < _AXES_OF_A_PICTURE and tensor.dtype in _DTYPES


def _is_table(inputs: Sequence[Tensor]) -> bool:
    """Whether each input is one column of a table, as sklearn-onnx makes them of a DataFrame."""
    return len(inputs) > 1 and all(tensor.shape in ((-1, 1), (1, 1)) for tensor in inputs)


def is_square(file: ModelFile) -> bool:
    """Whether the input may be an image that lacks the axis of its one channel, such as 28 x 28 digits."""
    match file.inputs[0].shape:
        case (_, height, width):
            return height == width >= LEAST_SIDE
    return False


def joined_columns(
    file: ModelFile, stated: Input | None, evidence: list[str]
) -> tuple[ModelFile, tuple[Tensor, ...], Input | None]:
    """The same file with one input instead of one for each column of a table.

    Args:
        file: the model file, without inputs that hold a state or a constant.
        stated: by the configuration and the bundle.
        evidence: gets a sentence if there are columns.

    Returns:
        The file, its inputs for columns, and the settings of the input, whose channels are the columns; of other files
        what was given, and no columns.

    Raises:
        ModelError: a column is no number.
    """
    if not _is_table(file.inputs):
        return file, (), stated
    names = tuple(tensor.name for tensor in file.inputs)
    if others := [tensor.name for tensor in file.inputs if tensor.dtype not in _DTYPES]:
        raise ModelError(
            f"its inputs are columns, of which {', '.join(others)} hold text: convert the model with numbers for them, "
            "and encode the texts before they are sent"
        )
    if stated is not None and stated.channels and len(stated.channels) != len(names):
        raise ModelError(f"input.channels: {len(stated.channels)} are stated, the columns are {', '.join(names)}")
    evidence.append(f"columns: {', '.join(names)}, an input of the model each")
    how = stated or Input(kind="series")
    how = how if how.channels else how.model_copy(update={"channels": names})
    joined = Tensor("columns", (-1, len(names)), "float32")
    return replace(file, inputs=(joined,)), file.inputs, how


def without_state(file: ModelFile, stated: Input | None) -> tuple[ModelFile, Feed]:
    """The model file without the inputs and outputs that hold a state, and without constant inputs; and these.

    Raises:
        ModelError: a stated input or output is not in the file.
    """
    if stated is None:
        return file, Feed()
    inputs, outputs = {tensor.name for tensor in file.inputs}, {tensor.name for tensor in file.outputs}
    for key, names, known in (
        ("state", stated.state, inputs),
        ("state", stated.state.values(), outputs),
        ("constants", stated.constants, inputs),
    ):
        for name in names:
            if name not in known:
                raise ModelError(f"input.{key}: expected one of {', '.join(sorted(known))}, found {name!r}")
    kept = [at for at, tensor in enumerate(file.outputs) if tensor.name not in stated.state.values()]
    others = {*stated.state, *stated.constants}
    left = replace(
        file,
        inputs=tuple(tensor for tensor in file.inputs if tensor.name not in others),
        outputs=tuple(file.outputs[at] for at in kept),
        output_operators=tuple(file.output_operators[at] for at in kept),
    )
    constants = {
        name: value if isinstance(value, tuple) else (float(value),) for name, value in stated.constants.items()
    }
    return left, Feed(stated.state, constants)


def read_series(
    file: ModelFile, stated: Input | None, evidence: list[str], columns: Sequence[Tensor] = ()
) -> SeriesPreprocess:
    """Derives how readings become the input tensor, (samples, channels), or with the batch before it.

    Args:
        file: the model file.
        stated: by the configuration and the bundle.
        evidence: gets a sentence for each fact.
        columns: the inputs of a table, if the file's one input stands for them.

    Raises:
        ModelError: it is no model of readings, or what is stated does not fit it.
    """
    if len(file.inputs) != 1 or file.inputs[0].dtype not in _DTYPES:
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)} {tensor.dtype}" for tensor in file.inputs)
        raise ModelError(f"not a model of readings: expected one input of {', '.join(_DTYPES)}, found {shapes}")
    tensor = file.inputs[0]
    batched = len(tensor.shape) > 1 and tensor.shape[0] in (1, -1)
    shape = tensor.shape[1:] if batched else tensor.shape
    if -1 in shape and stated and stated.readings:
        at = shape.index(-1)
        shape = (*shape[:at], stated.readings, *shape[at + 1 :])
    size = 1
    for axis in shape:
        size *= axis
    if not shape or min(shape) < 1 or size > MAX_NUMBERS:
        raise ModelError(
            f"the input's size is open or out of bounds, shape {list(tensor.shape)}: state input.length, the number of "
            "readings"
        )
    rate = _rate_of_sound(file)
    if stated is None and rate:
        stated = Input(kind="audio", rate=rate)
        evidence.append(f"input: audio, {rate:g} samples a second, from the file's metadata")
    else:
        kind = (
            f"{stated.kind}, as stated" if stated else f"series, since the shape {list(tensor.shape)} is no picture's"
        )
        evidence.append(f"input: {kind}")
    mean, std = _normalization(file, stated, shape[-1], evidence)
    scale = tensor.scale or 0.0
    how = stated or Input(kind="series")
    types = tuple(column.dtype for column in columns)
    return SeriesPreprocess(shape, batched, tensor.dtype, scale, tensor.zero_point, mean, std, how, types)


def _rate_of_sound(file: ModelFile) -> float:
    """Samples a second, where the metadata of a TFLite file says that its input is sound; else 0."""
    stated = file.metadata.get("input0.sample_rate", "")
    return float(stated) if stated.isdecimal() and 0 < int(stated) <= MAX_RATE else 0.0


def _normalization(
    file: ModelFile, stated: Input | None, channels: int, evidence: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if stated and stated.normalize is not None:
        values = (stated.normalize.mean, stated.normalize.std)
        mean, std = (value if isinstance(value, tuple) else (value,) for value in values)
        source = "as stated"
    elif file.normalization is not None:
        mean, std = file.normalization
        source = "from the file's metadata"
    else:
        evidence.append("normalize: nothing is stated, readings go in as they are")
        return (0.0,), (1.0,)
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise ModelError(f"input.normalize: {len(mean)} means and {len(std)} stds for {counted(channels, 'channel')}")
    evidence.append(f"normalize: mean {_listed(mean)}, std {_listed(std)}, {source}")
    return mean, std


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
