"""`bench`: how fast a model runs on this machine, for each accelerator and number of threads, and which to choose."""

import argparse
from pathlib import Path

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.model_arguments import MODEL


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("bench", help="latency, throughput and memory of a model on this machine")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--seconds", type=between(0.1, 3600.0), default=2.0, metavar="S", help="for each setting (2)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures and prints; returns the exit code.

    Raises:
        ModelError: the file can't be read, or no configuration can run it.
    """
    from edge_agent import settings
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.resolve import resolve

    source = resolve(settings.Model(path=Path(args.model)), Path.cwd())
    if isinstance(source, LanguageSource):
        from edge_agent.commands import bench_language

        return bench_language.run(source, args)
    from edge_agent.commands import bench_model

    return bench_model.run(source, args)
