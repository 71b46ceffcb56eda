"""`samples`: the samples that pipelines have kept on this device: a list, files for tools, and labels from tools."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.config_argument import add_config_argument, config_file
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.samples import timestamp
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted, parse_size

if TYPE_CHECKING:
    from edge_agent.sample_store.segment import Walk
    from edge_agent.sample_store.store import Stored

# Those of `keeping.export`, which is slow to import.
FORMATS = ("folder", "coco", "yolo", "voc", "label-studio", "jsonl")
_ROW = "{:16}  {:24}  {:12}  {:24}  {}"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `samples` and its actions; all of them set `run`."""
    parser = subparsers.add_parser("samples", help="samples that pipelines have kept: list, export, import, pull")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what is there, oldest first")
    _add_stores(listing)
    listing.add_argument("--last", type=between(1, 1_000_000), metavar="N", help="the latest ones only")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")
    exporting = actions.add_parser("export", help="as files, for labelling and training")
    exporting.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="new or empty folder")
    exporting.add_argument("--format", default="folder", choices=FORMATS, help="of the files (folder)")
    exporting.add_argument(
        "--test", type=between(0.0, 1.0), default=0.0, metavar="SHARE", help="of the samples, in a part of its own (0)"
    )
    exporting.add_argument("--labelled", action="store_true", help="only what a person has labelled")
    _add_stores(exporting)
    importing = actions.add_parser("import", help="labels from Label Studio, COCO or a folder for each label")
    importing.add_argument("labels", type=Path, metavar="FILE", help="JSON, or a folder")
    importing.add_argument("--by", default="import", metavar="NAME", help="who says so, in the history (import)")
    _add_stores(importing, filters=False)
    pulling = actions.add_parser("pull", help="bring the samples of devices to this machine, by rsync over ssh")
    pulling.add_argument("--devices", nargs="+", required=True, metavar="HOST", help="[USER@]HOST, for ssh")
    pulling.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="they go to DIR/HOST/PIPELINE")
    pulling.add_argument(
        "--path", default="/var/lib/edge-agent/samples", metavar="DIR", help="of the stores there (%(default)s)"
    )
    pulling.add_argument("--max-rate", type=_size, metavar="SIZE", help="bytes a second: 500kB")
    pulling.add_argument("--sudo", action="store_true", help="read them as root, where sudo needs no password")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (got {text!r})") from None


def _add_stores(parser: argparse.ArgumentParser, *, filters: bool = True) -> None:
    parser.add_argument(
        "stores", type=Path, nargs="*", metavar="STORE", help="folders of samples (default: those of the configuration)"
    )
    add_config_argument(parser, "the configuration whose stores are meant")
    if not filters:
        return
    parser.add_argument("--reason", action="append", metavar="RULE", help="only what this rule has kept: `random`, …")
    parser.add_argument("--label", action="append", metavar="LABEL", help="only with this label")


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns the exit code: 1 if something was damaged.

    Raises:
        ConfigError: there is no such store.
        StoreError: a store can't be used.
    """
    match args.action:
        case "export":
            return _export(args)
        case "import":
            return _import(args)
        case "pull":
            return _pull(args)
        case _:
            return _list(args)


def _list(args: argparse.Namespace) -> int:
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


def _export(args: argparse.Namespace) -> int:
    from edge_agent.keeping.chosen import chosen
    from edge_agent.keeping.export import export
    from edge_agent.sample_store.segment import Walk

    damage = Walk()
    reasons, labels = args.reason or (), args.label or ()
    samples = list(chosen(stores(args), damage, reasons=reasons, labels=labels, labelled=args.labelled))
    if not samples:
        raise ConfigError(["there is no such sample: `edge-agent samples list` shows those that there are"])
    written = export(samples, args.out, args.format, args.test)
    print(f"{args.out}: {counted(written, 'sample')}")
    if damage.damaged:
        print(f"{damage.damaged} damaged places were left out", file=sys.stderr)
    return 1 if damage.damaged else 0


def _import(args: argparse.Namespace) -> int:
    import time

    from edge_agent.keeping import importing
    from edge_agent.sample_store.labels import append_labels, read_labels
    from edge_agent.sample_store.store import read_store

    labels, at = importing.read(args.labels), timestamp(time.time())
    known, changed = 0, 0
    for folder in stores(args):
        there = {one.id for one in read_store(folder)} & labels.keys()
        before = read_labels(folder)
        fresh = [(one, labels[one]) for one in sorted(there) if before.get(one) != labels[one]]
        known += len(there)
        changed += append_labels(folder, fresh, args.by, at)
    print(f"{args.labels}: {counted(len(labels), 'label')}, {known} of samples that are here, {changed} new or changed")
    return 0 if known else 1


def _pull(args: argparse.Namespace) -> int:
    from edge_agent.keeping.pull import check_host, pull

    for host in args.devices:
        check_host(host)
    failed = 0
    for host in args.devices:
        try:
            found = pull(host, args.out, args.path, args.max_rate, sudo=args.sudo)
        except EdgeAgentError as error:
            print(printable(str(error)), file=sys.stderr)
            failed += 1
        else:
            print(f"{host}: {counted(found, 'store')} in {args.out / host.rpartition('@')[2]}")
    return 1 if failed else 0


def stores(args: argparse.Namespace) -> list[Path]:
    """The folders that are meant.

    Raises:
        ConfigError: there is no such store, or no configuration that names one.
    """
    from edge_agent.update.configuration import load_active

    if args.stores:
        if missing := [folder for folder in args.stores if not folder.is_dir()]:
            raise ConfigError([f"{folder}: there is no such folder" for folder in missing])
        return list(args.stores)
    config = load_active(config_file(args), keep=True)
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
