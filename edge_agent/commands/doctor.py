"""`doctor`: looks at this machine, and names the fix for each thing that is not as it should be."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.broker_arguments import add_broker_arguments, mqtt_settings
from edge_agent.errors import ConfigError
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    from edge_agent.doctor.machine import Finding, Machine

MAX_TEXT = 500


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("doctor", help="looks at this machine and names the fix for each failure")
    add_broker_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what every check finds; returns the exit code: 1 if anything has failed.

    Raises:
        ConfigError: the broker's arguments don't make sense.
    """
    import logging
    from collections import Counter
    from dataclasses import asdict

    from edge_agent.doctor.checks import CHECKS, DEADLINE, examine
    from edge_agent.system.process_exit import exit_despite_threads

    logging.getLogger("edge_agent").setLevel(logging.CRITICAL)  # what a connection logs is in the findings
    findings: list[tuple[str, Finding]] = []
    for name, finding in examine(_machine(args), CHECKS, DEADLINE):
        findings.append((name, finding))
        if not args.json:
            _show(name, finding)
    counts = Counter(finding.state for _, finding in findings)
    if args.json:
        document = {
            "version": __version__,
            "ok": not counts["failure"],
            "findings": [{"check": name} | asdict(finding) for name, finding in findings],
        }
        print(json.dumps(document, indent=2))
    else:
        print(f"\n{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures")
    return exit_despite_threads(1 if counts["failure"] else 0)


def _machine(args: argparse.Namespace) -> "Machine":
    from edge_agent.doctor.machine import Machine
    from edge_agent.update.configuration import load_active

    file: Path | None = args.config
    if file is None:
        return Machine(mqtt=mqtt_settings(args, None) if args.url else None)
    try:
        loaded = load_active(file, keep=True)
    except ConfigError as error:
        return Machine(file=file, problems=error.problems, mqtt=mqtt_settings(args, None) if args.url else None)
    return Machine(file=file, config=loaded, mqtt=mqtt_settings(args, loaded.settings.mqtt))


def _show(name: str, finding: "Finding") -> None:
    print(f"{finding.state:<7}  {name:<13}  {_line(finding.text)}", flush=True)
    if finding.fix:
        print(f"{'':<24}  fix: {_line(finding.fix)}", flush=True)


def _line(text: str) -> str:
    """Text from devices and drivers, fit for one line of a terminal."""
    text = printable(text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
