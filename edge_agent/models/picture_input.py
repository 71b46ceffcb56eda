"""How pictures become the input tensor of a model: layout, colours, size and normalisation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent import settings
from edge_agent.decoders.recognition import Recognition, embedded_list, is_batch, with_sizes
from edge_agent.engines.fixed_batch import common_batch
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import INTEGER_LIMITS, ROUNDING, ModelFile, Tensor
from edge_agent.modelfile.normalization import IMAGENET, RAW, SIGNED, UNIT, Channels, Normalization
from edge_agent.preprocess.image import Preprocess
from edge_agent.settings.base import Normalize
from edge_agent.settings.series import Input
from edge_agent.system.units import MAX_SIDE, counted

if TYPE_CHECKING:
    from edge_agent.preprocess.image import Color, Layout
    from edge_agent.preprocess.placement import Resize

PRESETS = {"unit": UNIT, "signed": SIGNED, "raw": RAW, "imagenet": IMAGENET}
_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float16", "float64")
# Inputs that ask for a size, by their name in https://github.com/lyuwenyu/RT-DETR, D-FINE and DEIM (width, height) and
# in https://github.com/PaddlePaddle/PaddleDetection (height, width): what comes out is then in pixels of the input.
SIZE_INPUTS = {"orig_target_sizes": "width, height", "im_shape": "height, width", "scale_factor": "one"}
# Real ranges that a quantised input covers if its stored values are the pixels.
_PIXEL_RANGES = {"unit": (0.0, 1.0), "signed": (-1.0, 1.0), "raw": (0.0, 255.0)}
# ImageNet's classes, alone and with a background; how its first labels begin, as words and as numbers of synsets.
IMAGENET_CLASSES = (1000, 1001)
IMAGENET_FIRST = (("tench", "n01440764"), ("goldfish", "n01443537"))
# 224 of 256 pixels: https://github.com/pytorch/vision/blob/main/references/classification/presets.py, and
# `central_fraction` in TF-Slim's preprocessing.
EVALUATED_CROP = 0.875
MAX_LEVEL = 255
# Stands for the size of an open input until it is stated, so that everything else that is missing is reported as well.
_ANY_SIZE = (640, 640)


def picture_tensor(file: ModelFile) -> Tensor:
    """The input tensor of a model of pictures, (batch, height, width, channels) or (batch, channels, height, width).

    Raises:
        ModelError: it is no model of pictures.
    """
    if len(file.inputs) != 1 or len(file.inputs[0].shape) != 4:  # noqa: PLR2004 - batch, height, width, channels
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in file.inputs)
        raise ModelError(
            f"not a model of pictures: expected one input of four axes, found {shapes or 'none'}{_instead(file)}"
        )
    if file.inputs[0].dtype not in _DTYPES:
        raise ModelError(f"not a model of pictures: its input is of type {file.inputs[0].dtype}")
    return file.inputs[0]


def _instead(file: ModelFile) -> str:
    """What to state of the inputs of a model that has not just a picture; "" if nothing would do."""
    pictures = [tensor for tensor in file.inputs if _is_picture(tensor.shape)]
    if not pictures and (states := _states(file)):
        return f": if it keeps a state, state input: {{kind: series, state: {{{states}}}}}"
    main = pictures or [tensor for tensor in file.inputs if math.prod(tensor.shape) != 1]
    if len(main) != 1 or len(file.inputs) == 1:
        return ""
    kind = "image" if pictures else "audio (or series)"
    values = ", ".join(f"{tensor.name}: VALUE" for tensor in file.inputs if tensor is not main[0])
    return f": if the others are constants, state input: {{kind: {kind}, constants: {{{values}}}}}"


def _is_picture(shape: tuple[int, ...]) -> bool:
    match shape:
        case (_, height, width, 1 | 3) | (_, 1 | 3, height, width):
            return height != 1 and width != 1
    return False


def _states(file: ModelFile) -> str:
    """Inputs after the first, and the outputs of their shapes that may be their next state, as in `input.state`."""
    left, found = list(file.outputs), []
    for tensor in file.inputs[1:]:
        same = next((one for one in left if (one.shape, one.dtype) == (tensor.shape, tensor.dtype)), None)
        if same is not None:
            left.remove(same)
            found.append(f"{tensor.name}: {same.name}")
    return ", ".join(found) if found and len(found) == len(file.inputs) - 1 else ""


def with_channels(file: ModelFile, stated: Input | None) -> ModelFile:
    """The same file with an axis of one channel, where an input without channels is stated to be an image."""
    if stated is None or stated.kind != "image" or [len(tensor.shape) for tensor in file.inputs] != [3]:
        return file
    tensor = file.inputs[0]
    if not is_batch(tensor.shape[0]):
        return file
    return replace(file, inputs=(replace(tensor, shape=(*tensor.shape, 1)),), channelless=True)


def without_sizes(file: ModelFile) -> tuple[ModelFile, tuple[str, ...]]:
    """The model file without the inputs that ask for a size, and their names."""
    names = tuple(tensor.name for tensor in file.inputs if tensor.name in SIZE_INPUTS)
    kept = tuple(tensor for tensor in file.inputs if tensor.name not in names)
    return replace(file, inputs=kept), names


def sizes_of(names: tuple[str, ...], height: int, width: int, evidence: list[str]) -> dict[str, tuple[float, ...]]:
    """The constants for the inputs that ask for a size: that of the model's input.

    Args:
        names: of these inputs.
        height: of the model's input in pixels.
        width: of the model's input in pixels.
        evidence: gets a sentence for each.
    """
    known = {"width, height": (width, height), "height, width": (height, width), "one": (1, 1)}
    evidence += [f"{name}: {SIZE_INPUTS[name]} of the model's input" for name in names if SIZE_INPUTS[name] != "one"]
    return {name: known[SIZE_INPUTS[name]] for name in names}


def with_size(
    file: ModelFile, tensor: Tensor, stated: settings.Preprocess, evidence: list[str], missing: dict[str, str]
) -> ModelFile:
    """The same file, an open height and width of its input filled in.

    Args:
        file: the model file.
        tensor: its input.
        stated: by the configuration and the bundle.
        evidence: gets a sentence if they were open.
        missing: gets a sentence if the size has to be stated; any size is then filled in.

    Raises:
        ModelError: the stated size is not that of the file.
    """
    first = 2 if (stated.layout == "nchw" if stated.layout else tensor.shape[1] in (1, 3)) else 1
    sides = tensor.shape[first : first + 2]
    width, height = stated.size or (0, 0)
    if -1 not in sides:
        if stated.size and sides != (height, width):
            raise ModelError(f"preprocess.size: {width}x{height} is stated, the model takes {sides[1]}x{sides[0]}")
        return file
    trained = embedded_list(file.metadata, "imgsz")
    if stated.size and any(side not in (-1, given) for side, given in zip(sides, (height, width), strict=True)):
        raise ModelError(f"preprocess.size: {width}x{height} is stated, the model takes {_in_words(sides)}")
    if stated.size:
        evidence.append(f"size: {width} x {height}, as stated")
    elif trained and len(trained) == len(sides):
        height, width = trained
        evidence.append(f"size: {width} x {height}, from imgsz in the file's metadata")
    else:
        height, width = (max(side, 0) or usual for side, usual in zip(sides, _ANY_SIZE, strict=True))
        examples = "320x320 or 640x640" if max(sides) < 0 else _in_words(sides, 320)
        evidence.append(f"size: open; what follows is for {width} x {height}")
        missing["preprocess.size"] = (
            f"the file leaves the height and width of its input open, shape {list(tensor.shape)}: state "
            f"preprocess.size: WIDTHxHEIGHT, such as {examples}, as it was trained"
        )
    shape = (*tensor.shape[:first], height, width, *tensor.shape[first + 2 :])
    return with_sizes(replace(file, inputs=(replace(tensor, shape=shape), *file.inputs[1:]), open_size=True))


def without_fixed_batch(file: ModelFile, evidence: list[str]) -> ModelFile:
    """The same file for one picture, if it takes batches of one size above one only: the engine fills them up."""
    tensors = (*file.inputs, *file.outputs)
    batch = common_batch([tensor.shape for tensor in tensors]) if len(file.inputs) == 1 else 1
    if batch == 1:
        return file
    evidence.append(f"batch: {batch} pictures at once, always: export it with a batch of 1 to save time")
    inputs, outputs = (
        tuple(replace(tensor, shape=(1, *tensor.shape[1:])) for tensor in group)
        for group in (file.inputs, file.outputs)
    )
    return replace(file, inputs=inputs, outputs=outputs)


def _in_words(sides: tuple[int, ...], usual: int | None = None) -> str:
    """Height, width as WIDTHxHEIGHT; what is open is the usual size, or `any`."""
    height, width = (str(side if side > 0 else usual or "any") for side in sides)
    return f"{width}x{height}"


def read_pictures(
    file: ModelFile,
    stated: settings.Preprocess,
    sources: Mapping[str, str],
    recognition: Recognition,
    labels: Sequence[str] | None,
    evidence: list[str],
    missing: dict[str, str],
) -> Preprocess:
    """Derives how pictures become the input tensor.

    Args:
        file: the model file.
        stated: by the configuration and the bundle.
        sources: key of `stated` -> what states it, where neither of the two does.
        recognition: the facts of its decoder family.
        labels: of its classes, where they are known.
        evidence: gets a sentence for each fact.
        missing: gets a sentence for each fact that has to be stated.

    Raises:
        ModelError: what is stated does not fit.
    """
    tensor = file.inputs[0]
    layout = _layout(tensor, stated, evidence, missing)
    height, width, channels = _sides(tensor, layout)
    color = _color(channels, stated, sources, recognition, evidence)
    resize, crop, unasked = _resize(stated, sources, recognition, labels, evidence)
    mean, std = _normalization(file, stated, sources, recognition, color, evidence, missing)
    return Preprocess(
        height=height,
        width=width,
        resize=resize,
        color=color,
        layout=layout,
        dtype=tensor.dtype,
        mean=mean,
        std=std,
        reduced_decoding=stated.reduced_decoding is not False,
        channelless=file.channelless,
        crop=crop,
        crops_unasked=unasked,
    )


def _resize(
    stated: settings.Preprocess,
    sources: Mapping[str, str],
    recognition: Recognition,
    labels: Sequence[str] | None,
    evidence: list[str],
) -> "tuple[Resize, float, bool]":
    """How a picture is fitted, the fraction of it that is kept, and whether it is cropped though nothing states it."""
    crop, unasked = stated.crop or 1.0, stated.resize == "center_crop" and "resize" in sources
    if stated.resize or recognition.resize:
        resize: Resize = stated.resize or recognition.resize or "stretch"
        source = _source(stated.resize, recognition.resize, sources.get("resize"))
    elif stated.crop is not None:
        resize, source = "center_crop", "since preprocess.crop is stated"
    elif imagenet := _imagenet(recognition, labels):
        resize, crop, unasked = "center_crop", EVALUATED_CROP, True
        source = f"as classifiers of {imagenet} are evaluated: the sides are not looked at; resize: stretch shows all"
    else:
        resize, source = "stretch", "as is usual"
    kept = f" of {crop:g} of the shorter side" if resize == "center_crop" and crop < 1 else ""
    evidence.append(f"resize: {resize}{kept}, {source}")
    return resize, crop, unasked


def _imagenet(recognition: Recognition, labels: Sequence[str] | None) -> str:
    """What shows that a classifier was evaluated on ImageNet's photographs; "" if nothing does.

    It has their 1000 classes, or 1001 with a background, and if there are labels, they begin as the list of
    https://www.image-net.org/challenges/LSVRC/2012/ does.
    """
    if recognition.task != "classification" or recognition.classes not in IMAGENET_CLASSES:
        return ""
    if labels is None:
        return f"{recognition.classes} classes (ImageNet's)"
    first = [label.lower() for label in labels[recognition.classes - 1000 :][: len(IMAGENET_FIRST)]]
    named = all(any(one.startswith(name) for name in names) for one, names in zip(first, IMAGENET_FIRST, strict=True))
    return "ImageNet's classes" if named else ""


def _color(
    channels: int,
    stated: settings.Preprocess,
    sources: Mapping[str, str],
    recognition: Recognition,
    evidence: list[str],
) -> "Color":
    if channels == 1:
        color: Color = stated.color or "gray"
        source = "as stated" if stated.color else "for one channel"
    else:
        color = stated.color or recognition.color or "rgb"
        source = _source(stated.color, recognition.color, sources.get("color"))
    if (channels == 1) != (color == "gray"):
        raise ModelError(f"preprocess.color: {color} does not fit an input of {channels} channels")
    evidence.append(f"color: {color}, {source}")
    return color


def _source(stated: object, published: object, beside: str | None) -> str:
    if stated is not None:
        return beside or "as stated"
    return "as the family was published" if published is not None else "as is usual"


def _layout(tensor: Tensor, stated: settings.Preprocess, evidence: list[str], missing: dict[str, str]) -> "Layout":
    if stated.layout:
        evidence.append(f"layout: {stated.layout}, as stated")
        return stated.layout
    first, last = tensor.shape[1] in (1, 3), tensor.shape[3] in (1, 3)
    if first == last:
        missing["preprocess.layout"] = (
            f"the input's shape {list(tensor.shape)} does not tell its layout: state preprocess.layout: nhwc or nchw"
        )
    else:
        evidence.append(f"layout: {'nchw' if first else 'nhwc'}, from the input's shape {list(tensor.shape)}")
    return "nchw" if first else "nhwc"


def _sides(tensor: Tensor, layout: "Layout") -> tuple[int, int, int]:
    _, a, b, c = tensor.shape
    height, width, channels = (a, b, c) if layout == "nhwc" else (b, c, a)
    if channels not in (1, 3):
        raise ModelError(
            f"an input of {channels} channels is not a picture: expected 1 or 3, shape {list(tensor.shape)}"
        )
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ModelError(
            f"the input's size is out of bounds, shape {list(tensor.shape)}: expected 1 to {MAX_SIDE} pixels"
        )
    return height, width, channels


def _normalization(
    file: ModelFile,
    stated: settings.Preprocess,
    sources: Mapping[str, str],
    recognition: Recognition,
    color: "Color",
    evidence: list[str],
    missing: dict[str, str],
) -> Normalization:
    """Mean and std by which a pixel x becomes a stored value of the input tensor, (x - mean) / std."""
    tensor, channels = file.inputs[0], 1 if color == "gray" else 3
    if stated.normalize is not None:
        mean, std = _stated_normalization(stated.normalize, color)
        source = sources.get("normalize", "as stated")
    elif file.normalization is not None:
        mean, std = file.normalization
        source = "from the file's metadata"
    elif tensor.dtype in ("uint8", "uint16", "int16", "int32") and tensor.scale is None:
        mean, std, source = *PRESETS["raw"], "for an input of whole numbers"
    elif tensor.dtype in ("uint8", "int8") and any(tensor.covers(values) for values in _PIXEL_RANGES.values()):
        evidence.append("normalize: pixels as they are, the quantised input covers exactly their range")
        return (float(-INTEGER_LIMITS[tensor.dtype][0]),), (1.0,)
    elif preset := _preset_of(file.quantised_input):
        mean, std = PRESETS[preset]
        source = "its first operator quantises exactly that range"
    elif recognition.normalization is not None:
        mean, std = recognition.normalization
        source = "as the family was published"
    else:
        missing["preprocess.normalize"] = (
            f"the file does not say how pixels become its input ({tensor.dtype}): state preprocess.normalize: "
            "unit (0..1), signed (-1..1), raw (0..255), imagenet, or {mean: …, std: …}"
            + ("; or, if it takes no pictures but readings or sound, input.kind: series or audio" * (color == "gray"))
        )
        return PRESETS["raw"]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise ModelError(
            f"preprocess.normalize: {len(mean)} means and {len(std)} stds for {counted(channels, 'channel')}"
        )
    evidence.append(f"normalize: mean {_listed(mean)}, std {_listed(std)}, {source}")
    return _quantised(mean, std, tensor)


def _preset_of(quantised: Tensor | None) -> str:
    """The preset whose range a quantised tensor covers; "" if none."""
    found = (name for name, values in _PIXEL_RANGES.items() if quantised is not None and quantised.covers(values))
    return next(found, "")


def _stated_normalization(normalize: str | Normalize, color: "Color") -> Normalization:
    if isinstance(normalize, str):
        mean, std = PRESETS[normalize]
        if normalize == "imagenet" and color == "gray":
            raise ModelError("preprocess.normalize: imagenet is for three channels: state mean and std")
        return (mean[::-1], std[::-1]) if color == "bgr" else (mean, std)
    mean, std = (v if isinstance(v, tuple) else (v,) for v in (normalize.mean, normalize.std))
    return mean, std


def _quantised(mean: Channels, std: Channels, tensor: Tensor) -> Normalization:
    """Folds a quantised input's scale and zero point into mean and std.

    If that maps the pixels 0..255 to the whole range of the type, within rounding, only the offset of the type is left.
    """
    if tensor.scale is None:
        return mean, std
    count = max(len(mean), len(std))
    means = [mean[i % len(mean)] - tensor.zero_point * tensor.scale * std[i % len(std)] for i in range(count)]
    stds = [std[i % len(std)] * tensor.scale for i in range(count)]
    low, high = INTEGER_LIMITS[tensor.dtype]
    ends = [(-m / s - low, (255 - m) / s - high) for m, s in zip(means, stds, strict=True)]
    if high - low == MAX_LEVEL and all(math.isclose(end, 0, abs_tol=ROUNDING) for pair in ends for end in pair):
        return (float(-low),), (1.0,)
    return tuple(means), tuple(stds)


def _listed(values: Channels) -> str:
    return ", ".join(f"{value:g}" for value in values)
