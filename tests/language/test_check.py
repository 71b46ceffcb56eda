"""What `check` says of configurations with language models."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import loader
from edge_agent.errors import ConfigError
from edge_agent.models.language import find
from edge_agent.models.loading import AnyModel, load_models
from edge_agent.models.shipped import shipped
from edge_agent.pipeline import compatibility
from edge_agent.settings.text import Language
from tests.language.model_files import CHAT_TEMPLATE, write_model

MQTT = {"type": "mqtt", "topic": "t"}
LINES = {"type": "command", "argv": ["true"], "format": "jsonl"}


def write(folder: Path, pipelines: dict[str, Any], sections: dict[str, Any]) -> Path:
    file = folder / "agent.yaml"
    models = {"words": {"path": "model", "language": {"context": 256}}, "digits": {"path": str(shipped("digits"))}}
    file.write_text(yaml.safe_dump({"models": models, "pipelines": pipelines} | sections))
    return file


def loaded(file: Path) -> dict[str, AnyModel]:
    config = loader.load(file)
    models = load_models(config, {})
    compatibility.check(config, models)
    return models


def valid(folder: Path, pipelines: dict[str, Any], **sections: Any) -> bool:
    models = loaded(write(folder, pipelines, sections))
    for model in models.values():
        model.close()
    return bool(models)


def problem(folder: Path, pipelines: dict[str, Any], **sections: Any) -> str:
    """What is wrong with a configuration, without the name of its file."""
    file = write(folder, pipelines, sections)
    with pytest.raises(ConfigError) as error:
        loaded(file)
    return str(error.value).removeprefix(f"{file}:")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "model")
    return folder


@pytest.mark.parametrize(
    ("pipeline", "sentence"),
    [
        (
            {"source": {"type": "images", "path": "."}, "model": "words"},
            "it takes requests from mqtt, pipeline, or readings",
        ),
        ({"source": {"type": "microphone", "rate": 16000}, "model": "words"}, "it takes requests from mqtt"),
        ({"source": LINES, "model": "words"}, "prompt is required: it says what to ask about readings"),
        (
            {"source": LINES | {"restart": "never"}, "model": "words", "text": {"prompt": "{readings}"}},
            "a question is asked every min_interval, so the readings must go on",
        ),
        ({"source": MQTT, "model": "words", "top_k": 3}, "top_k: is for predictions, and words gives text"),
        ({"source": MQTT, "model": "words", "publish": {"on_change": True}}, "every answer is published"),
        ({"source": MQTT, "model": "words", "keep": {}}, "state `prompts: true` if these may be written to the disk"),
        (
            {"source": MQTT, "model": "words", "keep": {"prompts": True, "when": {"confidence": [0, 1]}}},
            "keep.when.confidence: is for predictions, and words gives text",
        ),
        (
            {"source": MQTT, "model": "words", "keep": {"prompts": True, "mask": [[[0, 0], [1, 0], [1, 1]]]}},
            "keep.mask: is for pictures, words takes none",
        ),
        ({"source": MQTT, "model": "digits", "keep": {"prompts": True}}, "keep.prompts: is for language models"),
        (
            {"source": MQTT, "model": "digits", "keep": {"when": {"finish_reason": ["refused"]}}},
            "keep.when.finish_reason: is for language models, and digits is none",
        ),
        ({"source": MQTT, "model": "words", "text": {"prompt": "x"}}, "text.prompt: is for predictions and readings"),
        ({"source": {"type": "pipeline", "name": "lab"}, "model": "words"}, "prompt is required"),
        (
            {"source": {"type": "pipeline", "name": "chat"}, "model": "words", "text": {"prompt": "x"}},
            "chat makes no predictions, its task is text",
        ),
        ({"source": MQTT, "model": "digits", "text": {"system": "x"}}, "text: is for language models"),
        ({"source": MQTT, "model": "words", "text": {"options": {"max_tokens": 0}}}, "max_tokens: must be >= 1"),
        ({"source": MQTT, "model": "words", "text": {"options": {"json_schema": "{"}}}, "must be a JSON Schema"),
        (
            {"source": MQTT, "model": "words", "text": {"options": {"json_schema": '{"items": {"not": {}}}'}}},
            "text.options.json_schema: at /items: `not` is not supported",
        ),
        (
            {"source": LINES, "model": "words", "text": {"prompt": "{time}: {reading}"}},
            "text.prompt: {reading} is not replaced here, only {readings} {pipeline} {device_id} {time} are",
        ),
        (
            {"source": LINES, "model": "words", "text": {"prompt": "{predictions}"}},
            "text.prompt: {predictions} is not replaced here",
        ),
        (
            {"source": {"type": "pipeline", "name": "lab"}, "model": "words", "text": {"prompt": "{readings}"}},
            "text.prompt: {readings} is not replaced here, only {predictions} {labels}",
        ),
        (
            {
                "source": {"type": "pipeline", "name": "lab", "labels": ["Blank"]},
                "model": "words",
                "text": {"prompt": "x"},
            },
            "source.labels: lab finds no 'Blank': did you mean 'blank'?",
        ),
    ],
)
def test_what_does_not_go_with_text_is_named_with_its_key(
    folder: Path, pipeline: dict[str, Any], sentence: str
) -> None:
    pipelines = {
        "chat": {"source": MQTT, "model": "words"},
        "lab": {"source": MQTT, "model": "digits"},
        "odd": pipeline,
    }
    said = problem(folder, pipelines)
    assert "pipelines.odd" in said
    assert sentence in said


@pytest.mark.parametrize("prompt", ['as JSON: {"on": true} {on} {}', "{ {", "{labels} {time}", "{pipeline}{device_id}"])
def test_other_braces_in_a_prompt_are_text(folder: Path, prompt: str) -> None:
    lab = {"source": MQTT, "model": "digits"}
    source = {"type": "pipeline", "name": "lab"}
    assert valid(folder, {"lab": lab, "say": {"source": source, "model": "words", "text": {"prompt": prompt}}})


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
LEAVING_OUT = CHAT_TEMPLATE.replace("in messages", "in messages if message['role'] != 'system'")


@pytest.mark.parametrize(
    ("template", "sentence"),
    [(REFUSING + CHAT_TEMPLATE, "no system role"), (LEAVING_OUT, "the model's template leaves out system messages")],
)
def test_a_system_message_that_the_model_has_no_place_for_is_refused(
    template: str, sentence: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", template=template)
    pipeline = {"source": MQTT, "model": "words", "text": {"system": "You are a lamp."}}
    said = problem(tmp_path, {"chat": pipeline})
    assert "pipelines.chat.text.system: the model's template" in said
    assert sentence in said
    assert valid(tmp_path, {"chat": {"source": MQTT, "model": "words"}})


def test_a_model_without_a_template_takes_a_system_message(tmp_path: Path) -> None:
    write_model(tmp_path / "model", chat=False)
    assert valid(tmp_path, {"chat": {"source": MQTT, "model": "words", "text": {"system": "You are a lamp."}}})


def test_a_model_that_does_not_fit_in_the_memory_is_refused_with_the_numbers(folder: Path) -> None:
    said = problem(folder, {"chat": {"source": MQTT, "model": "words"}}, model_memory="1MB")
    assert "models.words" in said
    assert re.search(
        r"it takes about 104\.5 MB of memory \(weights 7\d\d\.\d kB, cache 3\.7 MB, its process 100\.0 MB\)", said
    )
    assert "and of model_memory 1.0 MB are left" in said


def test_the_memory_is_one_for_all_models(folder: Path) -> None:
    source = find(folder / "model", None)
    assert source is not None
    need = source.memory(Language(context=256))
    words = {"chat": {"source": MQTT, "model": "words"}}
    both = words | {"lab": {"source": MQTT, "model": "digits"}}
    assert valid(folder, words, model_memory=need)
    said = problem(folder, both, model_memory=need)
    # Language models are loaded first.
    assert "models.digits" in said
    assert "models.words" not in said


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "genai_config.json"])
def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path, file: str) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(b"nonsense")
    said = problem(tmp_path, {"chat": {"source": MQTT, "model": "words"}})
    assert "models.words" in said
    assert "\n" not in said


@pytest.mark.parametrize("place", ["model/model.safetensors", "model"])
def test_a_model_as_it_is_published_for_pytorch_is_refused_with_what_to_do(tmp_path: Path, place: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "model" / "config.json").write_text("{}")
    models = {"words": {"path": place}}
    said = problem(tmp_path, {"chat": {"source": MQTT, "model": "words"}}, models=models)
    assert "make an ONNX model of them" in said
    assert ".gguf" in said
