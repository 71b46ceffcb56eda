"""Secrets that the configuration refers to: in a file, or in an environment variable."""

import re
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.system import text
from edge_agent.system.home import expand_user
from edge_agent.system.text import TextError

ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_FILE = 1_000_000


def read_secret(key: str, stated: str, folder: Path, what: str) -> str:
    """The first line of a file, or of an environment variable.

    Args:
        key: of the configuration, for messages.
        stated: path of a file, or `${env:NAME}`.
        folder: what the path is relative to.
        what: the secret's name, for messages.

    Raises:
        ConfigError: it can't be read.
    """
    variable = ENV.fullmatch(stated)
    where = f"the environment variable {variable[1]}" if variable else str(folder / expand_user(stated))
    try:
        found = text.variable(variable[1]) if variable else text.read_text(Path(where), _MAX_FILE)
        if found is None:
            raise ConfigError([f"{key}: {where} is not set"])
        return text.secret(found)
    except OSError as error:
        raise ConfigError([f"{key}: {where} can't be read: {error.strerror}"]) from None
    except TextError as error:
        raise ConfigError([f"{key}: {where}: {error}: it must hold the {what} alone"]) from None
