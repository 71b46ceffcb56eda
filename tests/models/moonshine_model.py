"""A model with the files, inputs and outputs of a Moonshine model, which hears the same whatever is said."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HEADS, WIDTH, FEATURES, VOCABULARY = 2, 4, 8, 400
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
CACHE = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
START, END = 1, 2
# How much likelier, as a difference of logits, its next token is than each other one.
SURE = 12.0


def write(folder: Path, words: list[str], *, endless: bool = False, following: Mapping[int, int] | None = None) -> Path:
    """Makes the folder of a model that says these words, one a token.

    Args:
        folder: made, if it is not there.
        words: what it says; a word that begins with a space begins so.
        endless: whether it repeats the last word for ever.
        following: further successors of tokens, by their numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [START, *range(300, 300 + len(words))]
    follows = dict(zip(numbers, [*numbers[1:], numbers[-1] if endless else END], strict=True)) | dict(following or {})
    pieces = [b"?"] * 300 + [word.replace(" ", "\u2581").encode() for word in words]
    pieces += [b"!" * 200]  # a long one: its length takes two bytes
    lengths = [bytes([n]) if n < 128 else bytes([n % 128 + 128, n // 128]) for n in map(len, pieces)]
    (folder / "tokenizer.bin").write_bytes(b"".join(a + b for a, b in zip(lengths, pieces, strict=True)))
    _save(_encoder(), folder / "encoder_model")
    _save(_decoder(follows), folder / "decoder_model_merged")
    return folder


def _encoder() -> onnx.GraphProto:
    """Features (batch, samples / 384, 8) of sound: its pieces, as far as that goes."""
    nodes = [
        helper.make_node("Shape", ["attention_mask"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["samples"]),
        helper.make_node("Div", ["samples", "stride"], ["steps"]),
        helper.make_node("Concat", ["one", "steps", "features"], ["size"], axis=0),
        helper.make_node("ReduceMean", ["input_values"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "unit"], ["value"]),
        helper.make_node("Expand", ["value", "size"], ["last_hidden_state"]),
    ]
    return helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info("input_values", FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("attention_mask", INT64, ["batch", "samples"]),
        ],
        [helper.make_tensor_value_info("last_hidden_state", FLOAT, ["batch", "steps", FEATURES])],
        [
            _constant("one", np.array([1])),
            _constant("stride", np.array([384])),
            _constant("features", np.array([FEATURES])),
            _constant("nothing", np.float32(0)),
            _constant("unit", np.float32(1)),
        ],
    )


def _decoder(follows: Mapping[int, int]) -> onnx.GraphProto:
    """Logits of the next token. As in a merged model, the encoder's part of the cache is made at the first token only;
    without it, or without the mask of the whole sound, what follows is nonsense."""
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    for token, successor in follows.items():
        table[token, successor] = SURE
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["next"]),
        helper.make_node("ReduceSum", ["past_key_values.0.encoder.key"], ["kept"], keepdims=0),
        helper.make_node("Greater", ["kept", "nothing"], ["is_kept"]),
        helper.make_node("Not", ["use_cache_branch"], ["is_first"]),
        helper.make_node("Or", ["is_kept", "is_first"], ["has_features"]),
        helper.make_node("Shape", ["encoder_hidden_states"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["steps"]),
        helper.make_node("Mul", ["steps", "stride"], ["samples"]),
        helper.make_node("ReduceSum", ["encoder_attention_mask"], ["heard"], keepdims=0),
        helper.make_node("LessOrEqual", ["samples", "heard"], ["has_sound"]),
        helper.make_node("And", ["has_features", "has_sound"], ["is_right"]),
        helper.make_node("Cast", ["is_right"], ["factor"], to=FLOAT),
        helper.make_node("Mul", ["next", "factor"], ["logits"]),
        helper.make_node("Cast", ["is_first"], ["first"], to=INT64),
        helper.make_node("Slice", ["encoder_hidden_states", "zero", "first", "axis"], ["some"]),
        helper.make_node("Reshape", ["some", "heads"], ["split"]),
    ]
    for part in CACHE:
        past, present = f"past_key_values.0.{part}", f"present.0.{part}"
        if part.startswith("encoder"):
            nodes.append(helper.make_node("Identity", ["split"], [present]))
        else:
            nodes.append(helper.make_node("Concat", [past, "step"], [present], axis=2))
    cache = [
        helper.make_tensor_value_info(f"past_key_values.0.{part}", FLOAT, ["batch", HEADS, f"{part} steps", WIDTH])
        for part in CACHE
    ]
    made = [
        helper.make_tensor_value_info(f"present.0.{part}", FLOAT, ["batch", HEADS, f"{part} made", WIDTH])
        for part in CACHE
    ]
    return helper.make_graph(
        nodes,
        "decoder",
        [
            helper.make_tensor_value_info("encoder_attention_mask", INT64, ["batch", "steps"]),
            helper.make_tensor_value_info("input_ids", INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("encoder_hidden_states", FLOAT, ["batch", "steps", FEATURES]),
            *cache,
            helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]),
        ],
        [helper.make_tensor_value_info("logits", FLOAT, ["batch", "tokens", VOCABULARY]), *made],
        [
            _constant("table", table),
            _constant("nothing", np.float32(0)),
            _constant("zero", np.array([0])),
            _constant("axis", np.array([1])),
            _constant("stride", np.array([384])),
            _constant("heads", np.array([1, HEADS, -1, WIDTH])),
            _constant("step", np.zeros((1, HEADS, 1, WIDTH), np.float32)),
        ],
    )


def _constant(name: str, value: "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | np.generic") -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def _save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".ort"))  # its name decides the format
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
