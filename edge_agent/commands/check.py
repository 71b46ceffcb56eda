"""`check`: validates a configuration and everything it points at, and prints what would run. Changes nothing."""

import json
from pathlib import Path
from typing import Any

from edge_agent import config
from edge_agent.config import Config
from edge_agent.errors import ConfigError


def run(path: Path, *, as_json: bool) -> int:
    """Prints what would run; returns the exit code.

    Raises:
        ConfigError: with every problem found.
    """
    loaded = config.load(path)
    plan = _plan(loaded)
    if as_json:
        print(json.dumps(plan, indent=2))
        return 0
    print(f"{path} is valid: device {plan['device_id']}, broker {plan['broker']}")
    for pipeline in plan["pipelines"]:
        print(f"  {pipeline['name']}: {pipeline['source']} -> {pipeline['model']} -> {pipeline['topic']}")
    for model in plan["models"]:
        print(f"  model {model['name']}: {model['description']}")
        if model["fallback"]:
            print(f"    falls back to {model['accelerator']}, since {model['fallback']}")
    if not plan["pipelines"]:
        print("  no pipelines: nothing would run")
    return 0


def _plan(loaded: Config) -> dict[str, Any]:
    options = loaded.settings
    prefix = f"{options.mqtt.topic_prefix}/{options.device_id}"
    return {
        "device_id": options.device_id,
        "broker": options.mqtt.url,
        "pipelines": [
            {
                "name": name,
                "source": pipeline.source.type,
                "model": pipeline.model,
                "topic": f"{prefix}/{name}/result",
            }
            for name, pipeline in options.pipelines.items()
        ],
        "models": _loaded_models(loaded) if options.models else [],
    }


def _loaded_models(loaded: Config) -> list[dict[str, Any]]:
    """Loads each model once, as `run` would, with the largest batch that a pipeline asks for."""
    from edge_agent.errors import MissingExtraError, ModelError
    from edge_agent.models import model as models

    options, problems, found = loaded.settings, [], []
    for name, model_options in options.models.items():
        batches = [len(pipeline.regions) for pipeline in options.pipelines.values() if pipeline.model == name]
        try:
            model = models.load(name, model_options, loaded.path.parent, max([1, *batches]))
        except (ModelError, MissingExtraError) as error:
            problems.append(f"{loaded.where('models', name)}: {error}")
            continue
        found.append(
            {
                "name": name,
                "description": model.describe(),
                "accelerator": model.engine.accelerator,
                "fallback": model.engine.fallback,
            }
        )
        model.close()
    if problems:
        raise ConfigError(problems)
    return found
