"""Compares a model on an accelerator with the same model on the CPU: the answers, and the time of an inference."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.engines import TensorSpec
from edge_agent.errors import InputError, ModelError
from edge_agent.models import golden
from edge_agent.models.bundle import Golden
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.prepare import preparation
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.timeseries.numbers import SeriesPreprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.models.model import Model
    from edge_agent.models.resolve import ModelSource

# Each of the two is timed with up to this many inferences, for up to this many seconds.
RUNS, SECONDS = 20, 1.0
SEED = 8
# Synthetic inputs on which a rewritten file is compared with the original, and on how many it may be further off.
MADE_UP, FEW = 16, 1
LIMITS = Limits(top_k=100, min_confidence=0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        speed_up: how many times as fast as the CPU the accelerator is (median of single inferences).
        disagreement: the first input with different answers, in words; "" if there is none.
    """

    speed_up: float
    disagreement: str


def compare(model: "Model", on_cpu: "Model", source: "ModelSource") -> Comparison:
    """Runs both on the inputs of the bundle's golden samples, or, where there are none, on a synthetic one.

    Predictions with labels are compared as golden samples are. Other outputs may differ by up to the tolerance times
    the range of the CPU's output.

    Args:
        model: on the accelerator.
        on_cpu: the same model on the CPU.
        source: what both were loaded from.

    Raises:
        ModelError: one of the two fails.
    """
    return Comparison(
        round(_median_seconds(on_cpu) / _median_seconds(model), 2),
        _of_golden(model, on_cpu, source)
        if source.golden
        else _named("a made-up input", _difference(model, on_cpu, synthetic_sample(model))),
    )


def compare_files(model: "Model", original: "Model", source: "ModelSource") -> str:
    """How the answers of a rewritten file differ from those of the original one, in words; "" if they agree.

    They have to agree on the inputs of all golden samples. Where there are none, no tolerance is stated: then on all
    but `FEW` of some synthetic inputs, and on those within twice the tolerance.

    Args:
        model: in the rewritten file.
        original: the same model in its original file.
        source: what it was loaded from.

    Raises:
        ModelError: one of the two fails.
    """
    if source.golden:
        return _of_golden(model, original, source)
    few = list[str]()
    for number in range(MADE_UP):
        sample = synthetic_sample(model, SEED + number)
        if difference := _difference(model, original, sample):
            few.append(difference)
            far = _difference(model, original, sample, tolerance=2 * golden.TOLERANCE)
            if far or len(few) > FEW:
                return f"made-up input {number + 1} of {MADE_UP}: {difference}"
    return ""


def _of_golden(model: "Model", on_cpu: "Model", source: "ModelSource") -> str:
    """The first difference on the inputs of the golden samples, in words; "" if there is none."""
    lines_of: dict[str, list[Golden]] = {}
    for line in source.golden:
        lines_of.setdefault(str(line.input), []).append(line)
    disagreement = ""
    for name, lines in lines_of.items():
        tolerance = max(line.tolerance for line in lines)
        min_overlap = min(line.min_overlap for line in lines)
        try:
            difference = _difference(model, on_cpu, read_file(source.folder / name), tolerance, min_overlap)
        except InputError:
            continue  # the check of the golden samples reports it
        disagreement = disagreement or _named(name, difference)
    return disagreement


def _named(name: str, difference: str) -> str:
    return difference and f"{name}: {difference}"


def _difference(
    model: "Model",
    on_cpu: "Model",
    sample: Sample,
    tolerance: float = golden.TOLERANCE,
    min_overlap: float = golden.MIN_OVERLAP,
) -> str:
    source = settings.ImagesSource(type="images", path=".")
    options, task = settings.Pipeline(source=source, model="it"), model.decode.task
    # Files for different accelerators may take the picture in different forms.
    prepared = [preparation(one.preprocess, options)(sample, needs_image=False) for one in (model, on_cpu)]
    here, there = (one.infer(what.tensor) for one, what in zip((model, on_cpu), prepared, strict=True))
    if task not in ("classification", "detection"):
        if len(here) != len(there) or model.preprocess != on_cpu.preprocess:
            return ""  # the outputs of files that were made differently can't be compared number by number
        return _of_outputs(here, there, on_cpu.engine.outputs, tolerance)
    ours, theirs = (
        [
            found if found.label is not None else replace(found, label=f"class {found.class_id}")
            for found in one.predictions(outputs, what.placements, LIMITS)
        ]
        for one, outputs, what in zip((model, on_cpu), (here, there), prepared, strict=True)
    )
    return _of_predictions(task, ours, theirs, tolerance, min_overlap)


def _of_predictions(
    task: str, here: list[Prediction], there: list[Prediction], tolerance: float, min_overlap: float
) -> str:
    try:
        lines = golden.record("it", task, there)
    except ModelError:  # the CPU finds nothing
        bound = golden.LEAST_RECORDED + tolerance
        found = next((one for one in here if (one.confidence or 0) > bound), None)
        return f"nothing on the CPU, {found.label} {found.confidence:.3f} here" if found else ""
    lines = [line.model_copy(update={"tolerance": tolerance, "min_overlap": min_overlap}) for line in lines]
    checks = golden.check(lines, here)
    return next((f"{one.expected} on the CPU, {one.found} here" for one in checks if not one.right), "")


def _of_outputs(
    here: Sequence["NDArray[Any]"], there: Sequence["NDArray[Any]"], specs: Sequence[TensorSpec], tolerance: float
) -> str:
    for ours, theirs, spec in zip(here, there, specs, strict=True):
        if ours.dtype.kind not in "iufb":
            continue  # texts
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if a.shape != b.shape:
            return f"output {spec.name} has shape {b.shape} on the CPU, {a.shape} here"
        if not b.size:
            continue
        most, allowed = float(np.abs(a - b).max()), tolerance * float(np.ptp(b))
        if not most <= max(allowed, 1.0 if spec.scale else 1e-6):  # one quantisation step is allowed, NaN is not
            return f"output {spec.name} differs by up to {most:.3g} from that on the CPU, where {allowed:.3g} may be"
    return ""


def synthetic_sample(model: "Model", seed: int = SEED) -> Sample:
    """An input that is the same for each seed: a picture of coloured blots, (480, 640, 3), or readings of noise."""
    noise = np.random.default_rng(seed)
    if isinstance(model.preprocess, SeriesPreprocess):
        values = noise.random(model.preprocess.shape, np.float32)
        data: Any = Series(np.rint(values) if model.preprocess.takes_whole_numbers else values)
    else:
        coarse = noise.integers(0, 256, (12, 16, 3), np.uint8)
        data = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={})


def extreme_samples() -> list[Sample]:
    """A black and a white picture."""
    pictures = (np.full((480, 640, 3), value, np.uint8) for value in (0, 255))
    return [Sample(picture, captured_at=time.time(), captured=time.monotonic(), origin={}) for picture in pictures]


def _median_seconds(model: "Model") -> float:
    """The median time of an inference; the model is run once more before that."""
    tensor, _ = model.preprocess.blank(1)
    model.infer(tensor)
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < RUNS and (not times or time.perf_counter() < until):
        began = time.perf_counter()
        model.infer(tensor)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
