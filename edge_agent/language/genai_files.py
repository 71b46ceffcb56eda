"""What the files of an ONNX Runtime GenAI model may name: https://onnxruntime.ai/docs/genai/reference/config.html.

Its configuration can name native libraries, files to write, and accelerators with libraries of their own, and it is a
part of the model, which may come from anybody. So every text in it has to be one that is known to do no harm.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.language.genai_config import CONFIG
from edge_agent.modelfile import gate, inspect
from edge_agent.system.text import read_text

MAX_SIZE = 1_000_000
MAX_TEXT = 100
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer_module.json")

_FILES = ("filename", "config_filename", "adapter_filename")
_SECTIONS = (
    *("model", "search", "decoder", "encoder", "embedding", "vision", "speech", "pipeline"),
    *("session_options", "run_options", "inputs", "outputs", "output_names_forwarder", "sliding_window"),
)
# Sections whose texts are names of tensors.
_TENSOR_NAMES = ("inputs", "outputs", "output_names_forwarder")
# Texts that choose among ways to compute. Everything else that is a text could name a file, a library or a device.
_TEXTS = (
    *("type", "alignment", "layer_types", "log_id", "graph_optimization_level"),
    *("session.use_device_allocator_for_initializers", "session.use_env_allocators", "session.disable_prepacking"),
    *("session.intra_op.allow_spinning", "session.inter_op.allow_spinning", "session.set_denormal_as_zero"),
    *("session.qdq_matmulnbits_accuracy_level", "session.dynamic_block_base", "session.enable_quant_qdq_cleanup"),
    *("mlas.enable_gemm_fastmath_arm64_bfloat16", "memory.enable_memory_arena_shrinkage"),
)
_PROVIDERS, _CPU = "provider_options", ("cpu", "CPU", "CPUExecutionProvider")


def check(folder: Path) -> None:
    """Checks a model before a runtime sees it.

    Raises:
        ModelError: it names what it must not name, or can't be read.
    """
    try:
        config = _parsed(folder / CONFIG, escapes=False)
        _check(config, (), folder)
        for name in TOKENIZER_FILES:
            if (folder / name).exists():
                _check_tokenizer(_parsed(folder / name), name, folder)
    except RecursionError:
        raise ModelError(f"{folder}: its configuration is nested too deeply") from None
    for path in sorted(folder.iterdir()):
        if path.suffix == ".onnx" or path.name in _named_models(config):
            inspect.named_files(path)


def _check(value: Any, keys: tuple[str, ...], folder: Path) -> None:
    """Checks a value of the configuration, which stands under these keys."""
    key = keys[-1] if keys else ""
    if key == _PROVIDERS:
        if value not in ([], *([{name: {}}] for name in _CPU)):
            raise _refused(keys, "language models run on the CPU: expected an empty list")
    elif isinstance(value, dict):
        for name, part in value.items():
            _check(part, (*keys, name), folder)
        # Names of pipeline stages, and of tensors to be renamed, are free.
        if keys and key not in _SECTIONS and "pipeline" not in keys:
            raise _refused(keys, "this section is not one that a language model may have here")
    elif isinstance(value, list):
        for part in value:
            _check(part, keys, folder)
    elif isinstance(value, str):
        _check_text(value, keys, folder)


def _check_text(text: str, keys: tuple[str, ...], folder: Path) -> None:
    if keys[-1] in _FILES:
        try:
            gate.check_file(gate.inside(folder, text))
        except ModelError as error:
            raise _refused(keys, f"names {error}") from None
    elif any(section in keys[:-1] or section == keys[-1] for section in _TENSOR_NAMES):
        # The runtime puts a number into the name by C's printf.
        if len(text) > MAX_TEXT or not text.isprintable() or "%" in text.replace("%d", "", 1):
            raise _refused(keys, f"{text[:MAX_TEXT]!r} is no name of a tensor")
    elif keys[-1] not in _TEXTS:
        raise _refused(keys, "this setting is not one that a language model may have here: remove it")
    elif len(text) > MAX_TEXT or not text.isprintable():
        raise _refused(keys, f"expected a short text, found {text[:MAX_TEXT]!r}")


def _check_tokenizer(config: Any, name: str, folder: Path) -> None:
    if not isinstance(config, dict):
        raise ModelError(f"{folder / name}: expected an object")
    vocabulary = config.get("tiktoken_file", "")
    try:
        if vocabulary:
            gate.inside(folder, str(vocabulary))
    except ModelError as error:
        raise ModelError(f"{folder / name}: tiktoken_file: names {error}") from None


def _named_models(value: Any) -> set[str]:
    """The values of all `filename` in the configuration."""
    parts: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {str(value["filename"])} if isinstance(value, dict) and "filename" in value else set()
    return own.union(*(_named_models(part) for part in parts))


def _parsed(path: Path, *, escapes: bool = True) -> Any:
    """A JSON file.

    Args:
        path: the file.
        escapes: whether texts in it may have any; the runtime's parser reads them in its own way.

    Raises:
        ModelError: it can't be read, or a key in it is there twice: the runtime takes both.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and not escapes:
            raise ValueError("a key is there twice")
        return found

    try:
        content = read_text(path, MAX_SIZE)
        problem = "it has a backslash" if "\\" in content and not escapes else ""
        if not problem:
            return json.loads(content, object_pairs_hook=unique)
    except OSError as error:
        problem = str(error.strerror)
    except ValueError as error:
        problem = str(error)
    raise ModelError(f"{path}: can't be used: {problem}")


def _refused(keys: tuple[str, ...], why: str) -> ModelError:
    return ModelError(f"{CONFIG}: {'.'.join(keys)}: {why}")
