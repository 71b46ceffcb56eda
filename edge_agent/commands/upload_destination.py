"""Where `release upload` and `release watch --upload` bring a repository, and with which credentials."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.settings.http_access import HttpAccess

_SCHEMES = ("https://", "http://")
_OPTIONS = ("access_key_file", "region", "token_file", "query_file", "ca_file")


def add_destination(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """Adds an argument or option for the destination, and the options for https ones.

    Args:
        parser: of the command.
        name: of the argument or option.
        about: what it is for.
    """
    parser.add_argument(name, metavar="DEST", help=about)
    parser.add_argument("--access-key-file", metavar="FILE", help="for a bucket: ID:SECRET in its first line")
    parser.add_argument("--region", help="of the bucket (us-east-1)")
    parser.add_argument("--token-file", metavar="FILE", help="for a web server: a token, sent as Bearer")
    parser.add_argument("--query-file", metavar="FILE", help="for a signed address (SAS): what stands behind ?")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="certificates that the server's is checked with")


def destination(stated: str, args: argparse.Namespace) -> "str | HttpAccess":
    """The destination that an argument states, with the credentials of the options.

    Raises:
        ConfigError: they don't go together.
    """
    options = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    if not stated.startswith(_SCHEMES):
        if options:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
            raise ConfigError([f"{names}: for https:// destinations; found {stated}"])
        return stated
    from pydantic import ValidationError

    from edge_agent.config.validation import in_plain_words
    from edge_agent.settings.http_access import HttpAccess

    try:
        return HttpAccess.model_validate({"url": stated, **options})
    except ValidationError as error:
        raise ConfigError([
            f"{stated}: {in_plain_words(details, stated)}" for details in error.errors(include_url=False)
        ]) from None  # fmt: skip
