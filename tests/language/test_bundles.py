"""Language models as bundles."""

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
    with model.exclusive():
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
