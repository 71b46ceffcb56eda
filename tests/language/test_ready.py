"""A language model counts as ready once it has answered."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_agent.errors import ModelError
from edge_agent.language.generation import Answer
from edge_agent.language.process import LanguageProcess, WorkerOptions
from edge_agent.language.request import ask
from edge_agent.settings.text import Generation
from tests.language.gguf_files import write_gguf
from tests.language.model_files import CHAT_TEMPLATE, write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
# A runtime that reads a prompt and dies at the token that follows.
DIES = """
import os, signal
import numpy
__version__ = "0"
class Config:
    def __init__(self, folder): pass
    def overlay(self, text): pass
class Model:
    def __init__(self, config): pass
class Tokenizer:
    eos_token_ids = [0]
    def __init__(self, model): pass
    def encode(self, text): return [1, 2, 3]
    def apply_chat_template(self, messages): return "hello"
    def create_stream(self): return self
    def decode(self, token): return "x"
class GeneratorParams:
    def __init__(self, model): pass
    def set_search_options(self, **options): pass
class Generator:
    def __init__(self, model, params): self.has_read = False
    def append_tokens(self, tokens):
        if self.has_read:
            os.kill(os.getpid(), signal.SIGSEGV)
        self.has_read = True
    def get_logits(self): return numpy.eye(1, 400, 5, dtype=numpy.float32)[None]
"""


def start(folder: Path) -> LanguageProcess:
    return LanguageProcess(WorkerOptions(folder, "genai", threads=1, context=256, cache_size=10_000_000))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        start(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_answers_is_ready(tmp_path: Path) -> None:
    start(write_model(tmp_path)).stop()


def test_a_runtime_that_dies_at_its_first_token_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/onnxruntime_genai.py").write_text(DIES)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    assert "the process of the model has ended (SIGSEGV)" in refusal(write_model(tmp_path / "model"))


def test_a_model_whose_numbers_are_not_finite_is_not_ready(tmp_path: Path) -> None:
    write_model(tmp_path)
    spoil(tmp_path / "model.onnx", lambda shape: np.full(shape, np.nan, np.float32))
    assert "numbers that are not finite" in refusal(tmp_path)


def test_a_model_whose_template_refuses_every_request_is_not_ready(tmp_path: Path) -> None:
    write_model(tmp_path, template="{{ raise_exception('never') }}" + CHAT_TEMPLATE)
    assert "it can't answer 'Hello.'" in refusal(tmp_path)


def spoil(file: Path, values: Callable[[Sequence[int]], object]) -> None:
    """Replaces the weights of the norms."""
    model = onnx.load(str(file))
    norms = [one for one in model.graph.initializer if len(one.dims) == 1 and one.data_type == onnx.TensorProto.FLOAT]
    assert norms
    for norm in norms:
        norm.CopyFrom(numpy_helper.from_array(np.asarray(values(list(norm.dims))), norm.name))
    onnx.save(model, str(file))


def test_a_model_of_llama_cpp_answers_within_a_schema_and_notices_that_it_takes_no_system_message(
    tmp_path: Path,
) -> None:
    template = "{% for message in messages if message.role != 'system' %}{{ message.content }}{% endfor %}"
    file = write_gguf(tmp_path / "model.gguf", template=template)
    process = LanguageProcess(WorkerOptions(file, "gguf", threads=1, context=256, cache_size=10_000_000))
    assert process.system_problem == "the model's template leaves out system messages"
    job = ask("hello", Generation(json_schema={"type": "boolean"})).job("", age=0)
    *_, answer = process.ask(job, lambda: False)
    assert isinstance(answer, Answer)
    assert answer.text in ("true", "false")
    process.stop()
