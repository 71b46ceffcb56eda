"""`replay`: equal to the bit on the same machine, else it says where, and what has changed."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from edge_agent import cli, settings
from edge_agent.config.loader import Config
from edge_agent.keeping.documents import head_of
from edge_agent.keeping.record import Recorder
from edge_agent.keeping.recording import open_recording, recordings
from edge_agent.models.model import Model
from edge_agent.models.shipped import shipped
from edge_agent.sample_store.segment import Appender, Entry, walk
from tests.images import decode_image
from tests.keeping.kit import DEVICE
from tests.pipeline.conftest import GOLDEN
from tests.pipeline.conftest import model as model  # noqa: PLC0414 - a fixture
from tests.sources.stage import Stage

ALL = {"before": "1h", "after": "1h", "max_length": "2h", "when": ["error", "command"]}
Replay = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Pictures, one of them so large that it is decoded at a reduced size, and one that is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in GOLDEN[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    large = np.asarray(cv2.imread(str(GOLDEN[4]))).repeat(10, axis=0).repeat(10, axis=1)
    cv2.imwrite(str(folder / "large.jpg"), large)
    (folder / "broken.png").write_bytes(GOLDEN[0].read_bytes()[:100])
    return folder


def recorded(
    folder: Path, images: Path, model: Model, record: Mapping[str, Any] = MappingProxyType({}), **options: Any
) -> Path:
    """A recording of the pictures."""
    pipeline = {"source": {"type": "images", "path": str(images)}, "model": "digits", **options}
    all_of_it = {"models": {"digits": {"path": str(shipped("digits"))}}, "pipelines": {"stage": pipeline}}
    config = Config(folder / "agent.yaml", settings.Settings.model_validate(all_of_it), {})
    stage = Stage(pipeline["source"], model, folder, **options)
    recorder = Recorder(
        "stage",
        settings.Record.model_validate(ALL | dict(record)),
        DEVICE,
        folder / "recordings",
        partial(head_of, "stage", config, model, DEVICE),
        stage.counters.as_dict,
    )
    recorder.start()
    stage.pipeline.observers.append(recorder)
    with stage:
        stage.wait_until_ended()
    recorder.close(10)
    [path] = recordings(folder / "recordings")
    return path


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def run(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code = cli.main(["replay", *map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def rewritten(path: Path, change: Callable[[int, dict[str, Any]], Mapping[str, Any]]) -> Path:
    """A recording whose entries are changed."""
    other = path.with_name("changed.recording")
    entries = [
        Entry(change(number, dict(entry.document)), entry.data).encoded()
        for number, (_, entry) in enumerate(walk(path))
    ]
    Appender(other).append(entries)
    return other


def test_the_same_inputs_give_the_same_to_the_bit(tmp_path: Path, images: Path, model: Model, replay: Replay) -> None:
    path = recorded(tmp_path, images, model)
    code, document = replay(path)
    assert (code, document["inputs"], document["equal"], document["changed"]) == (0, 6, 6, 0)
    assert document["compared"] == {"bits": 6, "stages": 0, "results": 0}
    assert document["machine"] == {"same_runtime": True, "same_processor": True}
    # A recording needs none of the files that it was made of.
    for image in images.iterdir():
        image.unlink()
    assert replay(path)[0] == 0


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_the_pace_is_that_of_the_inputs_though_the_clock_jumped(
    tmp_path: Path, images: Path, model: Model, replay: Replay, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    def change(number: int, document: dict[str, Any]) -> Mapping[str, Any]:
        if "captured" not in document:
            return document
        return document | {"captured": 1e6 + 30 * number, "captured_at": 1e9 + (jump if number > 2 else 0)}

    path, now, slept = rewritten(recorded(tmp_path, images, model), change), 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    monkeypatch.setattr("edge_agent.keeping.replay.time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    assert replay(path, "--pace")[0] == 0
    assert slept == [0, 30, 30, 30, 30, 30]


def test_of_masked_pictures_only_results_are_compared(
    tmp_path: Path, images: Path, model: Model, replay: Replay
) -> None:
    path = recorded(tmp_path, images, model, {"mask": [[[0, 0], [1, 0], [1, 1], [0, 1]]]})
    code, document = replay(path)
    assert document["compared"] == {"bits": 1, "stages": 0, "results": 5}  # the broken one has no picture
    assert (code, document["first_difference"]["stage"]) == (1, "result")


@pytest.mark.parametrize("stage", ["input", "inference", "decode", "result"])
def test_the_first_input_and_stage_that_differ_are_named(
    tmp_path: Path, images: Path, model: Model, replay: Replay, stage: str
) -> None:
    path = recorded(tmp_path, images, model)
    numbers = [n for n, entry in enumerate(open_recording(path).entries(), 1) if "result" in entry.document]

    def change(number: int, document: dict[str, Any]) -> Mapping[str, Any]:
        if number not in numbers[1:3]:
            return document
        if stage == "result":
            return document | {"result": {**document["result"], "predictions": []}}
        return document | {"digests": {**document["digests"], stage: "0" * 16}}

    code, document = replay(rewritten(path, change))
    assert (code, document["equal"]) == (1, 4)
    first = document["first_difference"]
    assert (first["input"], first["stage"]) == (numbers[1], stage)


def test_other_options_and_models_show_what_has_changed(
    tmp_path: Path, images: Path, model: Model, replay: Replay
) -> None:
    path = recorded(tmp_path, images, model)
    config = {
        "models": {"digits": {"path": str(shipped("digits")), "preprocess": {"normalize": "raw"}}},
        "pipelines": {"stage": {"source": {"type": "mqtt", "topic": "t"}, "model": "digits", "top_k": 1}},
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
    sheet = tmp_path / "sheet.jpg"
    code, document = replay(path, "-c", tmp_path / "agent.yaml", "--sheet", sheet)
    assert (code, document["compared"]["results"]) == (1, 6)
    assert document["changed"] == sum(turn["inputs"] for turn in document["turned"]) > 0
    assert sum(row.get("then", 0) for row in document["labels"].values()) == 6
    assert decode_image(sheet.read_bytes()).shape[1] == 4 * 320


def test_a_model_for_something_else_and_a_file_that_is_no_recording_are_refused(
    tmp_path: Path, images: Path, model: Model, replay: Replay, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path, images, model)
    assert cli.main(["replay", str(path), "--model", str(shipped("activity"))]) in (1, 2)
    assert "classification" in capsys.readouterr().err or model.task == "classification"
    assert cli.main(["replay", str(images / "large.jpg")]) == 1
    assert "no file of samples" in capsys.readouterr().err
