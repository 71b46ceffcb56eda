"""What is stored with an input: its result, the model, the settings that made the input tensor, and the reason."""

import secrets
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from edge_agent import __version__, settings
from edge_agent.config.loader import Config
from edge_agent.models.model import Model
from edge_agent.preprocess.image import Preprocess
from edge_agent.publish.publisher import Device
from edge_agent.samples import Prediction, Result, Sample, content_of, timestamp
from edge_agent.sources.observer import Work
from edge_agent.system.cache import processor
from edge_agent.timeseries.numbers import SeriesPreprocess

# Of a pipeline's options, those that decide what its model is given and what is made of the answer.
OPTIONS = (
    "top_k",
    "min_confidence",
    "max_overlap",
    "regions",
    "filters",
    "tracking",
    "lines",
    "window",
    "anomaly",
    "smoothing",
    "text",
)


def about(device: Device, pipeline: str, sample: Sample) -> dict[str, Any]:
    """What is known of an input before a model has seen it."""
    return {
        "id": secrets.token_hex(8),
        "pipeline": pipeline,
        "device_id": device.device_id,
        "boot_id": device.boot_id,
        "captured_at": sample.captured_at,
        "at": timestamp(sample.captured_at),
        "clock_synced": device.clock.synced(),
        "origin": dict(sample.origin),
    }


def head_of(name: str, config: Config, model: Model, device: Device) -> dict[str, Any]:
    """What is stated at the start of a recording: all that a replay needs besides the inputs and the model file."""
    pipeline = config.settings.pipelines[name]
    numbers = getattr(pipeline.source, "numbers", None)
    return {
        "pipeline": name,
        "device_id": device.device_id,
        "boot_id": device.boot_id,
        "version": __version__,
        "processor": processor(),
        "source": {"type": pipeline.source.type} | ({} if numbers is None else {"numbers": numbers}),
        "options": options_of(pipeline),
        "model": {
            **model.facts(),
            "pictures": model.takes_pictures,
            "options": model.source.options.model_dump(mode="json", exclude_defaults=True, by_alias=True),
            "folder": str(config.path.parent.absolute()),
        },
    }


def result_of(
    device: Device, pipeline: str, seq: int | None, sample: Sample, predictions: Sequence[Prediction], work: Work
) -> dict[str, Any]:
    """The result document, as it was published, or would have been."""
    content = content_of(predictions, work.task) if work.answer is None else dict(work.answer)
    if work.lines is not None:
        content["lines"] = work.lines
    return Result(
        device_id=device.device_id,
        pipeline=pipeline,
        boot_id=device.boot_id,
        seq=seq,
        captured_at=sample.captured_at,
        clock_synced=device.clock.synced(),
        model=work.model,
        task=work.task,
        content=content,
        input=work.facts,
        timing=work.timing,
    ).as_dict()


def model_of(work: Work) -> dict[str, str]:
    """The model, with the whole hash of its file."""
    return dict(work.model) | {"sha256": work.sha256}


def options_of(pipeline: settings.Pipeline) -> dict[str, Any]:
    """The options of a pipeline that decide what becomes of an input, as a configuration file has them."""
    built_in = () if isinstance(pipeline.model, str) else ("model",)
    return pipeline.model_dump(mode="json", include={*OPTIONS, *built_in}, exclude_defaults=True, by_alias=True)


def preprocess_of(preprocess: Preprocess | SeriesPreprocess | None) -> dict[str, Any]:
    """How a model's input tensor is made."""
    if preprocess is None:
        return {}
    known = {field.name: getattr(preprocess, field.name) for field in fields(preprocess) if field.name[0] != "_"}
    if isinstance(preprocess, SeriesPreprocess):
        known["input"] = preprocess.input.model_dump(mode="json", exclude_defaults=True)
    return known
