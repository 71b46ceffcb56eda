"""The bundled model of activities, on recordings that it was not trained with."""

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.samples import Sample

LABELS = ("stationary", "walking", "running")
WINDOW = 52


def recordings(file: Path, label: str) -> list[NDArray[np.float32]]:
    """Those that the recipe leaves for the test: every fourth, from the first on."""
    with zipfile.ZipFile(file) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(f"dataset/{label}/") and ".csv" in name)
        return [np.loadtxt(io.BytesIO(archive.read(name)), np.float32, delimiter=",") for name in names[::4]]


def road(**stated: object) -> Predictor:
    options = settings.Model.model_validate({"path": shipped("activity"), "threads": 1} | stated)
    return Predictor(models.load_unqualified("activity", resolve_model(options, Path.cwd())), 1, None)


def said(asked: Predictor, window: NDArray[np.float32]) -> str | None:
    sample = Sample(window.astype("<f4").tobytes(), time.time(), time.monotonic(), {})
    return asked.ask(sample).predictions[0].label


@pytest.mark.parametrize("label", LABELS)
def test_it_tells_what_somebody_does_from_two_seconds(label: str, data_dir: Path) -> None:
    asked, right, number = road(), 0, 0
    for recording in recordings(data_dir / "sensor/st_har/dataset.zip", label):
        for begin in range(0, len(recording) - WINDOW + 1, WINDOW):
            number += 1
            right += said(asked, recording[begin : begin + WINDOW]) == label
    print(f"{label}: {right} of {number} windows")
    assert number > 50
    assert right / number >= 0.9


def test_readings_in_g_are_taken_where_that_is_stated(data_dir: Path) -> None:
    [recording, *_] = recordings(data_dir / "sensor/st_har/dataset.zip", "running")
    in_g = road(input={"kind": "series", "rate": 26, "normalize": {"mean": 0, "std": 1}})
    assert said(in_g, np.asarray(recording[:WINDOW] / 1000, np.float32)) == "running"
