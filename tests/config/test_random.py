"""Whatever stands in a configuration file, it is loaded, or refused in plain words."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from edge_agent.config import loader
from edge_agent.errors import ConfigError
from edge_agent.settings import Settings

# No message may speak of Python, or in the terms of the library that checks the settings.
JARGON = re.compile(
    r"\b(Input|dictionary|tuple|string|integer|pars(e|ing)|instance|pydantic|literal|bool|str|float|None|NoneType|"
    r"validation|True|False|should)\b",
)
SCHEMA = Settings.model_json_schema()
KEYS = st.sampled_from(
    [*sorted({key for part in (SCHEMA, *SCHEMA["$defs"].values()) for key in part["properties"]}), "a", "b"]
)
WORDS = [
    "mqtt",
    "camera",
    "video",
    "images",
    "embedded",
    "mqtts://b",
    "cpu",
    "unit",
    "none",
    "a",
    "#",
    "5s",
    "1MB",
    "~",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.sampled_from([*WORDS, "${env:HOME}", ".", "/"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner), max_leaves=30)
WHOLE = """\
device_id: porch
mqtt: {url: embedded, protocol: 5, username: x, password_file: f, ca_file: f, cert_file: f, key_file: f,
  topic_prefix: edge, keepalive: 1m, session_expiry: 1d, max_packet_size: 1MB}
outbox: {path: o.db, max_size: 1MB, when_full: drop_oldest, replay_rate: 5}
stats_interval: 10s
models:
  m: {path: x, labels: none, output: logits, accelerators: [edgetpu, cpu], threads: 2,
    preprocess: {resize: stretch, color: bgr, layout: nhwc, normalize: {mean: [1, 2, 3], std: 5}}}
pipelines:
  a: {source: {type: mqtt, topic: a/b, qos: 1, share: g, max_payload: 1MB}, model: m, top_k: 3, min_confidence: 0.5}
  b: {source: {type: camera, device: 0, fps: 5, width: 640, height: 480, stall_timeout: 5s}, model: m}
  c: {source: {type: video, url: f, fps: max, loop: yes, stall_timeout: 5s}, model: m}
  d: {source: {type: images, path: .}, model: m, regions: {left: [0, 0, 0.5, 1], right: [0.5, 0, 1, 1]}}
"""
SIGNS = [*":-,{}[]'\"#&*!|>%@`~?", "<<", "&a", "*a", "!!str", "a:", "b:", "mqtt:", "models:", "\n", "  "]


def what_is_wrong_with(text: str | bytes, folder: Path) -> list[str]:
    """Nothing if it loads; each problem must be one line that names the place. Any other exception fails the test."""
    path = folder / "agent.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        loader.load(path)
    except ConfigError as error:
        for problem in error.problems:
            assert re.match(rf"{re.escape(str(path))}:\d+: ", problem) or problem.endswith("more problems")
            assert problem.isprintable()
        return [problem.removeprefix(str(path)) for problem in error.problems]
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


NO_HURRY = how(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def as_yaml(document: object) -> bytes:
    return yaml.safe_dump(document, allow_unicode=True).encode()


@given(document=st.dictionaries(KEYS, VALUES))
@NO_HURRY
def test_any_document_loads_or_is_refused(document: dict[str, Any], folder: Path) -> None:
    what_is_wrong_with(as_yaml(document), folder)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every value of a document, as what it stands in and its key there."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value if isinstance(value, dict) else range(len(value)))
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@given(data=st.data())
@NO_HURRY
def test_any_value_in_any_place_is_taken_or_refused_in_plain_words(data: st.DataObject, folder: Path) -> None:
    document = yaml.safe_load(WHOLE)
    for _ in range(data.draw(st.integers(1, 5))):
        container, key = data.draw(st.sampled_from(places(document)))
        container[key] = data.draw(VALUES)
    for problem in what_is_wrong_with(as_yaml(document), folder):
        assert not JARGON.search(re.sub(r"\(got .*|there is no .*", "", problem)), problem


@given(tokens=st.lists(st.sampled_from(SIGNS), max_size=40))
@NO_HURRY
def test_any_text_loads_or_is_refused(tokens: list[str], folder: Path) -> None:
    what_is_wrong_with(" ".join(tokens), folder)


@given(content=st.binary(max_size=200))
@NO_HURRY
def test_any_bytes_load_or_are_refused(content: bytes, folder: Path) -> None:
    what_is_wrong_with(content, folder)


def test_the_whole_configuration_that_the_random_ones_start_from_is_sound(folder: Path) -> None:
    (folder / "f").touch()
    assert what_is_wrong_with(WHOLE.replace("embedded", "mqtts://broker"), folder) == []
