"""`check`: validates a configuration and everything it points at, and prints what would run. Changes nothing."""

import json
from pathlib import Path
from typing import Any

from edge_agent import config
from edge_agent.config import Config


def run(path: Path, *, as_json: bool) -> int:
    """Prints what would run; returns the exit code.

    Raises:
        ConfigError: with every problem found.
    """
    loaded = config.load(path)
    _check_access(loaded)
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
    """Loads the models as `run` would, and those that no pipeline uses."""
    from edge_agent.models.loading import load_models

    models = load_models(loaded, {}, unused_too=True)
    return [
        {
            "name": name,
            "description": model.describe(),
            "accelerator": model.engine.accelerator,
            "fallback": model.engine.fallback,
        }
        for (name, _), model in models.items()
    ]


def _check_access(loaded: Config) -> None:
    """Certificates and keys can be used, and the password can be read."""
    mqtt = loaded.settings.mqtt
    if mqtt.ca_file or mqtt.cert_file or mqtt.password_file:
        from edge_agent.mqtt.endpoint import Endpoint

        endpoint = Endpoint.from_settings(mqtt, loaded.path.parent)
        endpoint.tls_context()
        endpoint.password()
