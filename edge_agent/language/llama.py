"""The functions of llama.cpp that are needed, called in the library that the package xllamacpp brings.

https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h. That package has wheels for x86-64 and 64-bit ARM.
Its own interface is that of a server, with a queue, a sampler and a cache of its own.

Two structures of parameters have more fields with every version. Only the first four of one of them are set here. The
structures are passed as larger ones: a function reads and writes no more than it knows, since they are the last
argument, or the result, and are passed in memory (System V ABI, AAPCS64).
"""

import ctypes
import importlib.util
from ctypes import POINTER, c_bool, c_char, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from edge_agent.errors import MissingExtraError, ModelError

PACKAGE, LIBRARY = "xllamacpp", "xllamacpp.abi3.so"
_MORE = 1024
# n_ctx, n_batch, n_ubatch, n_seq_max as llama.cpp sets them: that they are found where they are expected shows that the
# structure begins as it is declared here.
_DEFAULTS = (512, 2048, 512, 1)
# Kinds of tokens, `llama_token_attr`.
CONTROL, USER_DEFINED = 1 << 3, 1 << 4


class ModelParams(ctypes.Structure):
    """`llama_model_params`; its defaults suit: memory-mapped, and this library knows no GPU."""

    _fields_ = (("fields", c_uint8 * _MORE),)


class ContextParams(ctypes.Structure):
    """`llama_context_params`."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("more", c_uint8 * _MORE),
    )


class Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


Log = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)

# Name, without `llama_` -> the type of the result, and those of the arguments.
_FUNCTIONS: dict[str, tuple[object, ...]] = {
    "log_set": (None, Log, c_void_p),
    "backend_init": (None,),
    "version": (c_char_p,),
    "model_default_params": (ModelParams,),
    "context_default_params": (ContextParams,),
    "model_load_from_file": (c_void_p, c_char_p, ModelParams),
    "model_get_vocab": (c_void_p, c_void_p),
    "model_n_ctx_train": (c_int32, c_void_p),
    "model_n_head": (c_int32, c_void_p),
    "model_n_head_kv": (c_int32, c_void_p),
    "model_n_embd": (c_int32, c_void_p),
    "model_n_layer": (c_int32, c_void_p),
    "model_meta_val_str": (c_int32, c_void_p, c_char_p, POINTER(c_char), c_size_t),
    "model_chat_template": (c_char_p, c_void_p, c_char_p),
    "init_from_model": (c_void_p, c_void_p, ContextParams),
    "free": (None, c_void_p),
    "set_n_threads": (None, c_void_p, c_int32, c_int32),
    "batch_init": (Batch, c_int32, c_int32, c_int32),
    "batch_free": (None, Batch),
    "decode": (c_int32, c_void_p, Batch),
    "get_logits_ith": (POINTER(c_float), c_void_p, c_int32),
    "get_memory": (c_void_p, c_void_p),
    "memory_seq_rm": (c_bool, c_void_p, c_int32, c_int32, c_int32),
    "vocab_n_tokens": (c_int32, c_void_p),
    "vocab_bos": (c_int32, c_void_p),
    "vocab_eos": (c_int32, c_void_p),
    "vocab_is_eog": (c_bool, c_void_p, c_int32),
    "vocab_get_attr": (c_int32, c_void_p, c_int32),
    "tokenize": (c_int32, c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
    "token_to_piece": (c_int32, c_void_p, c_int32, POINTER(c_char), c_int32, c_int32, c_bool),
}


_SILENT = Log(lambda _level, _text, _data: None)


class Llama:
    """llama.cpp. The functions of the table are attributes, under their names without `llama_`.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: it has another version of llama.cpp than can be called here.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec(PACKAGE)
        places = spec.submodule_search_locations if spec is not None else None
        if not places:
            raise MissingExtraError("running .gguf models", "language")
        try:
            library = ctypes.CDLL(str(Path(places[0], LIBRARY)))
            for name, (result, *arguments) in _FUNCTIONS.items():
                function = getattr(library, f"llama_{name}")
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        except (OSError, AttributeError) as error:
            raise ModelError(f"llama.cpp in the package {PACKAGE} can't be used: {error}") from None
        defaults = self.context_default_params()
        if (defaults.n_ctx, defaults.n_batch, defaults.n_ubatch, defaults.n_seq_max) != _DEFAULTS:
            raise ModelError(f"this version of the package {PACKAGE} has another llama.cpp than is known here")
        self.log_set(_SILENT, None)
        self.backend_init()

    def __getattr__(self, name: str) -> Any:
        """For the type checker: all functions are set."""
        raise AttributeError(name)
