"""`edge-agent demo vibration`, as a process of its own, and the model that it shows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.commands.simulated_machine import RATE, Machine
from edge_agent.counters import imbalance
from edge_agent.models import bundle
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.samples import Sample
from tests.command_line import edge_agent

VIBRATION = shipped("vibration")
WINDOW = 32


def test_it_finds_the_anomaly_when_it_happens_and_not_before(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    run = edge_agent("demo", "vibration", "--seconds", "6", "--json", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["false_alarms"] == 0
    # A window takes 0.16 s; the rest is for a machine that has much else to do.
    assert 0 <= document["found_after_s"] < 2
    assert document["windows"] == document["counters"]["inferred"] >= 6 * RATE / WINDOW - 2
    assert imbalance(document["counters"]) == ""


def test_the_model_tells_a_damaged_machine_from_sound_ones_that_it_has_never_heard() -> None:
    options = settings.Model(path=VIBRATION, threads=1)
    model = models.load_unqualified("vibration", resolve_model(options, VIBRATION))
    road, said = Predictor(model, None, None), dict[float, list[str | None]]()
    for damage in (0.0, 0.2):
        found = [Machine(777 + number).run(WINDOW, damage) for number in range(300)]
        answers = [road.ask(Sample(np.asarray(one, "<f4").tobytes(), 0.0, 0.0, {})) for one in found]
        said[damage] = [answer.predictions[0].label for answer in answers]
    assert said[0.0].count("normal") >= 299
    assert said[0.2].count("anomaly") >= 299


def test_its_golden_samples_are_some_of_each() -> None:
    manifest = bundle.read_manifest(VIBRATION)
    assert {golden.label for golden in manifest.golden} == {"normal", "anomaly"}
    assert manifest.threshold
