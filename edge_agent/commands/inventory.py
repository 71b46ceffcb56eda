"""`fleet`: the inventory of all devices under a prefix, as a table, JSON or CSV."""

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.broker_arguments import add_broker_arguments, fleet_broker
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from edge_agent.commands.fleet_inventory import Inventory
    from edge_agent.settings import Mqtt

CONNECT_WITHIN = 15.0
AT_MOST = 60.0
# Columns for people; the rest is for programs.
SHOWN = (
    "device_id",
    "status",
    "last_heard",
    "version",
    "configuration",
    "config_release",
    "drift",
    "labels",
    "machine",
    "models",
    "updates",
)


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("fleet", help="inventory of all devices: versions, hardware, disk, updates")
    add_broker_arguments(parser)
    parser.add_argument("--prefix", metavar="P", help="first part of the topics (edge)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--csv", action="store_true", help="a line for each device")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the inventory; returns the exit code: 1 if there was no room for all devices.

    Raises:
        ConfigError: the configuration or the arguments can't be used.
        EdgeAgentError: the broker is not reached.
    """
    from edge_agent.commands.fleet_inventory import COLUMNS, Inventory, cells
    from edge_agent.commands.fleet_table import print_document
    from edge_agent.samples import timestamp

    mqtt, folder = fleet_broker(args)
    inventory = Inventory(mqtt.topic_prefix)
    _gather(inventory, mqtt, folder)
    devices = inventory.devices()
    if args.json:
        print_document({"at": timestamp(time.time()), "topic_prefix": mqtt.topic_prefix}, devices)
    elif args.csv:
        table = csv.writer(sys.stdout)
        table.writerow(COLUMNS)
        table.writerows(cells(device) for device in devices)
    else:
        _show([dict(zip(COLUMNS, cells(device), strict=True)) for device in devices])
    if inventory.left_out:
        left_out = counted(inventory.left_out, "message")
        print(f"{left_out} left out: invalid, or of more devices than there is room for", file=sys.stderr)
    return 1 if inventory.left_out else 0


def _gather(inventory: "Inventory", mqtt: "Mqtt", folder: Path) -> None:
    """Receives what the broker keeps of the devices."""
    from edge_agent.commands.fleet_inventory import WHAT
    from edge_agent.commands.subscribed import subscribed

    with subscribed(mqtt, folder, "fleet", WHAT, CONNECT_WITHIN) as listening:
        for topic, payload in listening.kept(AT_MOST):
            inventory.receive(topic, payload)


def _show(rows: list[dict[str, str]]) -> None:
    """As wide as its content: names and reasons are searched for with other programs, and cut off by `less -S`."""
    from rich.console import Console

    from edge_agent.commands.text_table import Cell, Column, fitted, write

    columns = [Column(column.replace("_", " ")) for column in SHOWN]
    lines = [[Cell(printable(row[column])) for column in SHOWN] for row in rows]
    write(fitted(columns, lines, None), Console())
    print(f"{counted(len(rows), 'device')}, {sum(row['status'] == 'online' for row in rows)} online")
