"""`predict`: one-off inference on files, by the daemon's own road."""

import contextlib
import json
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.clock import Clock
from edge_agent.counters import Counters
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.intake import Intake
from edge_agent.models import model as models
from edge_agent.pipeline import Pipeline
from edge_agent.samples import Prediction, Result, Sample, Timing
from edge_agent.sources.images import read_file
from edge_agent.terminal import printable


class _NoSource:
    """Stands where a pipeline has its source; the samples are handed to it one by one instead."""

    live = False

    def start(self, intake: Intake, trouble: Callable[[EdgeAgentError], None]) -> None: ...

    def wait_ready(self, timeout: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return True

    def stop(self) -> None: ...

    def close(self, deadline: float) -> None: ...


def run(options: settings.Model, inputs: Sequence[Path], top_k: int, min_confidence: float, *, as_json: bool) -> int:
    """Prints what the model says to each input; returns the exit code: 1 if an input could not be used.

    Raises:
        ModelError: the model can't be used.
    """
    folders = [path for path in inputs if path.is_dir()]
    if folders:
        raise ConfigError([f"{folders[0]}: is a folder: give its files, as in {folders[0]}/*.jpg"])
    model = models.load(_name(options.path), options, Path.cwd())
    boot_id, clock, counters = uuid.uuid4().hex[:8], Clock(), Counters()
    documents: list[dict[str, Any]] = []

    def publish(sample: Sample, predictions: list[Prediction], facts: Mapping[str, Any], timing: Timing) -> None:
        result = Result(
            device_id=socket.gethostname(),
            pipeline="predict",
            boot_id=boot_id,
            seq=counters.produce(),
            captured_at=sample.captured_at,
            clock_synced=clock.synced(),
            model=model.identity,
            task=model.decode.task,
            predictions=predictions,
            input=facts,
            timing=timing,
        )
        documents.append(result.as_dict())

    def report(error: EdgeAgentError, sample: Sample | None) -> None:
        documents.append({"error": str(error), "input": dict(sample.origin) if sample else {}})

    road = Pipeline(
        "predict",
        settings.Pipeline(
            source=settings.ImagesSource(type="images", path="."),
            model="predict",
            top_k=top_k,
            min_confidence=min_confidence,
        ),
        _NoSource(),
        model,
        counters,
        publish,
        report,
    )
    for path in inputs:
        counters.capture()
        road.answer(read_file(path), contextlib.nullcontext())
        if not as_json:
            _show(documents[-1])
    if as_json:
        print(json.dumps(documents, indent=2))
    return 1 if any("error" in document for document in documents) else 0


def _name(path: Path) -> str:
    """`digits` for `digits`, `models/digits/` and `digits.tflite`."""
    path = path if path.name else path.resolve()
    return path.stem if path.suffix in (".tflite", ".onnx") else path.name


def _show(document: Mapping[str, Any]) -> None:
    path = document["input"].get("path", "")
    if "error" in document:
        text = document["error"]
        print(printable(text if text.startswith(path) else f"{path}: {text}"), file=sys.stderr)
        return
    print(printable(path))
    for prediction in document["predictions"]:
        print(f"  {prediction['confidence']:7.2%}  {printable(prediction['label'])}")
    if not document["predictions"]:
        print("  nothing")
