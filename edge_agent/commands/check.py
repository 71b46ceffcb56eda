"""`check`: validates a configuration and everything it points at, and prints what would run. Changes nothing."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.config_argument import add_config_argument, config_file

if TYPE_CHECKING:
    from edge_agent.config.loader import Config

# Exit code if everything is valid, but a model would not run on the first accelerator of its list.
FALLS_BACK = 3
CONNECT_WITHIN = 20.0


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("check", help="validate a configuration and everything it points at")
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--configuration", type=Path, metavar="ZIP", help="release of a configuration to check with it (the active one)"
    )
    parser.add_argument("--broker", action="store_true", help="connect to the broker as well")
    parser.add_argument("--release", default="release", metavar="NAME", help="its name, for messages")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what would run; returns the exit code: 0, or `FALLS_BACK`.

    Raises:
        ConfigError: with every problem found.
    """
    from edge_agent.config import loader
    from edge_agent.daemon import preflight
    from edge_agent.engines.tuning import Tuning
    from edge_agent.update.configuration import load_active, with_release

    file = config_file(args)
    if args.configuration is None:
        loaded = load_active(file, keep=True)
    else:
        loaded = with_release(loader.load(file), args.configuration, args.release)
    preflight.check(loaded)
    if args.broker:
        _reach_broker(loaded)
    plan = _plan(loaded)
    preflight.check_not_empty(loaded)
    code = FALLS_BACK if any(model["fallback"] for model in plan["models"]) else 0
    if args.json:
        print(json.dumps(plan, indent=2))
        return code
    print(f"{file} is valid: device {plan['device_id']}, broker {plan['broker']}")
    for pipeline in plan["pipelines"]:
        print(f"  {pipeline['name']}: {pipeline['source']} -> {pipeline['model']} -> {pipeline['topic']}")
    for model in plan["models"]:
        print(f"  model {model['name']}: {model['description']}")
        if share := model["share"]:
            fast = f", {model['speed_up']:.2g} times as fast as the CPU" if model["speed_up"] else ""
            print(f"    {share['on']} of {share['of']} operations on {model['accelerator']}{fast}")
        if model["tuning"]:
            print(f"    {Tuning.in_words(model['tuning'])}")
        if model["fallback"]:
            print(f"    falls back to {model['accelerator']}, since {model['fallback']}")
    return code


def _reach_broker(loaded: "Config") -> None:
    """Connects under another client id than the agent's, whose session it would take over.

    Raises:
        EdgeAgentError: the broker is not reached.
    """
    from edge_agent.commands.subscribed import subscribed

    options = loaded.settings
    if options.mqtt.url != "embedded":
        own = f"{options.mqtt.topic_prefix}/{options.device_id}/cmd"
        with subscribed(options.mqtt, loaded.path.parent, f"{options.device_id}-check", [own], CONNECT_WITHIN):
            pass


def _plan(loaded: "Config") -> dict[str, Any]:
    options = loaded.settings
    prefix = f"{options.mqtt.topic_prefix}/{options.device_id}"
    return {
        "device_id": options.device_id,
        "broker": options.mqtt.url,
        "pipelines": [
            {
                "name": name,
                "source": pipeline.source.type,
                "model": pipeline.model_name,
                "topic": f"{prefix}/{name}/result",
            }
            for name, pipeline in options.pipelines.items()
        ],
        "models": _loaded_models(loaded) if options.models else [],
    }


def _loaded_models(loaded: "Config") -> list[dict[str, Any]]:
    """Loads all models as `run` would, unused ones too, and describes them."""
    from edge_agent.models.loading import load_models
    from edge_agent.pipeline import compatibility
    from edge_agent.update.active import with_active

    config = with_active(loaded)
    models = load_models(config, {}, unused_too=True)
    compatibility.check(config, models)
    plan = [
        {
            "name": name,
            "description": model.describe(),
            "accelerator": model.engine.accelerator,
            "fallback": model.fallback,
            "share": model.accelerator_facts()["share"],
            "speed_up": model.accelerator_facts()["speed_up"],
            "tuning": model.facts().get("tuning"),
        }
        for name, model in models.items()
    ]
    for model in models.values():
        model.close()
    return plan
