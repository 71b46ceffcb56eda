"""`run`: the daemon."""

import argparse

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.config_argument import add_config_argument, config_file


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("run", help="the daemon; SIGHUP reloads the configuration")
    add_config_argument(parser)
    parser.add_argument(
        "--once", action="store_true", help="end when every source has ended and every result is delivered"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: one JSON object a line, for programs"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the daemon until SIGTERM, SIGINT or the end of its sources; returns the exit code.

    Raises:
        ConfigError: the configuration can't be used, or is empty.
    """
    import gc

    gc.disable()  # collections during the start take an eighth of its time, and nothing of it becomes garbage
    from edge_agent.system import heap, limits

    limits.check()
    heap.share()
    from functools import partial

    from edge_agent.daemon import crashes, preflight
    from edge_agent.daemon.agent import Agent
    from edge_agent.system import logs
    from edge_agent.system.process_exit import exit_despite_threads
    from edge_agent.update.configuration import load_active

    crashes.install()
    logs.set_up(debug="debug" in args, form=args.log_format)
    loaded = load_active(config_file(args), partial(preflight.check_all, at_start=True))
    return exit_despite_threads(Agent(loaded).run(once=args.once))
