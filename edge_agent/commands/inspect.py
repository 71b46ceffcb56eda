"""`inspect`: what a model file is, and how it would be read, with the evidence; or what is missing to read it."""

import argparse
from pathlib import Path

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.model_arguments import add_model_arguments, model_settings


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("inspect", help="what a model file is")
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the facts; returns the exit code.

    Raises:
        ModelError: the file can't be read.
    """
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.resolve import resolve

    options = model_settings(args)
    source = resolve(options, Path.cwd())
    if isinstance(source, LanguageSource):
        from edge_agent.commands import inspect_language

        return inspect_language.run(source, as_json=args.json)
    from edge_agent.commands import inspect_model

    return inspect_model.run(source, options, as_json=args.json)
