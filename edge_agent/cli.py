"""The command line. Heavy imports stand only inside the command that needs them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.errors import ConfigError, EdgeAgentError, InputError, SourceError

if TYPE_CHECKING:
    from edge_agent.settings import Model

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int] = args.command
        return command(args)
    except EdgeAgentError as error:
        if args.debug:
            raise
        print(error, file=sys.stderr)
        return FAILED if isinstance(error, InputError | SourceError) else WRONG_USAGE
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nothing is left to say, and nobody to say it to
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-agent", description="Models on small devices, results over MQTT.")
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="the daemon; SIGHUP reloads the configuration")
    run.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    run.add_argument(
        "--once", action="store_true", help="end when every source has ended and every result is delivered"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="validate a configuration and everything it points at")
    check.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    check.add_argument("--json", action="store_true", help="print one JSON document")
    check.set_defaults(command=_check)

    predict = commands.add_parser("predict", help="one-off inference on files")
    _add_model_arguments(predict)
    predict.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image files")
    predict.add_argument("--top-k", type=int, default=5, metavar="N", help="predictions an input (5)")
    predict.add_argument("--min-confidence", type=float, default=0.0, metavar="C", help="leave out what is below")
    predict.set_defaults(command=_predict)

    inspect = commands.add_parser("inspect", help="what a model file is")
    _add_model_arguments(inspect)
    inspect.set_defaults(command=_inspect)

    demo = commands.add_parser("demo", help="everything on one machine: broker, model, clip and subscriber")
    demo.add_argument("--seconds", type=float, default=20.0, help="end after so long (20)")
    demo.add_argument("--json", action="store_true", help="print one JSON document at the end")
    demo.set_defaults(command=_demo)

    from edge_agent.commands import bench, models

    bench.add_parser(commands)
    models.add_parser(commands)

    schema = commands.add_parser("schema", help="JSON Schema of the configuration, for editors")
    schema.set_defaults(command=_schema)
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .tflite or .onnx file, a bundle, or a name from the registry")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one label a line; `none`: class numbers only")
    parser.add_argument("--normalize", choices=("unit", "signed", "raw", "imagenet"), help="real input values")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _run(args: argparse.Namespace) -> int:
    import faulthandler

    from edge_agent import config, logs
    from edge_agent.agent import Agent

    faulthandler.enable()  # a watchdog's SIGABRT then shows where every thread was
    logs.set_up(debug=args.debug)
    loaded = config.load(args.config)
    if not loaded.settings.pipelines:
        raise ConfigError([f"{args.config}:1: pipelines: there are none, so there is nothing to run"])
    return Agent(loaded).run(once=args.once)


def _check(args: argparse.Namespace) -> int:
    from edge_agent.commands import check

    return check.run(args.config, as_json=args.json)


def _predict(args: argparse.Namespace) -> int:
    from edge_agent.commands import predict

    return predict.run(_model_settings(args), args.inputs, args.top_k, args.min_confidence, as_json=args.json)


def _inspect(args: argparse.Namespace) -> int:
    from edge_agent.commands import inspect

    return inspect.run(_model_settings(args), as_json=args.json)


def _demo(args: argparse.Namespace) -> int:
    from edge_agent.commands import demo

    return demo.run(args.seconds, as_json=args.json)


def _schema(_: argparse.Namespace) -> int:
    import json

    from edge_agent.settings import Settings

    document = Settings.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps(document, indent=2))
    return DONE


def _model_settings(args: argparse.Namespace) -> "Model":
    from edge_agent import settings

    preprocess = settings.Preprocess(normalize=args.normalize)
    return settings.Model(path=Path(args.model), labels=args.labels, preprocess=preprocess)


if __name__ == "__main__":
    sys.exit(main())
