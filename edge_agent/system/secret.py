"""Secrets that the configuration refers to: in a file, or in an environment variable."""

import os
import re
from pathlib import Path

from edge_agent.errors import ConfigError

_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_FILE = 65536


def read_secret(key: str, stated: str, folder: Path, what: str) -> str:
    """The first line of a file, or the value of an environment variable.

    Args:
        key: of the configuration, for messages.
        stated: path of a file, or `${env:NAME}`.
        folder: what the path is relative to.
        what: the secret's name, for messages.

    Raises:
        ConfigError: it can't be read.
    """
    if variable := _ENV.fullmatch(stated):
        if variable[1] not in os.environ:
            raise ConfigError([f"{key}: the environment variable {variable[1]} is not set"])
        return os.environ[variable[1]]
    path = folder / Path(stated).expanduser()
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_MAX_FILE).split("\n", 1)[0].rstrip("\r")
    except OSError as error:
        raise ConfigError([f"{key}: {path} can't be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{key}: {path} is not text: it must hold the {what} alone"]) from None
