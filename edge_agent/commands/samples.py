"""`samples`: looks at the samples that pipelines have kept on this device."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.config_argument import add_config_argument, config_file
from edge_agent.errors import ConfigError
from edge_agent.samples import timestamp
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    from edge_agent.sample_store.segment import Walk
    from edge_agent.sample_store.store import Stored

_ROW = "{:16}  {:24}  {:12}  {:24}  {}"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `samples` and its actions; all of them set `run`."""
    parser = subparsers.add_parser("samples", help="samples that pipelines have kept: list")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what is there, oldest first")
    _add_stores(listing)
    listing.add_argument("--last", type=between(1, 1_000_000), metavar="N", help="the latest ones only")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _add_stores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stores", type=Path, nargs="*", metavar="STORE", help="folders of samples (default: those of the configuration)"
    )
    add_config_argument(parser, "the configuration whose stores are meant")
    parser.add_argument("--reason", action="append", metavar="RULE", help="only what this rule has kept: `random`, …")
    parser.add_argument("--label", action="append", metavar="LABEL", help="only with this label")


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns the exit code: 1 if something was damaged.

    Raises:
        ConfigError: there is no such store.
        StoreError: a store can't be used.
    """
    from edge_agent.sample_store.segment import Walk

    damage = Walk()
    found = list(_chosen(args, damage))
    if args.last is not None:
        found = found[-args.last :]
    if args.json:
        rows = [
            {"store": str(one.path.parent), "at": timestamp(one.captured_at)} | one._asdict() | {"path": str(one.path)}
            for one in found
        ]
        print(json.dumps({"samples": rows, "damaged": damage.damaged}, indent=2))
    else:
        print(_ROW.format("ID", "CAPTURED", "PIPELINE", "REASONS", "LABELS"))
        for one in found:
            reasons, labels = ", ".join(one.reasons), ", ".join(one.labels)
            print(printable(_ROW.format(one.id, timestamp(one.captured_at), one.pipeline, reasons, labels)))
        if damage.damaged:
            print(f"{damage.damaged} damaged places were left out")
    return 1 if damage.damaged else 0


def stores(args: argparse.Namespace) -> list[Path]:
    """The folders that are meant.

    Raises:
        ConfigError: there is no such store, or no configuration that names one.
    """
    from edge_agent.config import loader

    if args.stores:
        if missing := [folder for folder in args.stores if not folder.is_dir()]:
            raise ConfigError([f"{folder}: there is no such folder" for folder in missing])
        return list(args.stores)
    config = loader.load(config_file(args))
    keeping = [name for name, pipeline in config.settings.pipelines.items() if pipeline.keep is not None]
    if not keeping:
        raise ConfigError([f"{config.path}: no pipeline keeps samples: add `keep: {{}}` to one, or name a STORE"])
    return [folder for name in keeping if (folder := config.kept_path("samples", name)).is_dir()]


def _chosen(args: argparse.Namespace, damage: "Walk") -> "Iterator[Stored]":
    from edge_agent.sample_store.store import read_store

    for folder in stores(args):
        for one in read_store(folder, damage):
            fits = not args.reason or not set(args.reason).isdisjoint(one.reasons)
            if fits and (not args.label or not set(args.label).isdisjoint(one.labels)):
                yield one
