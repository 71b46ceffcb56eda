"""`release watch`: follows a release through the fleet, and halts it if it fails."""

import argparse
import contextlib
import queue
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from edge_agent.commands.config_argument import config_file
from edge_agent.commands.release_steering import Steering
from edge_agent.commands.subscribed import POLL, Listening, Messages, subscribed
from edge_agent.config import loader
from edge_agent.release.rollout import Rollout, Row, count, is_finished
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from rich.table import Table

    from edge_agent.release.repository import SignedRepository

CONNECT_WITHIN = 20.0
MOST_SHOWN = 30
REFRESH = 0.5


def run(repository: "SignedRepository", args: argparse.Namespace) -> int:
    """Follows the release until enough devices have passed their probation, too many have failed, or the time is over.

    Returns:
        0 if at least `args.passed` devices have passed, and every other one that is online as well, but for
        `args.max_failures`; 1 if not.

    Raises:
        ReleaseError: there is no such release.
        EdgeAgentError: the broker is not reached.
    """
    releases = repository.find(args.release)
    steering = Steering(repository, args) if args.promote else None
    if args.halt:
        repository.unlock()
    loaded = loader.load(config_file(args))
    mqtt = loaded.settings.mqtt
    silence = args.silence if steering is None else steering.plan.silence
    rollout = Rollout(releases, mqtt.topic_prefix, silence)
    folder = loaded.path.parent
    with subscribed(mqtt, folder, "release", ("status", "update"), CONNECT_WITHIN) as listening:
        rows = _follow(rollout, listening, args, steering)
    if steering is not None:
        return _ended(steering, rows)
    found, passed = count(rows), _has_passed(rows, args)
    if found["failed"] > args.max_failures and args.halt:
        repository.promote(args.release, 0, [])
        print(f"{args.release}: halted: no further device takes it; upload the repository")
    elif found["failed"] > args.max_failures:
        print(f"{args.release}: too many failures; `edge-agent release promote {args.release} --percent 0` halts it")
    elif not passed:
        print(f"{args.release}: the time is over: passed by {found['done']}, expected {args.passed} or more")
    for row in [row for row in rows if row.progress == "failed"][:MOST_SHOWN]:
        print(printable(f"{row.device_id}: {row.reason}"))
    if not passed:
        why = Counter(row.reason for row in rows if row.progress in ("under way", "waiting") and row.reason)
        for reason, number in why.most_common(MOST_SHOWN):
            print(printable(f"{counted(number, 'device')}: {reason}"))
    return 0 if passed else 1


def _ended(steering: Steering, rows: list[Row]) -> int:
    print(f"{steering.name}: {steering.summary()}")
    for row in [row for row in rows if row.progress == "failed"][:MOST_SHOWN]:
        print(printable(f"{row.device_id}: {row.reason}"))
    return 0 if steering.complete else 1


def _has_passed(rows: list[Row], args: argparse.Namespace) -> bool:
    found = count(rows)
    return is_finished(rows) and found["done"] >= args.passed and found["failed"] <= args.max_failures


def _follow(rollout: Rollout, listening: Listening, args: argparse.Namespace, steering: Steering | None) -> list[Row]:
    """Shows the progress until there is a reason to stop; returns the rows at that time."""
    from rich.console import Console
    from rich.live import Live

    shown, deadline, look_at, had_arrived = "", time.monotonic() + args.timeout, 0.0, False
    live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
    with live or contextlib.nullcontext():
        while True:
            link = listening.connection.link
            arrived = listening.arrival.is_complete(link)
            _receive(rollout, listening.messages)
            if time.monotonic() < look_at and arrived == had_arrived:  # rows of a large fleet take a while to make
                continue
            look_at, had_arrived = time.monotonic() + REFRESH, arrived
            rows = rollout.rows()
            line = ", ".join(f"{number} {progress}" for progress, number in count(rows).items()) or "no device yet"
            if live is not None:
                live.update(_table(rows, line), refresh=True)
            elif line != shown:
                print(line, flush=True)
            shown = line
            settled = arrived if steering is None else steering.is_settled(connected=link is not None) and arrived
            if time.monotonic() > deadline or _is_over(rollout, rows, args, steering, settled=settled):
                return rows


def _receive(rollout: Rollout, messages: Messages) -> None:
    """Takes the messages that have come; waits a moment for the first."""
    with contextlib.suppress(queue.Empty):
        rollout.received(*messages.get(timeout=POLL))
        for _ in range(messages.qsize()):
            rollout.received(*messages.get_nowait())


def _is_over(
    rollout: Rollout, rows: list[Row], args: argparse.Namespace, steering: Steering | None, *, settled: bool
) -> bool:
    """Whether there is nothing to wait for. With a plan, does what is to be done.

    Args:
        rollout: what is followed.
        rows: its devices.
        args: of the command.
        steering: of a plan; None: the release is only followed.
        settled: whether what the broker keeps has arrived.
    """
    if steering is not None:
        return settled and steering.go_on(rollout, rows)
    return count(rows)["failed"] > args.max_failures or (settled and _has_passed(rows, args))


def _table(rows: list[Row], line: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("device", "", "release", "step", "active", "why", title=line)
    for row in rows[:MOST_SHOWN]:
        online = "online" if row.online else "offline"
        cells = (row.device_id, online, row.progress, row.step, row.active, row.reason)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if len(rows) > MOST_SHOWN:
        table.caption = f"and {len(rows) - MOST_SHOWN} more"
    return table
