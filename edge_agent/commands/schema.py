"""`schema`: the JSON Schema of the configuration, for editors."""

import argparse

from edge_agent.commands.argument_types import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("schema", help="JSON Schema of the configuration, for editors")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Prints it; returns the exit code."""
    import json

    from edge_agent.config.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
