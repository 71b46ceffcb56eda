"""`watch`: all devices and pipelines under a prefix, live in a terminal, or once."""

import argparse
import sys

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.broker_arguments import add_broker_arguments, fleet_broker


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("watch", help="live table of what devices publish")
    add_broker_arguments(parser)
    parser.add_argument("--prefix", metavar="P", help="first part of the topics (edge)")
    parser.add_argument("--once", action="store_true", help="print the table once, after at most 12 seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document, as --once")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Shows the fleet until Ctrl-C or until the terminal is closed, or once; returns the exit code.

    Raises:
        ConfigError: the configuration or the arguments can't be used.
        EdgeAgentError: the broker is not reached.
    """
    from edge_agent.commands.fleet_watcher import Watcher, show_live, show_once
    from edge_agent.system.process_exit import exit_despite_threads

    mqtt, folder = fleet_broker(args)
    watcher = Watcher(mqtt, folder)
    try:
        watcher.connect()
        if args.json or args.once or not sys.stdout.isatty():
            watcher.gather()
            show_once(watcher, mqtt, as_json=args.json)
        else:
            show_live(watcher)
    except KeyboardInterrupt:
        pass
    finally:
        watcher.close()
    return exit_despite_threads(0)
