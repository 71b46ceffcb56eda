import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError
from edge_agent.models.accelerator_choice import threads_of
from edge_agent.models.loading import load_models, with_threads
from edge_agent.models.model import Model
from tests.models.external_weights import with_weights_in
from tests.sources.stage import DIGITS


@pytest.mark.parametrize(
    ("cores", "models", "each"),
    [(1, 1, 1), (1, 3, 1), (2, 1, 1), (4, 1, 2), (4, 2, 2), (4, 3, 1), (4, 9, 1), (8, 1, 4), (8, 2, 4), (8, 3, 2)],
)
def test_models_that_state_no_threads_share_the_cores(
    cores: int, models: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert threads_of(with_threads(settings.Model(path=DIGITS), models)) == each


def test_threads_that_are_stated_are_left_as_they_are() -> None:
    assert threads_of(with_threads(settings.Model(path=DIGITS, threads=7), engines=5)) == 7


def configuration(folder: Path, **pipelines: Any) -> Config:
    file = folder / "agent.yaml"
    source = {"type": "mqtt", "topic": "in"}
    used = {name: {"source": source, "model": "digits"} | options for name, options in pipelines.items()}
    models = {"digits": {"path": str(DIGITS), "threads": 1}}
    file.write_text(yaml.safe_dump({"models": models, "pipelines": used}))
    return loader.load(file)


def test_weights_in_other_files_count_as_memory(tmp_path: Path) -> None:
    model = with_weights_in("w.bin")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as weights:
        weights.truncate(3_000_000)
    file = tmp_path / "agent.yaml"
    sensor = {"type": "mqtt", "topic": "in"}
    models = {"digits": {"path": "m.onnx"}}
    pipelines = {"lab": {"source": sensor, "model": "digits"}}
    file.write_text(yaml.safe_dump({"model_memory": "2MB", "models": models, "pipelines": pipelines}))
    with pytest.raises(ConfigError, match=r"takes about 3.0 MB of memory .*, and of model_memory 2.0 MB are left"):
        load_models(loader.load(file), {})


def test_a_model_has_an_engine_for_each_batch_size_and_keeps_those_that_are_loaded(tmp_path: Path) -> None:
    regions = {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 1, 1]}
    before = load_models(configuration(tmp_path, all={}), {})
    both = load_models(configuration(tmp_path, all={}, parts={"regions": regions}), before)
    same = load_models(configuration(tmp_path, all={}, parts={"regions": regions}, more={}), both)
    after = load_models(configuration(tmp_path, parts={"regions": regions}), both)
    model, wider, narrower = before["digits"], both["digits"], after["digits"]
    assert isinstance(model, Model)
    assert isinstance(wider, Model)
    assert isinstance(narrower, Model)
    assert same["digits"] is wider
    assert (list(model.engines), list(wider.engines), list(narrower.engines)) == ([1], [1, 2], [2])
    assert wider.engine_for(1) is model.engine_for(1)
    assert narrower.engine_for(2) is wider.engine_for(2)
    assert (wider.memory, narrower.memory) == (2 * model.memory, model.memory)
    wider.close()
