"""`doctor`: looks at this machine, and names the fix for each thing that is not as it should be."""

import argparse
import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from edge_agent import __version__
from edge_agent.commands.broker_arguments import mqtt_settings
from edge_agent.config import loader
from edge_agent.doctor import accelerators, broker, devices, packages, state
from edge_agent.doctor.machine import Finding, Machine, failure
from edge_agent.errors import ConfigError
from edge_agent.system.terminal import printable

Check = Callable[[Machine], list[Finding]]

CHECKS: dict[str, Check] = {
    "configuration": state.configuration,
    "python": packages.python,
    "runtimes": packages.engines,
    "opencv": packages.opencv,
    "versions": packages.versions,
    "accelerators": accelerators.accelerators,
    "user": devices.user,
    "cameras": devices.cameras,
    "programs": devices.programs,
    "microphones": devices.microphones,
    "serial ports": devices.serial_ports,
    "sensors": devices.sensors,
    "temperature": state.temperature,
    "memory": state.memory,
    "disk": state.disk,
    "clock": state.clock,
    "broker": broker.broker,
}
# Longer than what any check waits for by itself.
DEADLINE = 60.0
MAX_TEXT = 500


def run(args: argparse.Namespace) -> int:
    """Prints what every check finds; returns the exit code: 1 if anything has failed.

    Raises:
        ConfigError: the broker's arguments don't make sense.
    """
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
    return 1 if counts["failure"] else 0


def _machine(args: argparse.Namespace) -> Machine:
    file: Path | None = args.config
    if file is None:
        return Machine(mqtt=mqtt_settings(args, None) if args.url else None)
    try:
        loaded = loader.load(file)
    except ConfigError as error:
        return Machine(file=file, problems=error.problems, mqtt=mqtt_settings(args, None) if args.url else None)
    return Machine(file=file, config=loaded, mqtt=mqtt_settings(args, loaded.settings.mqtt))


def examine(machine: Machine, checks: dict[str, Check], deadline: float) -> Iterator[tuple[str, Finding]]:
    """What the checks find, in their order; none takes longer than so many seconds.

    They run side by side, each in a thread that is left alone if it hangs.
    """
    answers = {name: _begin(check, machine) for name, check in checks.items()}
    until = time.monotonic() + deadline
    for name, answer in answers.items():
        try:
            found = answer.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            text = f"does not answer within {deadline:g} s: a device or a disk that hangs?"
            found = [failure(text, "sudo dmesg --level=err,warn | tail")]
        if isinstance(found, Exception):
            raise found
        for finding in found:
            yield name, finding


def _begin(check: Check, machine: Machine) -> "queue.SimpleQueue[list[Finding] | Exception]":
    answer: queue.SimpleQueue[list[Finding] | Exception] = queue.SimpleQueue()

    def answer_or_fail() -> None:
        try:
            answer.put(check(machine))
        except (OSError, ImportError) as error:
            answer.put([failure(f"can't be looked at: {error}", "sudo edge-agent doctor")])
        except Exception as error:  # noqa: BLE001 - a defect of ours is told in the thread that prints
            answer.put(error)

    threading.Thread(target=answer_or_fail, name=f"doctor {check.__name__}", daemon=True).start()
    return answer


def _show(name: str, finding: Finding) -> None:
    print(f"{finding.state:<7}  {name:<13}  {_line(finding.text)}", flush=True)
    if finding.fix:
        print(f"{'':<24}  fix: {_line(finding.fix)}", flush=True)


def _line(text: str) -> str:
    """Text from devices and drivers, fit for one line of a terminal."""
    text = printable(text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
