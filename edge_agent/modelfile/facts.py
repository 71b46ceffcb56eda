"""The facts that a model file carries, whatever its format."""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.modelfile.identity import FileIdentity, NamedFile

Format = Literal["tflite", "onnx", "hef", "rknn", "rpk"]

MAX_LITERAL_CHARACTERS = 256 * 1024

INTEGER_LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
# Steps of a quantised value by which converters round the ends of a range.
ROUNDING = 2.0


class DamagedError(Exception):
    """The content is not that of a valid model file; `inspect.read` makes a `ModelError` of it that names the file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: as in the file; "" where it has none.
        shape: outermost dimension first; -1 is dynamic (a TFLite runtime begins with 1 there). `()` is a
            scalar, or a tensor whose shape is not in the file, like those of TFLite_Detection_PostProcess.
        dtype: numpy's name, "str" for text. Types that numpy lacks have the name of the format: "bfloat16",
            "int4"; "sequence", "map", "optional" and "sparse" for ONNX values that are no tensors.
        scale: real = scale * (q - zero_point). None where the values are not quantised, where each channel
            has its own scale, and always for ONNX, which does not state how inputs and outputs are
            quantised.
        zero_point: see scale.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    def covers(self, values: tuple[float, float]) -> bool:
        """Whether its quantised range is from the first value to the second, within rounding."""
        if self.scale is None or self.dtype not in INTEGER_LIMITS:
            return False
        ends = [(limit - self.zero_point) * self.scale for limit in INTEGER_LIMITS[self.dtype]]
        return all(abs(end - value) <= ROUNDING * self.scale for end, value in zip(ends, values, strict=True))


@dataclass(frozen=True, slots=True)
class Suppression:
    """Non-maximum suppression that is part of a compiled file.

    Attributes:
        kind: what it decodes before that: `yolov5`, `yolov5-seg`, `yolov8`, `yolox`, `ssd`; `iou` for boxes that are
            decoded already; "" where the file does not say.
        classes: their number; 0 where the file does not say.
        max_per_class: most boxes of a class; 0 where the file does not say.
        score_threshold: boxes below are left out; None where the file does not say.
        iou_threshold: overlap above which the weaker box is left out; None where the file does not say.
    """

    kind: str
    classes: int = 0
    max_per_class: int = 0
    score_threshold: float | None = None
    iou_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a file that is compiled for a chip states besides the facts of every model file.

    Attributes:
        target: what it was compiled for, as its compiler calls it: `HAILO8L`, `rk3588`, `IMX500`.
        chips: the chips that can load it, as in `chips.LOADS`; empty for a target that is not known here.
        compiler: what made it, with its version; "" where the file does not say.
        stored_inputs: the inputs as they are on the chip, with their quantisation; the vendor's runtime converts.
        stored_outputs: see `stored_inputs`; without those that the runtime computes from others on the CPU.
        suppression: None where it gives what the network computes.
    """

    target: str
    chips: tuple[str, ...]
    compiler: str
    stored_inputs: tuple[Tensor, ...] = ()
    stored_outputs: tuple[Tensor, ...] = ()
    suppression: Suppression | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The facts that a model file carries.

    Attributes:
        path: the file.
        format: by the file's content, not by its ending.
        sha256: of the whole file, in hexadecimal.
        size: in bytes, without the files that it names.
        inputs: in the file's order; ONNX inputs that have a default (an initialiser) are left out. Of a compiled file,
            what its runtime takes.
        outputs: in the file's order. Of a compiled file, what its runtime gives.
        operators: name to number of uses in the main graph. TFLite: as in the schema ("CONV_2D"), custom
            ones by their custom name. ONNX: the type ("Conv"), outside of the runtime's own domains
            "domain.Type".
        custom_operators: those that a plain runtime may lack. TFLite: custom operators (Flex and compiled
            ones too) of all graphs. ONNX: those of the main graph whose domain is not one of ONNX Runtime's
            and which the file does not define as functions.
        output_operators: for each output the operator that computes it ("SOFTMAX", "Sigmoid"), looking
            through those that only change type or shape; "" where it is not known.
        version: "schema 3"; "opset 13, ir 7".
        description: what the file calls itself, or else what it was made with.
        metadata: flat facts. TFLite: text entries of the metadata (`min_runtime_version`, …), fields of the
            metadata table (`name`, `author`, …), `input0.name`, `input0.color_space`, `input0.sample_rate`,
            `output1.name`, … for the tensors, `output1.signature` for a tensor's name in the first signature,
            `missing_files` for files that the metadata names and the archive at the end lacks,
            `detection.num_classes` of TFLite_Detection_PostProcess. ONNX: metadata_props. Both: what an
            Ultralytics export says, each value as Python writes it.
        labels: of the first output that has any; position i is class i.
        labels_from: where the labels were found; "" without labels.
        normalization: (mean, std) of the first input, one value each or one a channel: x becomes (x - mean)
            / std before it is quantised. Pixels count from 0 to 255.
        associated_files: names in the zip archive at the end of a TFLite file.
        miscomputed: what in it the runtime would compute wrongly without an error, and what to do; "" if nothing is
            known.
        keeps_state: whether it keeps state from one inference to the next in variables of its own.
        named_files: the other files that an ONNX model consists of.
        quantised_input: what the graph makes of its first input at once, where that input is real and the first
            operator quantises it: its range is that of the values that the model was made with.
        open_size: whether the height and width of the picture in `inputs` were open in the file, and have been stated.
            Sizes of outputs are then those of the size that it was exported with.
        channelless: whether the input of one channel in `inputs` has no axis for it in the file.
        compiled: of a file in a format of chips alone; None for TFLite and ONNX.
    """

    path: Path
    format: Format
    sha256: str
    size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    custom_operators: tuple[str, ...]
    output_operators: tuple[str, ...]
    version: str
    description: str
    metadata: Mapping[str, str]
    labels: tuple[str, ...] | None
    labels_from: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    associated_files: tuple[str, ...]
    miscomputed: str = ""
    keeps_state: bool = False
    named_files: tuple[NamedFile, ...] = ()
    quantised_input: Tensor | None = None
    open_size: bool = False
    channelless: bool = False
    compiled: Compiled | None = None

    @property
    def identity(self) -> FileIdentity:
        """What an engine needs to load it."""
        return FileIdentity(self.path, self.format, self.sha256, self.size, self.named_files)

    @property
    def total_size(self) -> int:
        """In bytes, with the files that it names."""
        return self.size + sum(file.size for file in self.named_files)


# What Python's str() writes for dictionaries, lists, strings and numbers. The parser behind literal_eval would
# also accept operators that nest without a limit, and it writes warnings on malformed numbers and strings to stderr.
_LITERAL = re.compile(
    r"""(?:[\s\[\]{}(),:]"""
    r"""|'(?:[^'\\\n]|\\['"\\nrtxuU])*+'|"(?:[^"\\\n]|\\['"\\nrtxuU])*+\""""
    r"""|-?\d++(?:\.\d++)?+(?:e[+-]?\d++)?+(?![\w.])|(?:True|False|None)\b)*+"""
)


def embedded_facts(text: str) -> dict[str, str]:
    """The facts that an Ultralytics export writes into the model file: a mapping, as JSON or `str(dict)`.

    Values become strings as Python writes them, as the same facts are in ONNX files. Text that is no such mapping,
    is longer than 256 Ki characters or nests too deeply has no facts. The keys:
    https://github.com/ultralytics/ultralytics/blob/main/ultralytics/engine/exporter.py.
    """
    facts = literal(text)
    return {_text(key): _text(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def embedded_names(text: str) -> tuple[str, ...] | None:
    """The class labels in the `names` of an Ultralytics export, `{0: 'person', 1: 'bicycle'}` or a list."""
    names = literal(text)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not (isinstance(names, dict) and names and all(isinstance(name, str | int) for name in names.values())):
        return None
    labels = {str(key): _text(name) for key, name in names.items()}
    numbers = [str(number) for number in range(len(names))]
    return tuple(labels[number] for number in numbers) if labels.keys() == set(numbers) else None


def _text(value: object) -> str:
    """A value as text; `?` in place of half a surrogate pair, which can't be written as UTF-8."""
    return str(value).encode(errors="replace").decode()


def literal(text: str) -> object:
    """A value that is written as JSON or as Python writes it; None where the text is neither, too long or too deep."""
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text) if _LITERAL.fullmatch(text) else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    try:
        # If this succeeds, str() succeeds in the callers as well.
        str(value)
    except RecursionError:
        return None
    return value
