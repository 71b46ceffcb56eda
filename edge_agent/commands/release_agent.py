"""`release agent add`: a version of edge-agent as a release, with its wheels for each platform."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ReleaseError

if TYPE_CHECKING:
    from edge_agent.release.repository import SignedRepository
    from edge_agent.update.releases import Release

CHANNEL = "agent"
_PLATFORM = re.compile(r"cp3[0-9]{1,2}-[a-z0-9_]{1,20}")


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Adds `add`; returns its parser."""
    adding = actions.add_parser("add", help="release a version of edge-agent itself")
    adding.add_argument(
        "--for",
        dest="wheels",
        action="append",
        type=_wheels,
        required=True,
        metavar="PLATFORM=DIR",
        help="wheels of edge-agent and all that it needs, for a platform such as cp311-aarch64; one for each platform",
    )
    adding.add_argument("--channel", default=CHANNEL, help=f"that devices follow ({CHANNEL})")
    return adding


def _wheels(text: str) -> tuple[str, Path]:
    platform, equals, folder = text.partition("=")
    if not equals or not _PLATFORM.fullmatch(platform):
        raise argparse.ArgumentTypeError(f"must be as cp311-aarch64=DIR (got {text!r})")
    return platform, Path(folder)


def run(repository: "SignedRepository", args: argparse.Namespace) -> "list[Release]":
    """Adds the release.

    Raises:
        ReleaseError: a folder is not what the platform needs.
    """
    import tempfile

    from edge_agent.release.agent import pack

    with tempfile.TemporaryDirectory() as scratch:
        archives, versions = {}, set[str]()
        for platform, folder in args.wheels:
            archives[platform] = Path(scratch) / f"{platform}.zip"
            versions.add(pack(folder, platform, archives[platform]))
        if len(versions) > 1:
            raise ReleaseError(f"expected one version for all platforms, found {', '.join(sorted(versions))}")
        return repository.add(archives, args.channel, versions.pop(), args.percent, args.group)
