"""The argument that names the configuration, and where it is looked for without one."""

import argparse
import os
from pathlib import Path

from edge_agent.errors import ConfigError

# The folder that somebody works in, then the service's.
PLACES = (Path("agent.yaml"), Path("/etc/edge-agent/agent.yaml"))
_DEFAULT = f"default: {' or '.join(map(str, PLACES))}"


def add_config_argument(parser: argparse.ArgumentParser, what: str = "the configuration") -> None:
    """Adds `-c`, `--config`.

    Args:
        parser: of the command.
        what: begins the help text.
    """
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help=f"{what} ({_DEFAULT})")


def config_file(args: argparse.Namespace) -> Path:
    """The file that is stated, or else the first one that is there.

    Raises:
        ConfigError: none is stated, and none is there.
    """
    found = args.config or any_config_file()
    if found is None:
        places = " nor ".join(map(str, PLACES))
        raise ConfigError([f"no configuration: there is neither {places}: name another one with -c FILE"])
    return Path(found)


def any_config_file() -> Path | None:
    """The configuration that is used where none is stated; None: there is none."""
    return next((place for place in PLACES if os.path.lexists(place)), None)
