"""`edge-agent demo`, as a process of its own, and the model that it shows."""

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edge_agent import settings
from edge_agent.counters import imbalance
from edge_agent.decoders import Limits
from edge_agent.models import bundle
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import Placement
from edge_agent.preprocess.regions import Regions, View
from tests.broker import wait_until
from tests.command_line import command, edge_agent, environment
from tests.images import decode_image

pytest.importorskip("amqtt")

CLIP = yaml.safe_load(shipped("clips/meter.yaml").read_text())
DIGITS = shipped("digits")


def truth_of(frame: int) -> str | None:
    """What the meter shows in a frame of the clip, counted from 1; None while a wheel turns."""
    for stretch in CLIP["truth"]:
        first, last = stretch["frames"]
        if first <= frame - 1 <= last:
            reading: str | None = stretch["reading"]
            return reading
    raise AssertionError(f"frame {frame} is in no stretch")


def test_it_shows_the_readings_of_the_clip_and_ends_by_itself(tmp_path: Path) -> None:
    run = edge_agent("demo", "--seconds", "7", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    document: dict[str, Any] = json.loads(run.stdout)
    readings = document["readings"]
    assert len(readings) >= 50
    wrong = [one for one in readings if truth_of(one["frame"]) not in (None, one["reading"])]
    assert wrong == []
    assert len({one["reading"] for one in readings}) >= 3
    assert all(one["confidence"] > 0.5 and 0 < one["latency_ms"] < 2000 for one in readings)
    assert imbalance(document["counters"]) == ""
    assert document["counters"]["acknowledged"] == len(readings)


def test_ctrl_c_ends_it_with_the_summary(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            command("demo"), stdout=file, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path
        )
        wait_until(lambda: "4294 kWh" in out.read_text(), 20, "the second reading")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, b"")
    assert " captured = " in out.read_text()
    assert " produced = " in out.read_text()


@pytest.mark.parametrize("what", ["meter", "vibration", "language"])
def test_ctrl_c_at_the_start_of_a_demo_ends_it_with_the_summary_within_40_columns(what: str, tmp_path: Path) -> None:
    if what == "language":
        pytest.importorskip("onnxruntime_genai")
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            command("demo", what),
            stdout=file,
            stderr=subprocess.PIPE,
            env=environment({"COLUMNS": "40"}),
            cwd=tmp_path,
        )
        wait_until(lambda: "mqtt://" in out.read_text(), 20, "it begins")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert " captured = " in " ".join(out.read_text().split())
    assert [line for line in out.read_text().splitlines() if len(line) > 40] == []


@pytest.mark.parametrize("what", ["meter", "vibration", "language"])
def test_all_lines_of_a_demo_fit_40_columns(what: str, tmp_path: Path) -> None:
    if what == "language":
        pytest.importorskip("onnxruntime_genai")
    run = edge_agent("demo", what, "--seconds", "3", cwd=tmp_path, further_environment={"COLUMNS": "40"})
    assert run.stderr == ""
    assert len(run.stdout.splitlines()) > 8
    assert [line for line in run.stdout.splitlines() if len(line) > 40] == []


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def digits(request: pytest.FixtureRequest) -> Model:
    file = DIGITS / bundle.read_manifest(DIGITS).files[request.param]
    return models.load("digits", settings.Model(path=file, threads=1), DIGITS, batch=6)


def test_each_file_of_the_model_reads_the_clip_rightly(digits: Model) -> None:
    regions = Regions(CLIP["regions"])
    capture = cv2.VideoCapture(str(shipped(f"clips/{CLIP['clip']}")))
    said: Counter[bool] = Counter()
    for number in range(1, CLIP["frames"] + 1):
        taken, frame = capture.read()
        assert taken
        truth = truth_of(number)
        if truth is None:
            continue
        views = regions.cut(np.asarray(frame, np.uint8))
        outputs = digits.infer(digits.preprocess([view.pixels for view in views]))
        predictions = digits.decode(outputs, [placed(digits, view) for view in views], Limits(1, 0.0))
        said.update(one.label == digit for one, digit in zip(predictions, truth, strict=True))
    print(f"{digits.file.format}: {said[True]} of {said.total()} digits of the clip are right")
    assert said.total() > 1000
    assert said[True] / said.total() >= 0.99


def placed(model: Model, view: View) -> Placement:
    assert isinstance(model.preprocess, Preprocess)
    return model.preprocess.place(view)


def test_each_file_of_the_model_gives_its_golden_answers(digits: Model) -> None:
    manifest = bundle.read_manifest(DIGITS)
    assert {golden.label for golden in manifest.golden} == {*"0123456789", "blank"}
    for golden in manifest.golden:
        picture = decode_image((DIGITS / golden.input).read_bytes())
        [view] = Regions({}).cut(picture)
        [first] = digits.decode(digits.infer(digits.preprocess([picture])), [placed(digits, view)], Limits(1, 0.0))
        assert (first.label, (first.confidence or 0) >= golden.min_confidence) == (golden.label, True)
