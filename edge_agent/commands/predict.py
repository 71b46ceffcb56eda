"""`predict`: one-off inference on files, by the same steps as in the daemon."""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers, between, duration
from edge_agent.commands.model_arguments import add_model_arguments, model_settings
from edge_agent.errors import EdgeAgentError
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.models.model import Model
    from edge_agent.models.predictor import Answer
    from edge_agent.samples import Prediction, Sample
    from edge_agent.sources.recordings import Given

MAX_ANNOTATED = 20_000_000
ANNOTATED_QUALITY = 90
# Most classes whose predictions of many windows are summed up.
MOST_CLASSES = 1000


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
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="images, videos, WAV files, readings as CSV or JSON, folders of these; `-`: standard input",
    )
    parser.add_argument(
        "--top-k", type=between(1, 1000), metavar="N", help="maximum number of predictions for each input"
    )
    parser.add_argument(
        "--min-confidence", type=between(0.0, 1.0), metavar="C", help="omit predictions below this confidence, 0 to 1"
    )
    parser.add_argument(
        "--every",
        type=duration(0.001, 86400.0),
        metavar="DURATION",
        help="from one frame of a video to the next (1s), or window of sound or readings (its length) to the next",
    )
    parser.add_argument(
        "--annotate", type=Path, metavar="OUT", help="JPEG to draw the predictions into, or a folder for several inputs"
    )
    parser.add_argument("--time", action="store_true", help="show where the time went")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the predictions for each input; returns the exit code: 1 if an input could not be used.

    Raises:
        ConfigError: standard input can't be read.
        ModelError: the model can't be used.
        EdgeAgentError: a picture can't be written.
    """
    from edge_agent.commands import predict_inputs
    from edge_agent.commands.predict_output import show, show_median
    from edge_agent.models import model as models

    predict_inputs.check(args.inputs)
    options = model_settings(args)
    started = time.monotonic()
    model = models.load(_name(options.path), options, Path.cwd())
    loading = (time.monotonic() - started) * 1000
    run_ = _Run(args, model)
    documents: list[dict[str, Any]] = []
    for given in predict_inputs.inputs(args.inputs, model.preprocess, args.every, _note):
        for document in run_.documents(given):
            documents.append(document)
            if not args.json:
                show(document)
    if args.json:
        print(json.dumps(documents, indent=2))
    elif args.time:
        times = [document["time_ms"] for document in documents if "time_ms" in document]
        if len(times) > 1:
            show_median(times)
        print(f"model: loaded and tested in {loading:.0f} ms")
    return 1 if any("error" in document for document in documents) else 0


def _note(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr)


class _Spent:
    """The time that an input took, over all its windows."""

    def __init__(self) -> None:
        from edge_agent.samples import Timing

        self.timing = Timing()
        self._reading = self._decoding = 0.0

    def add(self, answer: "Answer", reading: float) -> None:
        """Adds that of a window, and the milliseconds that reading it took."""
        for key in ("queue", "preprocess", "inference", "postprocess"):
            setattr(self.timing, key, getattr(self.timing, key) + getattr(answer.timing, key))
        self._reading += reading
        self._decoding += answer.decoding

    def as_dict(self) -> dict[str, float]:
        """Milliseconds of each step."""
        from edge_agent.commands.predict_output import STEPS

        timing = self.timing
        preparing = timing.preprocess - self._decoding
        spent = (self._reading, self._decoding, preparing, timing.inference, timing.postprocess)
        return {step: round(value, 2) for step, value in zip(STEPS, spent, strict=True)}


class _Run:
    """What is the same for all inputs of one call.

    Args:
        args: of the command.
        model: that is asked.
    """

    def __init__(self, args: argparse.Namespace, model: "Model") -> None:
        import uuid

        from edge_agent import settings
        from edge_agent.models.predictor import Predictor
        from edge_agent.models.summary import TASKS
        from edge_agent.postprocess.filters import limits
        from edge_agent.system.clock import Clock

        self._model = model
        self._predictor = Predictor(model, args.top_k, args.min_confidence)
        self._of_all_classes = Predictor(model, MOST_CLASSES, 0.0)
        self._sums_up = model.decode.task in TASKS
        stated = settings.Pipeline(
            source=settings.ImagesSource(type="images", path="."),
            model=model.identity["name"],
            top_k=args.top_k,
            min_confidence=args.min_confidence,
        )
        self._limits = limits(stated, model.decode.task)
        self._annotate: Path | None = args.annotate
        self._several = len(args.inputs) > 1 or any(path.is_dir() for path in args.inputs)
        self._times: bool = args.time
        self._boot_id, self._clock, self._numbers = uuid.uuid4().hex[:8], Clock(), itertools.count(1)

    def documents(self, given: "Given") -> Iterator[dict[str, Any]]:
        """One document; of a video one a frame; of a recording that can't be summed up, one a window."""
        from edge_agent.commands.predict_inputs import timed

        samples = timed(given.samples)
        if given.windows and self._sums_up:
            yield self._summed_up(samples)
            return
        for sample, reading in samples:
            try:
                answer = self._predictor.ask(sample, needs_image=self._annotate is not None)
            except EdgeAgentError as error:
                yield {"error": str(error), "input": dict(sample.origin)}
                continue
            if self._annotate is not None and answer.image is not None:
                _annotate(self._place(self._annotate, given.path, sample), answer.image, answer.predictions)
            spent = _Spent()
            spent.add(answer, reading)
            yield self._document(sample, answer.facts, spent, self._content(answer.predictions))

    def _summed_up(self, samples: "Iterator[tuple[Sample, float]]") -> dict[str, Any]:
        """One document for all windows of a recording; it is that of the window if there is only one."""
        from edge_agent.models.summary import Summary

        summary, most, least = Summary(), self._limits.top_k, self._limits.min_confidence
        windows: list[dict[str, Any]] = []
        spent, first = _Spent(), None
        for sample, reading in samples:
            try:
                answer = self._of_all_classes.ask(sample)
            except EdgeAgentError as error:
                return {"error": str(error), "input": dict(sample.origin)}
            begins = sample.origin.get("position_s")
            summary.add(answer.predictions, begins)
            kept = [one for one in answer.predictions if one.confidence is None or one.confidence >= least]
            windows.append(({} if begins is None else {"position_s": begins}) | self._content(kept[:most]))
            spent.add(answer, reading)
            first = first or sample
        if first is None:
            raise EdgeAgentError("internal error: a recording without a window")
        if len(windows) == 1:
            return self._document(first, first.origin, spent, {"predictions": windows[0]["predictions"]})
        facts = {key: value for key, value in first.origin.items() if key != "position_s"}
        content = {"predictions": summary.predictions(most, least), "windows": windows}
        return self._document(first, facts, spent, content)

    def _content(self, predictions: "Sequence[Prediction]") -> dict[str, Any]:
        from edge_agent.samples import content_of

        return content_of(predictions, self._model.decode.task)

    def _document(
        self, sample: "Sample", facts: Mapping[str, Any], spent: "_Spent", content: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A result document.

        Args:
            sample: the input, or the first window of it.
            facts: of the input.
            spent: the time that it took.
            content: what the result says.
        """
        import socket

        from edge_agent.samples import Result

        result = Result(
            device_id=socket.gethostname(),
            pipeline="predict",
            boot_id=self._boot_id,
            seq=next(self._numbers),
            captured_at=sample.captured_at,
            clock_synced=self._clock.synced(),
            model=self._model.identity,
            task=self._model.decode.task,
            content=content,
            input=facts,
            timing=spent.timing,
        )
        return result.as_dict() | ({"time_ms": spent.as_dict()} if self._times else {})

    def _place(self, out: Path, path: Path, sample: "Sample") -> Path:
        """Where the picture of a sample is written."""
        frame = sample.origin.get("frame")
        if frame is not None:
            return out / f"{path.stem}_{frame:06}.jpg"
        return out / f"{path.stem}.jpg" if self._several or out.is_dir() else out


def _name(path: Path) -> str:
    """`digits` for `digits`, `models/digits/` and `digits.tflite`."""
    path = path if path.name else path.resolve()
    return path.stem if path.suffix in (".tflite", ".onnx", ".zip") else path.name
