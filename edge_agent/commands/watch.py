"""`watch`: all devices and pipelines under a prefix, live in a terminal, or once."""

import argparse
import sys
from pathlib import Path

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.broker_arguments import add_broker_arguments, mqtt_settings
from edge_agent.commands.config_argument import any_config_file
from edge_agent.errors import ConfigError


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
    from edge_agent.config import loader
    from edge_agent.system.process_exit import exit_despite_threads

    file = args.config or (None if args.url else any_config_file())
    loaded = loader.load(file) if file else None
    mqtt = mqtt_settings(args, loaded.settings.mqtt if loaded else None)
    if mqtt.url == "embedded":
        raise ConfigError(["--url: give the address of the embedded broker, which the agent's log shows"])
    watcher = Watcher(mqtt, file.parent if file else Path.cwd())
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
