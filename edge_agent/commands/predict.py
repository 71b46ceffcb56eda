"""`predict`: one-off inference on files, by the same steps as in the daemon."""

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.model_arguments import add_model_arguments, model_settings
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.samples import Prediction

MAX_ANNOTATED = 20_000_000
ANNOTATED_QUALITY = 90
MAX_SHOWN = 200
# Keypoints that are shown of each prediction: all of a person, not all 468 of a face.
MAX_POINTS = 33


def _annotate(path: Path, image: "NDArray[np.uint8]", predictions: "Sequence[Prediction]") -> None:
    """Writes a picture, (height, width, 3), uint8, BGR, with the predictions drawn into it."""
    from edge_agent.publish.drawing import annotate, encode_jpeg

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(annotate(image, predictions), MAX_ANNOTATED, ANNOTATED_QUALITY))
    except OSError as error:
        raise EdgeAgentError(f"{path}: can't be written: {error.strerror}") from error


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("predict", help="one-off inference on files")
    add_model_arguments(parser)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image files")
    parser.add_argument(
        "--top-k", type=between(1, 1000), metavar="N", help="maximum number of predictions for each input"
    )
    parser.add_argument(
        "--min-confidence", type=between(0.0, 1.0), metavar="C", help="omit predictions below this confidence, 0 to 1"
    )
    parser.add_argument(
        "--annotate", type=Path, metavar="OUT", help="JPEG to draw the predictions into, or a folder for several inputs"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the predictions for each input; returns the exit code: 1 if an input could not be used.

    Raises:
        ModelError: the model can't be used.
        EdgeAgentError: a picture can't be written.
    """
    import socket
    import uuid

    from edge_agent.models import model as models
    from edge_agent.models.predictor import Predictor
    from edge_agent.preprocess.files import read_file
    from edge_agent.samples import Result, content_of
    from edge_agent.system.clock import Clock

    inputs: list[Path] = args.inputs
    annotate: Path | None = args.annotate
    folders = [path for path in inputs if path.is_dir()]
    if folders:
        raise ConfigError([f"{folders[0]}: is a folder: give its files, as in {folders[0]}/*.jpg"])
    options = model_settings(args)
    model = models.load(_name(options.path), options, Path.cwd())
    predictor = Predictor(model, args.top_k, args.min_confidence)
    into_folder = annotate is not None and (len(inputs) > 1 or annotate.is_dir())
    boot_id, clock, numbers = uuid.uuid4().hex[:8], Clock(), itertools.count(1)
    documents: list[dict[str, Any]] = []
    for path in inputs:
        sample = read_file(path)
        try:
            answer = predictor.ask(sample, needs_image=annotate is not None)
        except EdgeAgentError as error:
            documents.append({"error": str(error), "input": dict(sample.origin)})
        else:
            result = Result(
                device_id=socket.gethostname(),
                pipeline="predict",
                boot_id=boot_id,
                seq=next(numbers),
                captured_at=sample.captured_at,
                clock_synced=clock.synced(),
                model=model.identity,
                task=model.decode.task,
                content=content_of(answer.predictions, model.decode.task),
                input=answer.facts,
                timing=answer.timing,
            )
            documents.append(result.as_dict())
            if annotate is not None and answer.image is not None:
                _annotate(annotate / f"{path.stem}.jpg" if into_folder else annotate, answer.image, answer.predictions)
        if not args.json:
            _show(documents[-1])
    if args.json:
        print(json.dumps(documents, indent=2))
    return 1 if any("error" in document for document in documents) else 0


def _name(path: Path) -> str:
    """`digits` for `digits`, `models/digits/` and `digits.tflite`."""
    path = path if path.name else path.resolve()
    return path.stem if path.suffix in (".tflite", ".onnx", ".zip") else path.name


def _show(document: Mapping[str, Any]) -> None:
    path = document["input"].get("path", "")
    if "error" in document:
        text = document["error"]
        print(printable(text if text.startswith(path) else f"{path}: {text}"), file=sys.stderr)
        return
    print(printable(path))
    for tensor in document.get("tensors", ()):
        print(f"  {_tensor_in_words(tensor)}")
    if "tensors" in document:
        return
    for prediction in document["predictions"]:
        print(f"  {_in_words(prediction)}")
    if not document["predictions"]:
        print("  nothing")


def _tensor_in_words(tensor: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, tensor["shape"])) or "one value"
    values = json.dumps(tensor["values"])
    shown = values if len(values) <= MAX_SHOWN else f"{values[:MAX_SHOWN]}…"
    return printable(f"{tensor['name'] or '(no name)'}: {shape} {tensor['dtype']} {shown}")


def _in_words(prediction: Mapping[str, Any]) -> str:
    parts = []
    if "confidence" in prediction:
        parts.append(f"{prediction['confidence']:7.2%}")
    if "label" in prediction:
        parts.append(printable(prediction["label"]))
    if "value" in prediction:
        parts.append(f"{prediction['value']:.6g}")
    if "region" in prediction:
        parts.append(f"in {printable(prediction['region'])}")
    if "box" in prediction:
        x1, y1, x2, y2 = prediction["box"]
        parts.append(f"from ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f})")
    if "area" in prediction:
        parts.append(f"{prediction['area']} pixels")
    if points := prediction.get("keypoints"):
        more = f" … ({len(points)} points)" if len(points) > MAX_POINTS else ""
        parts.append("at " + " ".join(f"({point[0]:.0f}, {point[1]:.0f})" for point in points[:MAX_POINTS]) + more)
    if "vector" in prediction:
        parts.append(f"vector of {len(prediction['vector'])} numbers")
    return "  ".join(parts)
