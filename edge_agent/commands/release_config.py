"""`release config`: a configuration as a release, and what it is for a device."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ReleaseError

if TYPE_CHECKING:
    from edge_agent.release.repository import SignedRepository
    from edge_agent.update.releases import Release

CHANNEL = "config"


def add_parsers(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Adds `add`, `render` and `diff`; returns their parsers."""
    adding = actions.add_parser("add", help="release a configuration")
    adding.add_argument("folder", type=Path, metavar="FOLDER", help="with base.yaml, label/*.yaml, device/*.yaml")
    adding.add_argument("--version", metavar="V", help="of it (the number of the release)")
    rendering = actions.add_parser("render", help="print what a configuration is for a device")
    rendering.add_argument("place", metavar="FOLDER", help="or a release, as `release list` shows it")
    comparing = actions.add_parser("diff", help="what a configuration changes for a device; exit code 1 if anything")
    comparing.add_argument("place", metavar="FOLDER", help="or a release, as `release list` shows it")
    comparing.add_argument("--to", metavar="RELEASE", help="what it is compared with (the newest release)")
    for parser in (adding, comparing):
        parser.add_argument("--channel", default=CHANNEL, help=f"that devices follow ({CHANNEL})")
    for parser in (rendering, comparing):
        parser.add_argument("--device", required=True, metavar="ID", help="of the device")
        parser.add_argument(
            "--label", action="append", default=[], metavar="LABEL", help="of the device, in their order"
        )
        parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the device's own file, over all others")
    return [adding, rendering, comparing]


def run(repository: "SignedRepository", args: argparse.Namespace) -> "list[Release] | int":
    """Runs the action; returns the releases that it has added, or the exit code.

    Raises:
        ConfigError: a file of the configuration can't be used.
        ReleaseError: the action is not possible.
    """
    if args.config_action == "add":
        return _add(repository, args)
    if args.config_action == "render":
        print(_rendered(repository, args.place, args), end="")
        return 0
    return _diff(repository, args)


def _add(repository: "SignedRepository", args: argparse.Namespace) -> "list[Release]":
    import tempfile

    from edge_agent.release.configuration import pack

    numbers = [release.number for release in repository.releases() if release.channel == args.channel]
    version = args.version or str(max(numbers, default=0) + 1)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "configuration.zip"
        pack(args.folder, archive)
        return repository.add(archive, args.channel, version, args.percent, args.group)


def _diff(repository: "SignedRepository", args: argparse.Namespace) -> int:
    import difflib

    other = args.to
    if other is None:
        newest = repository.newest(args.channel)
        if newest is None:
            raise ReleaseError(f"{args.channel}: nothing has been released there: there is nothing to compare with")
        other = newest.name
    before, after = (_rendered(repository, place, args).splitlines() for place in (other, args.place))
    lines = list(difflib.unified_diff(before, after, other, args.place, lineterm=""))
    for line in lines:
        print(line)
    return 1 if lines else 0


def _rendered(repository: "SignedRepository", place: str, args: argparse.Namespace) -> str:
    from edge_agent.release.configuration import rendered

    path = Path(place) if Path(place).exists() else repository.archive_of(repository.find(place)[0])
    return rendered(path, args.device, args.label, args.config)
