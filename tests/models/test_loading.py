import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError
from edge_agent.models.loading import load_models, with_threads
from edge_agent.models.model import Model
from edge_agent.models.tuning import threads_of
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
    models = {"digits": {"path": str(DIGITS), "threads": 1, "engines": 1}}
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


def test_each_engine_counts_as_memory_and_further_ones_take_what_all_models_leave(
    tmp_path: Path, data_dir: Path
) -> None:
    model_file = data_dir / "classify_tflite" / "mobilenet_v1_0.25_224_quant.tflite"
    size = model_file.stat().st_size
    file = tmp_path / "agent.yaml"
    photos = {"path": str(model_file), "labels": "none", "threads": 1}
    source = {"type": "mqtt", "topic": "in"}

    def load(memory: float, **models: Any) -> dict[str, Any]:
        pipelines = {name: {"source": source, "model": name} for name in models}
        document = {"model_memory": f"{int(size * memory)}B", "models": models, "pipelines": pipelines}
        file.write_text(yaml.safe_dump(document))
        return dict(load_models(loader.load(file), {}))

    with pytest.raises(ConfigError, match="and of model_memory"):
        load(2.5, photos=photos | {"engines": 3})
    stated = load(3.5, photos=photos | {"engines": 3})["photos"]
    assert (stated.parallel, stated.memory) == (3, 3 * size)
    both = load(2.5, one=photos, two=photos)
    assert [model.parallel for model in both.values()] == [1, 1]
    for model in (stated, *both.values()):
        model.close()
