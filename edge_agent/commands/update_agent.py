"""`update-agent`: installs the release of edge-agent that the agent has downloaded; a service runs it as root."""

import argparse
import os
from pathlib import Path

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.config_argument import add_config_argument, config_file
from edge_agent.errors import EdgeAgentError, MissingExtraError

STATE = "/var/lib/edge-agent"


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("update-agent", help="install the release of edge-agent that has been downloaded")
    add_config_argument(parser)
    state = Path(f"{os.environ.get('EDGE_AGENT_ROOT', '')}{STATE}")
    parser.add_argument("--state", type=Path, default=state, metavar="DIR", help=f"of the service ({STATE})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Installs what is to be installed; returns the exit code.

    Raises:
        ConfigError: the configuration can't be read.
        UpdateError: the lists or the archive can't be used.
    """
    from edge_agent.models.shipped import shipped
    from edge_agent.system import logs
    from edge_agent.update.agent_release import installed_in

    try:
        from edge_agent.update.installer import Installer, device_of
    except ImportError as error:
        raise MissingExtraError("updating edge-agent", "update", error) from None
    logs.set_up(debug="debug" in args, form="text")
    folder = installed_in()
    if folder is None:
        raise EdgeAgentError("this version was not installed by install.sh: there is nothing to update")
    device = device_of(config_file(args), args.state)
    if device is None:
        print("update.agent is not set: nothing is installed")
        return 0
    print(Installer(device, folder, shipped("install.sh"), device.update.probation.duration).run())
    return 0
