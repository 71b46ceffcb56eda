"""Labelled data that a bundle carries: how right its model is on them, here, and whether that is enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import ConfigError, ModelError
from edge_agent.evaluation.datasets import open_dataset
from edge_agent.evaluation.judging import Options
from edge_agent.evaluation.labelled import Dataset
from edge_agent.evaluation.report import LESS_IS_BETTER, rounded
from edge_agent.evaluation.run import Limits, Run, evaluate, evaluate_language
from edge_agent.evaluation.zipped import ZIP
from edge_agent.modelfile import gate
from edge_agent.models.bundle import MANIFEST, Required
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model, load_unqualified
from edge_agent.models.resolve import ModelSource

MAX_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Requirement:
    """One measure that a bundle requires.

    Attributes:
        metric: its name.
        required: the least value, or of an error the largest.
        found: the value here.
    """

    metric: str
    required: float
    found: float

    @property
    def is_met(self) -> bool:
        """Whether the model is right enough."""
        if self.metric in LESS_IS_BETTER:
            return self.found <= self.required
        return self.found >= self.required

    def describe(self) -> str:
        """In words: `top1 0.8123 of at least 0.85`."""
        bound = "at most" if self.metric in LESS_IS_BETTER else "at least"
        return f"{self.metric} {self.found:.4g} of {bound} {self.required:g}"


class _Watch:
    """Lets the caller end it, by an exception, between two samples."""

    stopping = False

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def done(self, samples: int) -> None:
        """See `Progress`."""
        del samples
        self._step()


def check(
    model: Model, required: Required, step: Callable[[], None] = lambda: None, folder: Path | None = None
) -> list[Requirement]:
    """Evaluates a model on the data in a bundle.

    Args:
        model: loaded.
        required: what the bundle states as `evaluation`.
        step: called after each sample; what it raises ends the evaluation.
        folder: of the bundle; None: it is the model's own.

    Returns:
        Each measure that is required, in the bundle's order.

    Raises:
        ModelError: the data can't be read, do not fit the model, lie outside of the bundle, or a measure is unknown.
    """
    folder, watch = folder or model.source.folder, _Watch(step)
    return _measured(folder, required, lambda data: evaluate(model, data, Options(), Limits(), watch, 0))


def check_language(model: LanguageModel, required: Required) -> list[Requirement]:
    """Evaluates a language model on the requests in its bundle: see `check`."""
    folder, watch = model.source.folder or model.source.path, _Watch(lambda: None)
    return _measured(folder, required, lambda data: evaluate_language(model, data, watch, 0))


def _measured(folder: Path, required: Required, run_on: Callable[[Dataset], Run]) -> list[Requirement]:
    where = f"{folder / MANIFEST}: evaluation"
    if required.data.is_absolute() or ".." in required.data.parts:
        raise ModelError(f"{where}.data: {required.data} lies outside of the bundle")
    if required.data.suffix.lower() == ZIP:
        raise ModelError(f"{where}.data: {required.data} is an archive: unpack it into the bundle")
    try:
        gate.check_folder(folder)  # no links lead out of it
        dataset = open_dataset(folder / required.data)
        outside = next((one.path for one in dataset if one.path and not _is_inside(one.path, folder)), None)
        if outside is not None or len(dataset) > MAX_SAMPLES:
            what = f"{outside} lies outside of the bundle" if outside else f"more than {MAX_SAMPLES} samples"
            raise ModelError(f"{where}.data: {what}")
        run = run_on(dataset)
    except ConfigError as error:
        raise ModelError(f"{where}: {'; '.join(error.problems)}") from None
    if run.failures:
        name, reason = run.failures[0]
        raise ModelError(f"{where}: {reason if reason.startswith(name) else f'{name}: {reason}'}")
    found = rounded(run.judge.statistic(np.ones(len(run.judge.outcomes))))
    unknown = next((metric for metric in required.require if found.get(metric) is None), None)
    if unknown is not None:
        raise ModelError(f"{where}.require: there is no measure {unknown!r} for it; there are {', '.join(found)}")
    return [Requirement(metric, least, found[metric]) for metric, least in required.require.items()]


def check_source(source: ModelSource, data_of: ModelSource | None = None) -> list[Requirement]:
    """Loads a model that has passed its self-test, and evaluates it as `check` does; [] without `evaluation`.

    Args:
        source: the model.
        data_of: the bundle that has the data; None: its own.

    Raises:
        ModelError: see `check`.
    """
    data_of = data_of or source
    if data_of.evaluation is None:
        return []
    model = load_unqualified("evaluation", source)
    try:
        return check(model, data_of.evaluation, folder=data_of.folder)
    finally:
        model.close()


def refusal(found: Sequence[Requirement]) -> str:
    """Why a model is not taken, in words; "" if it is right enough."""
    unmet = [one.describe() for one in found if not one.is_met]
    return f"it is not right enough here: {', '.join(unmet)}" if unmet else ""


def worse(new: Sequence[Requirement], old: Sequence[Requirement], margin: float) -> str:
    """In which measures a new version is worse than the old one on the same data, in words; "" if in none.

    Args:
        new: what the new version was found to be.
        old: the same measures of the old one.
        margin: by how much less a measure may be; of an error, by which share of it larger.
    """
    lost = [
        f"{after.metric} {after.found:.4g}, {before.found:.4g} before"
        for after, before in zip(new, old, strict=True)
        if (
            after.found > before.found * (1 + margin)
            if after.metric in LESS_IS_BETTER
            else after.found < before.found - margin
        )
    ]
    return ", ".join(lost)


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
