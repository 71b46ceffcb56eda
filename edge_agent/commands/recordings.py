"""`recordings`: looks at what pipelines have recorded on this device."""

import argparse
import json
from pathlib import Path
from typing import Any

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.config_argument import add_config_argument, config_file
from edge_agent.errors import ConfigError
from edge_agent.samples import timestamp
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted, format_size

_ROW = "{:24}  {:12}  {:8}  {:>7}  {:>9}  {:>10}  {}"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `recordings` and its actions; all of them set `run`."""
    parser = subparsers.add_parser("recordings", help="what pipelines have recorded: list, show, export")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what is there, oldest first")
    listing.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER", help="of recordings (default: those of the configuration)"
    )
    add_config_argument(listing, "the configuration whose recordings are meant")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")
    showing = actions.add_parser("show", help="one JSON document for each input of a recording")
    showing.add_argument("recording", type=Path, metavar="RECORDING", help="file that `record` has written")
    exporting = actions.add_parser("export", help="as a video, sound, a table, or a file for each input")
    exporting.add_argument("recording", type=Path, metavar="RECORDING", help="file that `record` has written")
    exporting.add_argument(
        "--as-sent", action="store_true", help="the video as the camera sent it (.mp4), the results as subtitles (.srt)"
    )
    exporting.add_argument("out", type=Path, metavar="OUT", help="new file .mp4, .wav or .csv, or a new folder")


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns the exit code: 1 if something was damaged.

    Raises:
        ConfigError: there is no such folder, or no configuration that names one.
        StoreError: a recording can't be used.
    """
    match args.action:
        case "list":
            return _list(args)
        case "export":
            return _export(args)
        case _:
            return _show(args.recording)


def _export(args: argparse.Namespace) -> int:
    from edge_agent.keeping.recording import open_recording
    from edge_agent.keeping.recording_export import export

    if args.as_sent:
        from edge_agent.keeping.packet_export import export_packets

        if args.out.suffix.lower() != ".mp4":
            raise ConfigError([f"{args.out}: with --as-sent, expected .mp4"])
        print(f"{args.out}: {counted(export_packets(open_recording(args.recording), args.out), 'packet')}")
        return 0
    written = export(open_recording(args.recording), args.out)
    print(f"{args.out}: {counted(written, 'input')}")
    return 0


def _show(path: Path) -> int:
    from edge_agent.keeping.recording import open_recording
    from edge_agent.sample_store.segment import Walk

    recording, found = open_recording(path), Walk()
    print(json.dumps({"recording": recording.head}))
    for entry in recording.entries(found):
        print(json.dumps({**entry.document, "bytes": len(entry.data)}))
    return 1 if found.damaged else 0


def _list(args: argparse.Namespace) -> int:
    from edge_agent.keeping.recording import recordings

    rows = [_row(path) for folder in _folders(args) for path in recordings(folder)]
    if args.json:
        print(json.dumps({"recordings": rows}, indent=2))
        return 1 if any(row["damaged"] for row in rows) else 0
    print(_ROW.format("STARTED", "PIPELINE", "REASON", "INPUTS", "SECONDS", "SIZE", "FILE"))
    for row in rows:
        cells = (row["inputs"], f"{row['seconds']:.1f}", format_size(row["bytes"]), row["path"])
        print(printable(_ROW.format(row["started_at"], str(row["pipeline"]), str(row["reason"]), *cells)))
    return 1 if any(row["damaged"] for row in rows) else 0


def _row(path: Path) -> dict[str, Any]:
    from edge_agent.keeping.recording import open_recording
    from edge_agent.sample_store.segment import Walk

    recording, found = open_recording(path), Walk()
    times = [float(entry.document["captured"]) for entry in recording.entries(found)]
    started = recording.head.get("started_at")
    return {
        "path": str(path),
        "pipeline": recording.head.get("pipeline"),
        "reason": recording.head.get("reason"),
        "started_at": timestamp(started if isinstance(started, int | float) else 0.0),
        "inputs": len(times),
        "seconds": max(times, default=0.0) - min(times, default=0.0),
        "bytes": path.stat().st_size,
        "damaged": found.damaged,
    }


def _folders(args: argparse.Namespace) -> list[Path]:
    from edge_agent.update.configuration import load_active

    if args.folders:
        if missing := [folder for folder in args.folders if not folder.is_dir()]:
            raise ConfigError([f"{folder}: there is no such folder" for folder in missing])
        return list(args.folders)
    config = load_active(config_file(args), keep=True)
    names = [name for name, pipeline in config.settings.pipelines.items() if pipeline.record is not None]
    if not names:
        raise ConfigError([f"{config.path}: no pipeline records: add `record: {{}}` to one, or name a FOLDER"])
    return [folder for name in names if (folder := config.kept_path("recordings", name)).is_dir()]
