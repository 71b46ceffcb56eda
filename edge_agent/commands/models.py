"""`edge-agent models`: the public models of the registry, and getting them onto this machine."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from edge_agent.models.registry import Progress

_ROW = "{:24} {:14} {:12} {:>7}  {:4}  {}"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `models list` and `models pull`; both set `command` to `run`."""
    models = subparsers.add_parser("models", help="list public models, pull them to this machine")
    models.set_defaults(command=run)
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what there is, and what is on this machine already")
    pulling = actions.add_parser("pull", help="download models, to be used by name in a configuration")
    pulling.add_argument("names", nargs="+", metavar="NAME", help="as `models list` shows it")
    pulling.add_argument("--mirror", help="address or folder to take the files from ($EDGE_AGENT_MIRROR)")
    pulling.add_argument("--into", type=Path, metavar="DIR", help="folder of models ($EDGE_AGENT_MODELS)")
    for parser in (listing, pulling):
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(args: argparse.Namespace) -> int:
    """Runs `models list` or `models pull`.

    Returns:
        0; or 1 where a model could not be pulled, which is said on stderr.

    Raises:
        ConfigError: a name or the mirror is wrong.
    """
    if args.action == "list":
        return _list(as_json=args.json)
    mirror = args.mirror or os.environ.get("EDGE_AGENT_MIRROR") or None
    return _pull(args.names, mirror, args.into, as_json=args.json)


def _list(*, as_json: bool) -> int:
    from edge_agent.models import registry
    from edge_agent.models.bundle import read_manifest
    from edge_agent.models.shipped import BUNDLES

    rows: list[dict[str, Any]] = []
    for name in BUNDLES:
        if folder := registry.resolve(name):
            manifest = read_manifest(folder)
            about = {
                "description": "Comes with edge-agent",
                "task": manifest.task,
                "licence": manifest.licence,
            }
            size = sum((folder / file).stat().st_size for file in manifest.files.values())
            rows.append({"name": name, **about, "source": manifest.source, "size": size, "path": str(folder)})
    for name, entry in registry.entries().items():
        about = {"description": entry.description, "task": entry.task, "licence": entry.licence}
        here = str(folder) if (folder := registry.resolve(name)) else None
        rows.append({"name": name, **about, "source": entry.source, "size": entry.size, "path": here})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    print(_ROW.format("NAME", "TASK", "LICENCE", "SIZE", "HERE", "DESCRIPTION"))
    for row in rows:
        kilobytes = f"{row['size'] / 1e3:.0f} kB"
        here = "yes" if row["path"] else "-"
        print(_ROW.format(row["name"], row["task"], row["licence"], kilobytes, here, row["description"]))
    return 0


def _pull(names: Sequence[str], mirror: str | None, into: Path | None, *, as_json: bool) -> int:
    from edge_agent.models import registry

    _check_names(names)
    answers: list[dict[str, str]] = []
    for name in names:
        try:
            with _shown(name) as progress:
                path = registry.pull(name, into or registry.models_dir(), mirror, progress)
            answers.append({"name": name, "path": str(path)})
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)
            answers.append({"name": name, "error": str(error)})
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            if "path" in answer:
                print(f"{answer['name']}: {answer['path']}")
    return 1 if any("error" in answer for answer in answers) else 0


def _check_names(names: Sequence[str]) -> None:
    """Nothing is pulled before all names are known to be right."""
    from edge_agent.models import registry
    from edge_agent.models.shipped import BUNDLES

    problems: list[str] = []
    for name in names:
        try:
            if name not in BUNDLES:
                registry.find(name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


@contextmanager
def _shown(name: str) -> Iterator["Progress | None"]:
    """Shows progress on stderr: a bar on a terminal, else one line at the start."""
    if not sys.stderr.isatty():
        print(f"{name}: pulling", file=sys.stderr)
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
