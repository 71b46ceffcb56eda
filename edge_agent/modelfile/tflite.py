"""Reads a TFLite file: the model's flatbuffer, its metadata table and the zip archive at its end.

Sources (tables and field numbers):
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs,
https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs.
"""

import math
import struct
import zipfile
import zlib
from collections import Counter
from io import BufferedReader
from itertools import islice
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import DamagedError, ModelFile, Tensor, embedded_facts, embedded_names
from edge_agent.modelfile.flatbuffer import MAX_TABLES, MAX_TEXT_BYTES, Table
from edge_agent.modelfile.labels import MAX_CLASS, parse_labels
from edge_agent.modelfile.tflite_checks import keeps_state, miscomputed
from edge_agent.modelfile.view import View
from edge_agent.system.text import decode_lenient

MAX_OPERATORS = 100_000
MAX_OUTPUTS = 1_000_000
MAX_RANK = 64
MAX_METADATA_BYTES = 16 * 1024**2
MAX_ASSOCIATED_FILES = 256
MAX_DIRECTORY_BYTES = 1024**2
MAX_ASSOCIATED_FILE_BYTES = 1024**2

# TensorType and BuiltinOperator in the order of their numbers.
_DTYPE_NAMES = """
    float32 float16 int32 uint8 int64 str bool int16 complex64 int8 float64 complex128 uint64 resource variant
    uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
"""
_OPERATOR_NAMES = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
    FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
    SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX
    DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER
    GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL
    LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT
    LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
    RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N
    GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF
    WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
    GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM
    ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
    STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
    STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
    STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
    STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD
    STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
    STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
    STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
_DTYPES = dict(enumerate(_DTYPE_NAMES.split()))
_OPERATORS = dict(enumerate(_OPERATOR_NAMES.split()))
# These change only the type or the shape of another operator's output.
_SEEN_THROUGH = {"DEQUANTIZE", "QUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"}

# Methods whose decompression needs bounded memory, unlike LZMA.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_COLOR_SPACES = {1: "RGB", 2: "GRAYSCALE"}
_LABEL_FILE_TYPES = (2, 3)  # TENSOR_AXIS_LABELS and TENSOR_VALUE_LABELS of AssociatedFileType
_METADATA_TEXTS = {
    0: "name",
    1: "description",
    2: "version",
    4: "author",
    5: "license",
    7: "min_parser_version",
}
# Of this operator, the options state for how many classes it was made.
_POST_PROCESS = "TFLite_Detection_PostProcess"
# Files with the facts of an Ultralytics export: YOLOv5, YOLOv8 until 2024, YOLOv8 and later.
_FACT_FILES = ("meta.txt", "temp_meta.txt", "metadata.json")


def read(path: Path, sha256: str, data: View, file: BufferedReader) -> ModelFile:
    """Reads the facts of a TFLite file.

    Args:
        path: the file.
        sha256: of its content.
        data: its content.
        file: the file, open for reading.

    Raises:
        DamagedError: an offset points outside of the file, or a size is invalid.
        ModelError: it names other files.
    """
    model = Table.root(data)
    if model.vector(8, 4)[1]:
        raise ModelError(f"{path}: its weights lie in other files, which can't be loaded: export it as one file")
    graph = model.element(2, 0)
    inputs, outputs = graph.numbers(1, "i", MAX_TABLES), graph.numbers(2, "i", MAX_TABLES)
    names = [_operator_name(code) for code in model.tables(1)]
    operators, producers = _operators(graph, names)
    metadata = _Metadata(model)
    metadata.add_signature(model, inputs, outputs)
    files, texts = _associated_files(file, data, {*metadata.label_files, *_FACT_FILES})
    missing = ", ".join(name for name in metadata.files if name not in files)
    facts = metadata.facts | ({"missing_files": missing} if missing else {}) | _detection_facts(graph, names)
    for name in _FACT_FILES:
        facts |= embedded_facts(texts.get(name, ""))
    labels, labels_from = _labels(metadata.label_files, texts)
    described = ": ".join(dict.fromkeys(facts[key] for key in ("name", "description") if key in facts))
    return ModelFile(
        path=path,
        format="tflite",
        sha256=sha256,
        size=len(data),
        inputs=tuple(_tensor(graph.element(0, index)) for index in inputs),
        outputs=tuple(_tensor(graph.element(0, index)) for index in outputs),
        operators=operators,
        custom_operators=tuple(dict.fromkeys(name for name, is_custom in names if is_custom)),
        output_operators=tuple(_computed_by(index, producers) for index in outputs),
        version=f"schema {model.number(0, 'I')}",
        description=described or model.text(3),
        metadata=facts,
        labels=labels,
        labels_from=labels_from,
        normalization=metadata.normalization,
        associated_files=files,
        miscomputed=miscomputed(model, [name for name, _ in names]),
        keeps_state=keeps_state(model, [name for name, _ in names]),
        quantised_input=_quantised_input(graph, inputs, producers),
    )


def _tensor(table: Table) -> Tensor:
    name = table.text(3)
    shape, signature = table.numbers(0, "i", MAX_RANK), table.numbers(7, "i", MAX_RANK)
    if len(signature) == len(shape):  # The signature is the shape with -1 for dynamic dimensions.
        shape = signature
    if any(size < -1 for size in shape):
        raise DamagedError(f"the tensor {name!r} has the shape {shape}")
    code = table.number(1, "b")
    dtype = _DTYPES.get(code, f"type{code}")
    quantization = table.inner(4)
    if quantization is None or "int" not in dtype or quantization.vector(2, 4)[1] != 1:
        return Tensor(name, shape, dtype)
    (scale,) = quantization.numbers(2, "f", 1)
    (zero_point,) = quantization.numbers(3, "q", 1) or (0,)
    if not (math.isfinite(scale) and scale >= 0):
        raise DamagedError(f"the tensor {name!r} has the scale {scale}")
    return Tensor(name, shape, dtype, scale, zero_point) if scale else Tensor(name, shape, dtype)


def _quantised_input(graph: Table, inputs: tuple[int, ...], producers: dict[int, tuple[str, int]]) -> Tensor | None:
    """The tensor that an operator QUANTIZE makes of the first input, which is real."""
    found = (
        made for made, (name, first_input) in producers.items() if name == "QUANTIZE" and inputs[:1] == (first_input,)
    )
    made = next(found, None)
    if made is None or _tensor(graph.element(0, inputs[0])).scale is not None:
        return None
    return _tensor(graph.element(0, made))


def _operator_name(code: Table) -> tuple[str, bool]:
    """An operator's name and whether it is a custom one."""
    # Codes above 127 are only in the newer of the two fields, codes of old files only in the older one.
    number = max(code.number(0, "b"), code.number(3, "i"))
    name = _OPERATORS.get(number, f"BUILTIN_{number}")
    return (code.text(1) or name, True) if name == "CUSTOM" else (name, False)


def _operators(graph: Table, names: list[tuple[str, bool]]) -> tuple[Counter[str], dict[int, tuple[str, int]]]:
    """The number of uses of each operator, and for each tensor the operator that computes it, with its first input."""
    uses: Counter[str] = Counter()
    producers: dict[int, tuple[str, int]] = {}
    outputs_left = MAX_OUTPUTS
    for operator in graph.tables(3, MAX_OPERATORS):
        index = operator.number(0, "I")
        if index >= len(names):
            raise DamagedError(f"an operator has the number {index}, of {len(names)}")
        name = names[index][0]
        uses[name] += 1
        start, inputs = operator.vector(1, 4)
        first_input = struct.unpack("<i", bytes(graph.data[start : start + 4]))[0] if inputs else -1
        outputs = operator.numbers(2, "i", outputs_left)
        outputs_left -= len(outputs)
        producers.update(dict.fromkeys(outputs, (name, first_input)))
    return uses, producers


def _detection_facts(graph: Table, names: list[tuple[str, bool]]) -> dict[str, str]:
    """The number of classes that the options of the post-processing operator state, where there is one."""
    if (_POST_PROCESS, True) not in names:
        return {}
    from flatbuffers import flexbuffers  # only few files need it

    for operator in graph.tables(3, MAX_OPERATORS):
        if names[operator.number(0, "I")] != (_POST_PROCESS, True):
            continue
        start, length = operator.vector(5, 1)
        try:
            options = flexbuffers.GetRoot(bytes(graph.data[start : start + min(length, MAX_TEXT_BYTES)]))
            count = int(options.AsMap["num_classes"].AsInt)
        # What its reader raises for damaged bytes.
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error):
            continue
        if 0 < count <= MAX_CLASS:
            return {"detection.num_classes": str(count)}
    return {}


def _computed_by(tensor: int, producers: dict[int, tuple[str, int]]) -> str:
    for _ in range(64):  # A damaged graph may have a cycle.
        name, tensor = producers.get(tensor, ("", -1))
        if name not in _SEEN_THROUGH:
            return name
    return ""


class _Metadata:
    """A model's metadata: entries of plain text, and the metadata table (the entry TFLITE_METADATA)."""

    def __init__(self, model: Table) -> None:
        self.facts: dict[str, str] = {}
        self.files: list[str] = []
        self.label_files: list[str] = []
        self.normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        entries = {entry.text(0): entry.number(1, "I") for entry in model.tables(6)}
        for name, index in entries.items():
            start, length = _buffer(model.element(4, index))
            content = model.data[start : start + min(length, MAX_METADATA_BYTES)]
            if name != "TFLITE_METADATA":
                text = decode_lenient(bytes(content[:MAX_TEXT_BYTES]).rstrip(b"\0"))
                if text and text.isprintable() and "\ufffd" not in text and length <= MAX_TEXT_BYTES:
                    self.facts[name] = text
            elif bytes(content[4:8]) == b"M001":  # another identifier has other field numbers
                self._add_table(Table.root(content))

    def _add_table(self, table: Table) -> None:
        for field, key in _METADATA_TEXTS.items():
            if text := table.text(field):
                self.facts[key] = text
        for graph in islice(table.tables(3), 1):
            for index, tensor in enumerate(graph.tables(2)):
                self._add_tensor(f"input{index}", tensor)
                self._add_files(tensor, 6)
                if index == 0:
                    self._add_normalization(tensor)
            for index, tensor in enumerate(graph.tables(3)):
                self._add_tensor(f"output{index}", tensor)
                self._add_files(tensor, 6, with_labels=True)
            self._add_files(graph, 4, with_labels=True)
        self._add_files(table, 6, with_labels=True)

    def _add_tensor(self, key: str, tensor: Table) -> None:
        if name := tensor.text(0):
            self.facts[f"{key}.name"] = name
        content = tensor.inner(3)
        if content and content.number(0, "B") == 2:  # noqa: PLR2004 - ImageProperties
            properties = content.inner(1)
            color_space = properties.number(0, "b") if properties else 0
            if color_space in _COLOR_SPACES:
                self.facts[f"{key}.color_space"] = _COLOR_SPACES[color_space]
        if content and content.number(0, "B") == 4:  # noqa: PLR2004 - AudioProperties
            properties = content.inner(1)
            rate = properties.number(0, "I") if properties else 0
            if rate:
                self.facts[f"{key}.sample_rate"] = str(rate)

    def _add_normalization(self, tensor: Table) -> None:
        for unit in tensor.tables(4):
            options = unit.inner(1)
            if options and unit.number(0, "B") == 1:  # NormalizationOptions
                mean, std = options.numbers(0, "f", MAX_TABLES), options.numbers(1, "f", MAX_TABLES)
                if not (mean and std and all(map(math.isfinite, mean + std)) and all(std)):
                    raise DamagedError(f"its metadata states a mean of {mean} and a std of {std}")
                self.normalization = mean, std

    def _add_files(self, table: Table, field: int, *, with_labels: bool = False) -> None:
        for file in table.tables(field):
            self.files.append(file.text(0))
            if with_labels and file.number(2, "b") in _LABEL_FILE_TYPES:
                self.label_files.append(file.text(0))
            if len(self.files) > MAX_ASSOCIATED_FILES:
                raise DamagedError(f"its metadata names more than {MAX_ASSOCIATED_FILES} files")

    def add_signature(self, model: Table, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        """Adds the names that the main graph's first signature gives to inputs and outputs."""
        of_main_graph = (one for one in model.tables(7) if not one.number(4, "I"))
        for signature in islice(of_main_graph, 1):
            for key, field, tensors in (("input", 0, inputs), ("output", 1, outputs)):
                for named in signature.tables(field):
                    tensor = named.number(1, "I")
                    if tensor in tensors:
                        self.facts[f"{key}{tensors.index(tensor)}.signature"] = named.text(0)


def _buffer(buffer: Table) -> tuple[int, int]:
    """The position of a buffer in the file, and its size in bytes."""
    start, length = buffer.vector(0, 1)
    if not length:  # Large files keep the bytes behind the flatbuffer.
        start = buffer.number(1, "Q")
        length = buffer.number(2, "Q")
    return start, length


def _labels(label_files: list[str], texts: dict[str, str]) -> tuple[tuple[str, ...] | None, str]:
    for name in label_files:
        labels = parse_labels(texts.get(name, ""))
        # Ultralytics exports declare the file with their facts as a label file.
        if name not in _FACT_FILES and any(labels):
            return labels, f"{name} inside the file"
    for name in _FACT_FILES:
        names = embedded_names(embedded_facts(texts.get(name, "")).get("names", ""))
        if names:
            return names, f"`names` in {name} inside the file"
    return None, ""


def _associated_files(file: BufferedReader, data: View, wanted: set[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names in the zip archive at the end of the file, and the texts of those wanted."""
    # The archive's last record: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
    tail = bytes(data[max(0, len(data) - 22 - 0xFFFF - 20) :])
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + 22 > len(tail):
        return (), {}
    entries, directory_bytes, comment_bytes = struct.unpack_from("<10xHI4xH", tail, end)
    # Weights may hold those four bytes by chance.
    if end + 22 + comment_bytes != len(tail):
        return (), {}
    has_64_bit_record = tail[max(0, end - 20) : end].startswith(b"PK\6\7")
    if entries > MAX_ASSOCIATED_FILES or directory_bytes > MAX_DIRECTORY_BYTES or has_64_bit_record:
        raise DamagedError(
            f"the archive at its end has {entries} files and {directory_bytes} bytes of names, "
            f"expected at most {MAX_ASSOCIATED_FILES} and {MAX_DIRECTORY_BYTES}"
        )
    texts = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in wanted & set(archive.namelist()):
                if archive.getinfo(name).compress_type not in _COMPRESSIONS:
                    raise DamagedError(f"{name} inside of it is compressed in a way that such files are not")
                with archive.open(name) as text:
                    content = text.read(MAX_ASSOCIATED_FILE_BYTES + 1)
                if len(content) > MAX_ASSOCIATED_FILE_BYTES:
                    raise DamagedError(f"{name} inside of it has more than {MAX_ASSOCIATED_FILE_BYTES} bytes")
                texts[name] = decode_lenient(content)
            return tuple(archive.namelist()), texts
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
    ) as error:
        raise DamagedError(f"the archive at its end cannot be read ({error})") from error
