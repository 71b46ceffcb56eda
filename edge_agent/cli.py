"""The command line: one module for each command, which imports what is slow to import only when it runs."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edge_agent import __version__
from edge_agent.commands import (
    bench,
    check,
    demo,
    doctor,
    evaluate,
    init,
    inspect,
    inventory,
    models,
    predict,
    recordings,
    release,
    replay,
    run,
    samples,
    schema,
    update_agent,
    watch,
)
from edge_agent.errors import ConfigError, EdgeAgentError, MissingExtraError, ModelError
from edge_agent.system import limits
from edge_agent.system.terminal import printable

DONE, FAILED, WRONG_USAGE = 0, 1, 2

# In the order of `--help`.
COMMANDS = (
    init,
    run,
    check,
    predict,
    inspect,
    demo,
    bench,
    evaluate,
    models,
    samples,
    recordings,
    replay,
    release,
    doctor,
    watch,
    inventory,
    schema,
    update_agent,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names and labels may hold characters that it can't encode.
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        code = command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return FAILED
    except (MemoryError, RuntimeError, ImportError) as error:
        if not (why := limits.explained(error)):
            raise
        code = FAILED
        _say(limits.LimitError(why), debug="debug" in args)
    except (EdgeAgentError, OSError) as error:
        code = WRONG_USAGE if isinstance(error, ConfigError | ModelError | MissingExtraError) else FAILED
        _say(error, debug="debug" in args)
    return code


def _say(error: EdgeAgentError | OSError, *, debug: bool) -> None:
    """Prints an error, one line for each problem."""
    try:
        sys.stdout.flush()
    except OSError:  # the reader of the pipe has gone, or the disk is full: Python must not try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if debug:
        import traceback

        traceback.print_exception(error)
    elif not isinstance(error, BrokenPipeError):
        for line in error.problems if isinstance(error, ConfigError) else [limits.explained(error) or str(error)]:
            print(printable(line), file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Gives every command --debug, before its name or after it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        help_text = "show tracebacks and debug messages"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=help_text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="edge-agent", description="Models on small devices, results over MQTT.")
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
