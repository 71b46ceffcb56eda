"""`replay`: a recording through the same stages again, and what is different from what was recorded."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.model_arguments import MODEL
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent import settings
    from edge_agent.keeping.recording import Recording
    from edge_agent.keeping.replay import Changes, Replayed
    from edge_agent.models.model import Model

_ROW = "{:24} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}"
MAX_LABELS, MAX_SHEET, SHEET_SIDE, SHEET_COLUMNS = 30, 24, 320, 4


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("replay", help="a recording through a model again, compared with what was recorded")
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="file that `record` has written")
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="its pipeline of that name: model and options"
    )
    parser.add_argument("--model", metavar="MODEL", help=f"another model: {MODEL}")
    parser.add_argument("--pace", action="store_true", help="as slow as it was then; default: as fast as possible")
    parser.add_argument("--sheet", type=Path, metavar="JPEG", help="draw the pictures whose results have changed")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replays and prints; returns the exit code: 1 if a result differs.

    Raises:
        ConfigError: the configuration has no such pipeline, or the model is for something else.
        ModelError: the model can't be used.
        StoreError: the recording can't be used.
    """
    from edge_agent.keeping.recording import open_recording
    from edge_agent.keeping.replay import Changes, Replay, check_fits

    recording = open_recording(args.recording)
    options, model, same = _subject(args, recording)
    check_fits(recording, model)
    replay, changes = Replay(recording, model, options, same=same), Changes()
    summary = _Summary(changes, [] if args.sheet is not None else None)
    summary.add(replay.run(at_own_pace=args.pace, images=args.sheet is not None))
    document = summary.document() | {
        "recording": str(args.recording),
        "pipeline": recording.head.get("pipeline"),
        "model": {"recorded": _sha256(recording), "replayed": model.file.sha256},
        "machine": _machine(recording, model),
        "damaged": replay.found.damaged,
    }
    if args.sheet is not None and summary.pictures:
        _write_sheet(args.sheet, summary.pictures)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        _show(document, changes)
    return 0 if document["equal"] == document["inputs"] and not replay.found.damaged else 1


def _subject(args: argparse.Namespace, recording: "Recording") -> "tuple[settings.Pipeline, Model, bool]":
    """The options and the model to replay with, and whether they are those of the recording."""
    from edge_agent import settings
    from edge_agent.errors import ConfigError
    from edge_agent.keeping.documents import options_of as document_of
    from edge_agent.keeping.replay import model_options, options_of
    from edge_agent.models import model as models
    from edge_agent.update.configuration import load_active

    options = recorded = options_of(recording)
    stated, folder = model_options(recording)
    if args.config is not None:
        config, name = load_active(args.config, keep=True), str(recording.head.get("pipeline"))
        if name not in config.settings.pipelines:
            known = ", ".join(config.settings.pipelines) or "none"
            raise ConfigError([f"{args.config}: there is no pipeline {name!r}, which was recorded; known: {known}"])
        options = config.settings.pipelines[name]
        model_name = options.model_name
        if model_name not in config.settings.models:
            raise ConfigError(
                [f"{config.where('pipelines', name, 'model')}: a model was recorded, this is {model_name}"]
            )
        stated, folder = config.settings.models[model_name], str(config.path.parent)
    if args.model is not None:
        stated, folder = settings.Model(path=Path(args.model)), "."
    name = str(recording.head["model"].get("name"))
    model = models.load(name, stated, Path(folder))
    same_options = document_of(options) == document_of(recorded)
    return options, model, same_options and model.file.sha256 == _sha256(recording)


def _sha256(recording: "Recording") -> str:
    return str(recording.head["model"].get("sha256"))


def _machine(recording: "Recording", model: "Model") -> dict[str, bool]:
    """Whether runtime and processor are those of the recording; only then is equality to the bit to be expected."""
    from edge_agent.system.cache import processor

    facts = model.facts()
    recorded = recording.head["model"]
    accelerator = recorded.get("accelerator") or {}
    return {
        "same_runtime": (recorded.get("engine"), accelerator.get("in_use"))
        == (facts["engine"], facts["accelerator"]["in_use"]),
        "same_processor": recording.head.get("processor") == processor(),
    }


class _Summary:
    """What a replay has come to.

    Args:
        changes: counts what has changed by label.
        pictures: takes the pictures whose results have changed, with the predictions drawn in; None: none are wanted.
    """

    def __init__(self, changes: "Changes", pictures: "list[NDArray[np.uint8]] | None") -> None:
        self.pictures = pictures
        self._changes = changes
        self._inputs = self._equal = self._changed = 0
        self._compared: dict[str, int] = {"bits": 0, "stages": 0, "results": 0}
        self._first: dict[str, Any] | None = None

    def add(self, replayed: "Iterator[Replayed]") -> None:
        """Takes all inputs."""
        from edge_agent.publish.drawing import annotate

        for one in replayed:
            self._inputs += 1
            self._compared[one.compared] += 1
            self._equal += one.stage is None
            if one.stage is not None and self._first is None:
                self._first = {"input": one.number, "stage": one.stage, "then": one.then, "now": one.now}
            changed = self._changes.add(one)
            self._changed += changed
            if changed and one.image is not None and self.pictures is not None and len(self.pictures) < MAX_SHEET:
                self.pictures.append(annotate(one.image, one.predictions, max_side=SHEET_SIDE))

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "inputs": self._inputs,
            "equal": self._equal,
            "compared": self._compared,
            "first_difference": self._first,
            "changed": self._changed,
            "labels": {label: dict(row) for label, row in sorted(self._changes.rows.items())},
            "turned": [
                {"then": then, "now": now, "inputs": count}
                for (then, now), count in self._changes.turned.most_common(MAX_LABELS)
            ],
        }


def _show(document: Mapping[str, Any], changes: "Changes") -> None:
    first, machine = document["first_difference"], document["machine"]
    print(f"{document['equal']} of {document['inputs']} inputs have equal results")
    for line in _remarks(document):
        print(line)
    if first is not None:
        print(f"the first difference is at input {first['input']}, at the stage `{first['stage']}`")
        print(printable(f"  then: {json.dumps(first['then'])[:300]}"))
        print(printable(f"  now:  {json.dumps(first['now'])[:300]}"))
        if first["stage"] != "result" and not all(machine.values()):
            print("  runtime or processor differ from those of the recording: small differences are to be expected")
    if document["changed"]:
        print(_ROW.format("LABEL", "THEN", "NOW", "SAME", "MOVED", "LOST", "GAINED"))
        for label, row in sorted(changes.rows.items(), key=_by_change)[:MAX_LABELS]:
            keys = ("then", "now", "same", "moved", "lost", "gained")
            print(printable(_ROW.format(label[:24], *(row[key] for key in keys))))
        for (then, now), count in changes.turned.most_common(MAX_LABELS):
            print(printable(f"{count:7}  {then} -> {now}"))


def _remarks(document: Mapping[str, Any]) -> Iterable[str]:
    compared = document["compared"]
    if compared["stages"]:
        yield (
            f"of {compared['stages']} inputs at its start the results are not compared: they depend on inputs from "
            "before the recording"
        )
    if compared["results"]:
        yield (
            f"of {compared['results']} inputs only the results are compared: the model, the options or the encoding of "
            "the input differ"
        )
    if document["damaged"]:
        yield f"{document['damaged']} damaged places were left out"


def _by_change(row: tuple[str, Mapping[str, int]]) -> tuple[int, str]:
    label, counts = row
    return -(counts["moved"] + counts["lost"] + counts["gained"]), label


def _write_sheet(path: Path, pictures: "list[NDArray[np.uint8]]") -> None:
    """Writes a JPEG with pictures in rows."""
    import numpy as np

    from edge_agent.publish.drawing import encode_jpeg

    rows = -(-len(pictures) // SHEET_COLUMNS)
    height = max(len(picture) for picture in pictures)
    sheet = np.zeros((rows * height, SHEET_COLUMNS * SHEET_SIDE, 3), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // SHEET_COLUMNS * height, number % SHEET_COLUMNS * SHEET_SIDE
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    path.write_bytes(encode_jpeg(sheet, 5_000_000))
