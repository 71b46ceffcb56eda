"""Language models as bundles."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.language.request import ask
from edge_agent.models.budget import Budget
from edge_agent.models.language import LanguageModel, LanguageSource, load
from edge_agent.models.resolve import resolve
from edge_agent.settings.text import Generation
from tests.broker import wait_until
from tests.language.model_files import write_model

Asked = Callable[[Path], LanguageModel]
SCHEMA = (
    '{"type": "object", "required": ["on"], "properties": {"on": {"type": "boolean"}}, "additionalProperties": false}'
)
MANIFEST = """
name: words
version: "3"
task: text
files: {{genai: genai_config.json}}
golden_text:
  - {{prompt: light on, system: You are a lamp., json_schema: '{schema}', text: '{text}'}}
"""


def loaded(path: Path) -> LanguageModel:
    source = resolve(settings.Model(path=path), Path.cwd())
    assert isinstance(source, LanguageSource)
    return load("words", settings.Model(path=path), source, lambda: None, 1, Budget(None))


def write_bundle(folder: Path, text: str) -> Path:
    write_model(folder)
    (folder / "model.yaml").write_text(MANIFEST.format(schema=SCHEMA, text=text))
    return folder


def what_it_says(tmp_path: Path) -> str:
    model = loaded(write_model(tmp_path / "bare"))
    request = ask("light on", Generation.model_validate({"json_schema": SCHEMA}))
    with model.slot():
        *_, answer = model.ask(request.job("You are a lamp.", age=0), lambda: False)
    model.close()
    assert not isinstance(answer, str)
    return answer.text


def test_a_bundle_that_answers_its_golden_samples_serves_as_a_folder_and_as_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = what_it_says(tmp_path)
    folder = write_bundle(tmp_path / "words", text)
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", folder))
    for path in (folder, archive):
        model = loaded(path)
        assert model.identity["version"] == "3"
        model.close()


def test_a_bundle_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "words", "nonsense")
    with pytest.raises(ModelError, match=r"golden sample 1 comes out wrong .*: expected 'nonsense', found '\{"):
        loaded(folder)


def test_a_model_that_has_changed_on_disk_is_another_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    options = settings.Model(path=folder)
    before = resolve(options, tmp_path)
    assert before == resolve(options, tmp_path)
    write_model(folder, seed=2)
    assert resolve(options, tmp_path) != before


def asked(model: LanguageModel) -> str:
    request = ask("light on", Generation(max_tokens=8))
    with model.slot():
        *_, answer = model.ask(request.job("", age=0), lambda: False)
    assert not isinstance(answer, str)
    return answer.text


def test_a_model_that_is_overwritten_while_it_serves_gives_no_answers(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    model = loaded(folder)
    asked(model)
    weights = folder / "model.onnx"
    with weights.open("r+b") as file:
        file.seek(weights.stat().st_size // 2)
        file.write(b"another model")
    with pytest.raises(ModelError, match=r"model\.onnx has been overwritten while it serves: reload"):
        asked(model)
    model.close()


def test_a_model_that_is_overwritten_during_an_answer_does_not_give_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    model = loaded(folder)

    def overwrite() -> bool:
        with (folder / "model.onnx").open("r+b") as file:
            file.write(b"another model")
        return False

    with model.slot(), pytest.raises(ModelError, match="has been overwritten"):
        list(model.ask(ask("light on", Generation(max_tokens=200)).job("", age=0), overwrite))
    model.close()


def test_a_model_that_is_truncated_while_it_serves_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    model = loaded(folder)
    os.truncate(folder / "model.onnx", 0)
    with pytest.raises(ModelError, match="has been overwritten"):
        asked(model)
    model.engine.end()  # as the kernel does it at the next access to the mapping
    for _ in range(2):
        with pytest.raises(ModelError, match=r"refuses the model|has changed since it was checked"):
            asked(model)
    model.close()


def test_a_model_whose_files_are_replaced_goes_on_and_does_not_start_again_with_others(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    model = loaded(folder)
    before = asked(model)
    write_model(tmp_path / "other", seed=2)
    (tmp_path / "other/model.onnx").rename(folder / "model.onnx")
    assert asked(model) == before
    model.engine.end()
    with pytest.raises(ModelError, match=r"model\.onnx has changed since it was checked"):
        asked(model)
    model.close()


def test_a_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words-00001-of-00003.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="join the parts"):
        resolve(settings.Model(path=tmp_path / "words-00001-of-00003.gguf"), tmp_path)


def test_a_model_that_nobody_asks_is_unloaded_and_loaded_for_the_next_request(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "words")
    source = resolve(settings.Model(path=folder), tmp_path)
    assert isinstance(source, LanguageSource)
    options = settings.Model.model_validate({"path": folder, "language": {"keep_alive": "200ms"}})
    model = load("words", options, source, lambda: None, 1, Budget(None))
    for _ in range(2):
        wait_until(lambda: not model.engine._worker.alive, 20, "the process has ended")
        with model.slot() as load_ms:
            assert load_ms > 0
            *_, answer = model.ask(ask("light on", Generation(max_tokens=2)).job("", age=0), lambda: False)
        assert not isinstance(answer, str)
        assert answer.output_tokens == 2
    model.close()
