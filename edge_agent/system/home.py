"""The user's folder, and `~` in paths: a user of a container or a service may have none."""

import os
from pathlib import Path

# What Debian states as the home of users that have none: nothing can be written there.
NO_HOME = Path("/nonexistent")


def home() -> Path:
    """The user's folder; `NO_HOME` if there is none."""
    found = os.path.expanduser("~")  # noqa: PTH111 - Path.home fails where there is none
    return Path(found) if os.path.isabs(found) else NO_HOME  # noqa: PTH117 - it is text


def expand_user(path: Path | str) -> Path:
    """A path with the user's folder in place of `~`, and that of another user in place of `~name`, if there is one."""
    parts = Path(path).parts
    if parts[:1] == ("~",):
        return home().joinpath(*parts[1:])
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser fails where there is no such user
