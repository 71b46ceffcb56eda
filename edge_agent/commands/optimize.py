"""`models optimize`: a uint8 TFLite model as int8, written only if the results agree and it is faster here."""

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent import settings
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError
from edge_agent.models import golden
from edge_agent.models import model as models
from edge_agent.models.int8 import to_int8
from edge_agent.models.predictor import Predictor
from edge_agent.samples import Prediction, Sample
from edge_agent.sources.images import Images

if TYPE_CHECKING:
    from edge_agent.models.model import Model

COMPARED = ("classification", "detection")
# Fewer pictures are no evidence.
LEAST_PICTURES = 20
# The share of them on which both models must agree.
ENOUGH = 0.99
# Labels whose confidences are so close change places from one kernel of the very same model to another.
TIE = golden.TOLERANCE
ROUNDS, RUNS = 7, 15


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two models agree on the same pictures.

    Attributes:
        pictures: number of pictures.
        same: number of those with the same result: the same top label, or the same objects.
        tied: number of further ones whose new top label was practically tied with the original one.
    """

    pictures: int
    same: int
    tied: int

    @property
    def enough(self) -> bool:
        """Whether one can replace the other."""
        return self.same + self.tied >= ENOUGH * self.pictures


def run(options: settings.Model, samples: Sequence[str], out: Path, *, as_json: bool) -> int:
    """Converts, compares, measures, prints, and writes the model if that is worth it; returns the exit code: 1 if not.

    Args:
        options: of the model.
        samples: pictures: files, folders or patterns.
        out: the file to write.
        as_json: print one JSON document instead of lines.

    Raises:
        ConfigError: the arguments are wrong.
        ModelError: the model can't be converted or compared.
        MissingExtraError: the runtime that knows the format is not installed.
        EdgeAgentError: a picture can't be used, or the file can't be written.
    """
    pictures = _pictures(options.path, samples, out)
    before = _load(options)
    converted = to_int8(options.path.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / out.name
        file.write_bytes(converted)
        after = _load_converted(options, file)
        agreement, (before_ms, after_ms) = _compare(before, after, pictures), _measure(before, after)
    reason = ""
    if not agreement.enough:
        reason = "since its results differ as int8"
    elif after_ms >= before_ms:
        reason = "since it is not faster as int8 on this machine"
    else:
        _write(out, converted)
    if as_json:
        document = {"path": None if reason else str(out), **asdict(agreement)}
        print(json.dumps(document | {"before_ms": before_ms, "after_ms": after_ms}, indent=2))
    else:
        print(f"same result for {agreement.same} of {agreement.pictures} pictures, {agreement.tied} more were tied")
        print(f"{after_ms:.2f} ms instead of {before_ms:.2f} ms on this machine")
    if reason:
        print(f"{options.path}: nothing is written, {reason}", file=sys.stderr)
        return 1
    if not as_json:
        print(f"{out}: written")
    return 0


def _pictures(model: Path, samples: Sequence[str], out: Path) -> list[Sample]:
    """The pictures; all arguments are checked first."""
    if model.suffix != ".tflite" or not model.is_file():
        raise ConfigError([f"{model}: expected a .tflite file"])
    if out.suffix != ".tflite" or out.exists():
        raise ConfigError([f"{out}: expected the name of a .tflite file that is not there yet"])
    pictures = [sample for pattern in samples for sample in Images(pattern).samples(threading.Event())]
    if len(pictures) < LEAST_PICTURES:
        raise ConfigError([f"--samples: expected at least {LEAST_PICTURES} pictures, found {len(pictures)}"])
    return pictures


def _load(options: settings.Model) -> "Model":
    model = models.load(options.path.stem, options, Path.cwd())
    if model.decode.task not in COMPARED:
        raise ModelError(f"{options.path}: only {' and '.join(COMPARED)} can be compared, not {model.decode.task}")
    return model


def _load_converted(options: settings.Model, file: Path) -> "Model":
    try:
        return models.load(file.stem, options.model_copy(update={"path": file}), Path.cwd())
    except ModelError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise ModelError(f"{options.path}: nothing is written, since it can't be used as int8: {reason}") from None


def _compare(before: "Model", after: "Model", pictures: Sequence[Sample]) -> Agreement:
    answers = zip(_answers(before, pictures), _answers(after, pictures), strict=True)
    if before.decode.task == "classification":
        ranks = [_rank(old, new) for old, new in answers]
        return Agreement(len(pictures), ranks.count("same"), ranks.count("tied"))
    same = sum(_same_objects(before.decode.task, old, new) for old, new in answers)
    return Agreement(len(pictures), same, 0)


def _answers(model: "Model", pictures: Sequence[Sample]) -> Iterator[list[Prediction]]:
    road = Predictor(model, None, None)
    for picture in pictures:
        try:
            yield road.ask(picture).predictions
        except EdgeAgentError as error:
            raise EdgeAgentError(f"{picture.origin['path']}: {error}") from None


def _rank(old: Sequence[Prediction], new: Sequence[Prediction]) -> str:
    confidences = {one.class_id: one.confidence or 0.0 for one in old}
    label = new[0].class_id
    if label == old[0].class_id:
        return "same"
    return "tied" if confidences.get(label, -1.0) >= (old[0].confidence or 0.0) - TIE else "other"


def _same_objects(task: str, old: Sequence[Prediction], new: Sequence[Prediction]) -> bool:
    """Whether both results have the same objects, by the tolerances of golden samples."""
    if not any((one.confidence or 0.0) >= golden.LEAST_RECORDED for one in old):
        return not any((one.confidence or 0.0) >= golden.LEAST_RECORDED + TIE for one in new)
    return all(check.right for check in golden.check(golden.record("picture", task, old), new))


def _measure(before: "Model", after: "Model") -> tuple[float, float]:
    """Milliseconds of one inference of each, measured alternately."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for model, found in zip((before, after), times, strict=True):
            inputs = [np.zeros([max(1, size) for size in spec.shape], spec.dtype) for spec in model.engine.inputs]
            for _ in range(RUNS):
                began = time.perf_counter()
                model.engine.run(inputs)
                found.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times[0]), 3), round(statistics.median(times[1]), 3)


def _write(out: Path, content: bytes) -> None:
    try:
        out.write_bytes(content)
    except OSError as error:
        raise EdgeAgentError(f"{out}: can't be written: {error.strerror}") from None
