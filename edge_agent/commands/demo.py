"""`demo`: the main job with no set-up: broker, model, input, and a subscriber that shows what arrives."""

import argparse

from edge_agent.commands.argument_types import Subparsers, between


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("demo", help="everything on one machine: broker, model, clip and subscriber")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("meter", "vibration", "language"),
        default="meter",
        help="a clip of a meter that is read (default), a machine that breaks, or commands that are understood",
    )
    parser.add_argument(
        "--seconds", type=between(0.1, 86400.0), default=20.0, metavar="S", help="end after this many seconds (20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs one of the demos; returns the exit code.

    Raises:
        EdgeAgentError: the broker, the model or the input can't be used.
    """
    if args.what == "vibration":
        from edge_agent.commands import demo_vibration

        return demo_vibration.run(args.seconds, as_json=args.json)
    if args.what == "language":
        from edge_agent.commands import demo_language

        return demo_language.run(args.seconds, as_json=args.json)
    from edge_agent.commands import demo_meter

    return demo_meter.run(args.seconds, as_json=args.json)
