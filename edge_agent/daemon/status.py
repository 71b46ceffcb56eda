"""What an agent says of itself: the documents of `info`, `stats` and `P/accelerator`, and lines for a person."""

import time
from collections.abc import Mapping
from typing import Any

from edge_agent import __version__, settings
from edge_agent.models.loading import AnyModel, ModelKey
from edge_agent.models.model import Model
from edge_agent.pipeline.registry import Pipelines
from edge_agent.publish.publisher import Device
from edge_agent.samples import timestamp

Models = Mapping[ModelKey, AnyModel]


def info(device: Device, options: settings.Settings, models: Models) -> dict[str, Any]:
    """What runs here."""
    return {
        **_who(device),
        "version": __version__,
        "pipelines": {
            name: {
                "source": pipeline.source.type,
                "model": pipeline.model,
                "topic": device.topic(name, "result"),
            }
            for name, pipeline in options.pipelines.items()
        },
        "models": {name: model.facts() for (name, _), model in models.items()},
    }


def accelerators(device: Device, models: Models) -> dict[str, Any]:
    """What each model runs on."""
    return {
        **_who(device),
        "at": timestamp(time.time()),
        "models": {name: model.accelerator_facts() for name, model in _by_name(models)},
    }


def model_stats(models: Models) -> dict[str, Any]:
    """What each model runs on, and how often that has changed."""
    facts = {name: model.accelerator_facts() for name, model in _by_name(models)}
    return {name: {"accelerator": fact["in_use"], "moves": fact["moves"]} for name, fact in facts.items()}


def model_facts(models: Models) -> dict[str, Any]:
    """Everything that is known of each model."""
    return {name: model.facts() for name, model in _by_name(models)}


def pipeline_facts(pipelines: Pipelines) -> dict[str, Any]:
    """What each running pipeline is."""
    return {
        name: {
            "source": pipeline.options.source.type,
            "model": pipeline.options.model,
            "task": pipeline.model.task,
            "pictures": isinstance(pipeline.model, Model) and pipeline.model.takes_pictures,
            "ended": pipeline.ended,
        }
        for name, pipeline in dict(pipelines.running).items()
    }


class Performance:
    """How fast each pipeline has been since this was asked for last."""

    def __init__(self) -> None:
        self._inferred: dict[str, int] = {}
        self._asked = time.monotonic()

    def __call__(self, pipelines: Pipelines) -> dict[str, dict[str, float | None]]:
        """By name."""
        before, then = self._inferred, self._asked
        self._inferred = {name: counts["inferred"] for name, counts in pipelines.counters().items()}
        self._asked = time.monotonic()
        seconds = max(self._asked - then, 0.001)
        return {
            name: {
                "inferred_per_s": round((self._inferred[name] - before.get(name, 0)) / seconds, 2),
                "inference_ms": pipelines.publishers[name].record.inference_ms,
            }
            for name in pipelines.running
        }


def in_words(counts: Mapping[str, Any]) -> str:
    """The counters of a pipeline in one line."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items() if count) or "none"
    discarded = ", ".join(f"{count} {reason}" for reason, count in counts["discarded"].items() if count) or "none"
    return (
        f"captured {counts['captured']}: {counts['inferred']} inferred, {counts['in_progress']} left, "
        f"dropped: {dropped}; "
        f"produced {counts['produced']}: {counts['acknowledged']} acknowledged, {counts['queued']} waiting, "
        f"discarded: {discarded}"
    )


def _who(device: Device) -> dict[str, str]:
    return {"device_id": device.device_id, "boot_id": device.boot_id}


def _by_name(models: Models) -> list[tuple[str, AnyModel]]:
    """Of several copies of a model (for regions) the one that has fallen back comes last, to speak for all."""
    named = [(name, model) for (name, _), model in dict(models).items()]
    return sorted(named, key=lambda item: bool(item[1].fallback))
