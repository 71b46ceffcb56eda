"""The command line. Heavy imports stand only inside the command that needs them."""

import argparse
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.commands.model_arguments import MODEL, add_model_arguments, model_settings
from edge_agent.errors import ConfigError, EdgeAgentError, MissingExtraError, ModelError
from edge_agent.system.terminal import printable

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names and labels may hold what it can't encode
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        code = command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return FAILED
    except (EdgeAgentError, OSError) as error:
        code = WRONG_USAGE if isinstance(error, ConfigError | ModelError | MissingExtraError) else FAILED
        _say(error, debug="debug" in args)
    return code


def _say(error: EdgeAgentError | OSError, *, debug: bool) -> None:
    """Prints what went wrong, one line each."""
    try:
        sys.stdout.flush()
    except OSError:  # whoever read our output has gone, or the disk is full: Python must not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if debug:
        import traceback

        traceback.print_exception(error)
    elif not isinstance(error, BrokenPipeError):
        for line in error.problems if isinstance(error, ConfigError) else [str(error)]:
            print(printable(line), file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Every command takes --debug, before its name or behind it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        help_text = "show tracebacks and debug messages"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=help_text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="edge-agent", description="Models on small devices, results over MQTT.")
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="the daemon; SIGHUP reloads the configuration")
    run.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    run.add_argument(
        "--once", action="store_true", help="end when every source has ended and every result is delivered"
    )
    run.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: one JSON object a line, for programs"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="validate a configuration and everything it points at")
    check.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    check.add_argument("--json", action="store_true", help="print one JSON document")
    check.set_defaults(command=_check)

    predict = commands.add_parser("predict", help="one-off inference on files")
    add_model_arguments(predict)
    predict.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image files")
    predict.add_argument("--top-k", type=_between(1, 1000), metavar="N", help="predictions an input at the most")
    predict.add_argument(
        "--min-confidence", type=_between(0.0, 1.0), metavar="C", help="leave out what is below, 0 to 1"
    )
    predict.add_argument(
        "--annotate", type=Path, metavar="OUT", help="draw what was found into a JPEG, or for several inputs a folder"
    )
    predict.set_defaults(command=_predict)

    inspect = commands.add_parser("inspect", help="what a model file is")
    add_model_arguments(inspect)
    inspect.set_defaults(command=_inspect)

    demo = commands.add_parser("demo", help="everything on one machine: broker, model, clip and subscriber")
    demo.add_argument(
        "what",
        nargs="?",
        choices=("meter", "vibration", "language"),
        default="meter",
        help="a clip of a meter that is read (default), a machine that breaks, or commands that are understood",
    )
    demo.add_argument(
        "--seconds", type=_between(0.1, 86400.0), default=20.0, metavar="S", help="end after so long (20)"
    )
    demo.add_argument("--json", action="store_true", help="print one JSON document at the end")
    demo.set_defaults(command=_demo)

    bench = commands.add_parser("bench", help="latency, throughput and memory of a model on this machine")
    bench.add_argument("model", metavar="MODEL", help=MODEL)
    bench.add_argument("--seconds", type=_between(0.1, 3600.0), default=2.0, metavar="S", help="for each setting (2)")
    bench.add_argument("--json", action="store_true", help="print one JSON document")
    bench.set_defaults(command=_bench)

    from edge_agent.commands import models, release

    models.add_parser(commands)
    release.add_parser(commands)

    from edge_agent.commands.broker_arguments import add_broker_arguments

    doctor = commands.add_parser("doctor", help="looks at this machine and names the fix for each failure")
    add_broker_arguments(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON document")
    doctor.set_defaults(command=_doctor)

    watch = commands.add_parser("watch", help="live table of what devices publish")
    add_broker_arguments(watch)
    watch.add_argument("--prefix", metavar="P", help="first part of the topics (edge)")
    watch.add_argument("--once", action="store_true", help="print the table once, after at most 12 seconds")
    watch.add_argument("--json", action="store_true", help="print one JSON document, as --once")
    watch.set_defaults(command=_watch)

    schema = commands.add_parser("schema", help="JSON Schema of the configuration, for editors")
    schema.set_defaults(command=_schema)
    return parser


def _between(low: float, high: float) -> Callable[[str], float]:
    """A reader of numbers; of whole ones, if the bounds are whole."""

    def number(text: str) -> float:
        try:
            value = type(low)(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            kind = "whole number" if isinstance(low, int) else "number"
            raise argparse.ArgumentTypeError(f"must be a {kind} from {low:g} to {high:g} (got {text!r})")
        return value

    return number


def _run(args: argparse.Namespace) -> int:
    import gc

    gc.disable()  # what the start makes stays: to go through it again and again takes an eighth of the start
    from edge_agent.system import heap

    heap.share()
    from edge_agent.config import loader
    from edge_agent.daemon import crashes
    from edge_agent.daemon.agent import Agent
    from edge_agent.system import logs

    crashes.install()
    logs.set_up(debug="debug" in args, form=args.log_format)
    loaded = loader.load(args.config)
    if not loaded.settings.pipelines:
        raise ConfigError([f"{args.config}:1: pipelines: there are none, so there is nothing to run"])
    return _leaving_behind_what_hangs(Agent(loaded).run(once=args.once))


def _leaving_behind_what_hangs(code: int) -> int:
    """Ends the process if a thread is still inside a native library, or in a read that blocks.

    It would crash the interpreter's way down.
    """
    import threading

    if threading.active_count() > 1:
        import logging

        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code


def _check(args: argparse.Namespace) -> int:
    from edge_agent.commands import check

    return check.run(args.config, as_json=args.json)


def _predict(args: argparse.Namespace) -> int:
    from edge_agent.commands import predict

    return predict.run(
        model_settings(args),
        args.inputs,
        args.top_k,
        args.min_confidence,
        annotate=args.annotate,
        as_json=args.json,
    )


def _inspect(args: argparse.Namespace) -> int:
    from edge_agent.commands import inspect

    return inspect.run(model_settings(args), as_json=args.json)


def _bench(args: argparse.Namespace) -> int:
    from edge_agent.commands import bench

    return bench.run(args)


def _demo(args: argparse.Namespace) -> int:
    if args.what == "vibration":
        from edge_agent.commands import demo_vibration

        return demo_vibration.run(args.seconds, as_json=args.json)
    if args.what == "language":
        from edge_agent.commands import demo_language

        return demo_language.run(args.seconds, as_json=args.json)
    from edge_agent.commands import demo

    return demo.run(args.seconds, as_json=args.json)


def _doctor(args: argparse.Namespace) -> int:
    from edge_agent.commands import doctor

    return _leaving_behind_what_hangs(doctor.run(args))


def _watch(args: argparse.Namespace) -> int:
    from edge_agent.commands import watch

    return _leaving_behind_what_hangs(watch.run(args))


def _schema(_: argparse.Namespace) -> int:
    from edge_agent.commands import schema

    return schema.run()


if __name__ == "__main__":
    sys.exit(main())
