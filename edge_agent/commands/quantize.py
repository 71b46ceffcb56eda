"""`models quantize`: a model as int8, written only if the results agree and it is faster here."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.model_arguments import add_model_arguments, model_settings
from edge_agent.system.hardware import machine_name
from edge_agent.system.units import format_size

if TYPE_CHECKING:
    from edge_agent.models.bundle import Quantized
    from edge_agent.models.resolve import ModelSource
    from edge_agent.quantization.proof import Outcome
    from edge_agent.quantization.search import Attempt

# The share on which both models must agree.
ENOUGH = 0.95
# By how much less right it may be, where there are labels.
LOSS = 0.02


def add_action(actions: Subparsers) -> None:
    """Adds the action `quantize` to those of `models`."""
    parser = actions.add_parser("quantize", help="make an int8 model of a float32 or uint8 one, if that pays")
    add_model_arguments(parser)
    parser.add_argument(
        "--samples",
        nargs="+",
        required=True,
        metavar="SAMPLES",
        help="images or recordings (WAV, CSV, JSON) as the model will get them, folders, or stores of kept samples: "
        "some to convert with, the others to compare both on",
    )
    parser.add_argument(
        "--agreement",
        type=between(0.5, 1.0),
        default=ENOUGH,
        metavar="SHARE",
        help=f"the share of samples or objects on which both must agree ({ENOUGH})",
    )
    parser.add_argument(
        "--labelled", type=Path, metavar="DATA", help="data on which int8 must be as right, as for `evaluate`"
    )
    parser.add_argument(
        "--loss",
        type=between(0.0, 1.0),
        default=LOSS,
        metavar="SHARE",
        help=f"by how much its accuracy may be lower there ({LOSS})",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="BUNDLE", help="folder to make, or a .zip (MODEL-int8)")


def run(args: argparse.Namespace) -> int:
    """Converts, compares, measures, prints, and writes a bundle if that is worth it; returns the exit code: 1 if not.

    Raises:
        ConfigError: the arguments are wrong.
        ModelError: the model can't be converted or compared.
        MissingExtraError: a tool or a runtime is not installed.
        EdgeAgentError: a sample can't be used, or the bundle can't be written.
    """
    from edge_agent.errors import ConfigError, ModelError
    from edge_agent.evaluation.datasets import open_dataset
    from edge_agent.models.io_spec import derive
    from edge_agent.models.pack import About, MadeFrom, pack_source
    from edge_agent.models.resolve import resolve_model
    from edge_agent.quantization.agreement import COMPARED
    from edge_agent.quantization.proof import Demands, quantize
    from edge_agent.quantization.samples import samples_of

    options = model_settings(args)
    source = resolve_model(options, Path.cwd())
    out = args.out or Path(f"{_name(options.path)}-int8")
    if out.exists():
        raise ConfigError([f"{out}: is there already: remove it, or name another place with --out"])
    spec = derive(source.file, source.stated)
    if spec.task not in COMPARED:
        raise ModelError(f"{source.file.path}: only {' and '.join(COMPARED)} can be compared, not {spec.task}")
    if len(source.file.inputs) != 1 or spec.keeps_state:
        found = "keeps a state" if spec.keeps_state else f"has {len(source.file.inputs)} inputs"
        raise ModelError(f"{source.file.path}: expected a model with one input, and without a state; it {found}")
    labelled = None if args.labelled is None else open_dataset(args.labelled)
    samples = samples_of(args.samples, spec.preprocess)

    def report(attempt: "Attempt") -> None:
        if not args.json and attempt.agreement.compared:
            agree = attempt.agreement.same + attempt.agreement.tied
            print(f"in float: {attempt.kept}: {agree} of {attempt.agreement.compared} {attempt.agreement.unit} agree")

    with tempfile.TemporaryDirectory() as folder:
        outcome = quantize(source, samples, Demands(args.agreement, labelled, args.loss), Path(folder), report)
        if not outcome.reason:
            about = About(_name(options.path), source.version, "")
            pack_source(outcome.source, about, [], out, MadeFrom(source.file, _figures(outcome, source.file.path)))
    _show(outcome, source, out, as_json=args.json)
    if outcome.reason:
        print(f"{source.file.path}: nothing is written, {outcome.reason}", file=sys.stderr)
    return 1 if outcome.reason else 0


def _name(path: Path) -> str:
    path = path if path.name else path.resolve()
    return path.stem if path.suffix in (".tflite", ".onnx", ".zip") else path.name


def _figures(outcome: "Outcome", original: Path) -> "Quantized":
    from edge_agent.models.bundle import Quantized

    agreement, speed = outcome.agreement, outcome.speed
    return Quantized(
        original=Path("original") / original.name,
        machine=machine_name(),
        original_ms=speed.original_ms,
        ms=speed.ms,
        compared=agreement.compared,
        same=agreement.same,
        tied=agreement.tied,
        calibrated=outcome.calibrated,
        in_float=len(outcome.attempt.in_float),
        accuracy=outcome.accuracy and outcome.accuracy.value,
        original_accuracy=outcome.accuracy and outcome.accuracy.original,
    )


def _show(outcome: "Outcome", source: "ModelSource", out: Path, *, as_json: bool) -> None:
    agreement, speed = outcome.agreement, outcome.speed
    before, after = source.file.total_size, outcome.source.file.total_size
    if as_json:
        document = {
            "path": None if outcome.reason else str(out),
            "reason": outcome.reason or None,
            **asdict(agreement),
            "original_ms": speed.original_ms,
            "ms": speed.ms,
            "original_size": before,
            "size": after,
            "calibrated": outcome.calibrated,
            "kept_in_float": outcome.attempt.kept,
            "accuracy": outcome.accuracy and asdict(outcome.accuracy),
        }
        print(json.dumps(document, indent=2))
        return
    print(f"same result for {agreement.same} of {agreement.compared} {agreement.unit}, {agreement.tied} more were tied")
    if (right := outcome.accuracy) is not None:
        low, high = right.interval
        print(
            f"{right.metric} {right.value:.3f} instead of {right.original:.3f} on {right.samples} labelled samples "
            f"(difference {low:+.3f} to {high:+.3f})"
        )
    print(f"{speed.ms:.2f} ms instead of {speed.original_ms:.2f} ms on this machine")
    print(f"{format_size(after)} instead of {format_size(before)}")
    if not outcome.reason:
        print(f"{out}: written")
