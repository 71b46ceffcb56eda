"""A model as int8, and the proof whether that pays: on samples that were not used to make it, and on this machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.modelfile import inspect
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.quantization.accuracy import Accuracy, compare_accuracy
from edge_agent.quantization.agreement import LEAST, TIE, Agreement, agreement
from edge_agent.quantization.converters import converter_for
from edge_agent.quantization.samples import GivenSample
from edge_agent.quantization.search import Attempt, search
from edge_agent.quantization.speed import Speed, compare_speed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.evaluation.labelled import Dataset
    from edge_agent.models.model import Model
    from edge_agent.models.resolve import ModelSource
    from edge_agent.samples import Prediction

# Fewer samples are no evidence.
LEAST_COMPARED = 20
# More make it slower and no better.
MOST_CALIBRATED = MOST_CHOSEN = 64
MOST_COMPARED = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        source: the converted model, as it would serve.
        attempt: the conversion that was chosen.
        calibrated: number of samples from which the ranges were taken.
        agreement: on other samples.
        speed: of both.
        accuracy: of both on labelled data; None where there is none.
        reason: why the original is to be kept; "" if it pays.
    """

    source: "ModelSource"
    attempt: Attempt
    calibrated: int
    agreement: Agreement
    speed: Speed
    accuracy: Accuracy | None
    reason: str


@dataclass(frozen=True, slots=True)
class Demands:
    """When int8 is accepted.

    Attributes:
        agreement: the share of samples or objects on which both have to agree, 0 to 1; where there are labels, it is
            for the choice of what stays in float alone.
        labelled: data on which int8 must not be worse; None: the agreement decides.
        loss: by how much the measure may be lower there, 0 to 1.
    """

    agreement: float
    labelled: "Dataset | None" = None
    loss: float = 0.0


def quantize(
    source: "ModelSource",
    samples: Sequence[GivenSample],
    demands: Demands,
    folder: Path,
    report: Callable[[Attempt], None],
) -> Outcome:
    """Converts a model, and compares it with the original.

    Args:
        source: the original, which classifies or detects, and has one input.
        samples: a quarter is for calibration, another one helps to choose what stays in float, the rest is to
            compare; all are to compare where a file needs neither. They are read one by one.
        demands: when int8 is accepted.
        folder: for files in between and the result; exists as long as the result is used.
        report: is called with each conversion that was tried.

    Raises:
        ModelError: the model can't be converted or run, or there are too few samples.
        MissingExtraError: a tool or a runtime is not installed.
        EdgeAgentError: a sample can't be used.
    """
    with _about(source, folder):
        converter = converter_for(source.file, folder)
    calibration, choice, rest = split(samples, chooses=bool(converter.operators))
    original = models.load_qualified(source.file.path.stem, source)
    try:
        chosen_by = [*calibration, *choice]
        known = list(_answers(original, chosen_by))

        def judge(content: bytes) -> Agreement:
            try:
                tried = models.load_unqualified("tried", _with_file(source, content, folder))
            except ModelError:  # not every mixture makes a file that runs
                return replace(agreement(original.task, known, known), same=0, tied=0)
            try:
                return agreement(original.task, known, _answers(tried, chosen_by))
            finally:
                tried.close()

        with _about(source, folder):
            converter.calibrate(_tensors(original, calibration))
            attempt = search(converter, judge, demands.agreement, report)
            made = _with_file(source, attempt.content, folder)
            quantized = models.load_qualified(source.file.path.stem, made)
        try:
            found = agreement(original.task, _answers(original, rest), _answers(quantized, rest))
            data = demands.labelled
            accuracy = None if data is None else compare_accuracy(original, quantized, data)
            speed = compare_speed(original, quantized)
        finally:
            quantized.close()
    finally:
        original.close()
    reason = _reason(found, speed, accuracy, demands)
    return Outcome(made, attempt, len(calibration), found, speed, accuracy, reason)


def split(
    samples: Sequence[GivenSample], *, chooses: bool
) -> tuple[list[GivenSample], list[GivenSample], list[GivenSample]]:
    """Those to calibrate with, to choose by, and to compare on: none is in two of them.

    Raises:
        ModelError: they are too few.
    """
    needed = LEAST_COMPARED * (2 if chooses else 1)
    if len(samples) < needed:
        raise ModelError(f"--samples: expected at least {needed} samples, found {len(samples)}")
    if not chooses:
        return [], [], list(samples[:MOST_COMPARED])
    # In turns, since neighbours in a folder are often alike.
    compared = [sample for number, sample in enumerate(samples) if number % 2]
    return list(samples[::4][:MOST_CALIBRATED]), list(samples[2::4][:MOST_CHOSEN]), compared[:MOST_COMPARED]


def _with_file(source: "ModelSource", content: bytes, folder: Path) -> "ModelSource":
    """The same model in another file, without golden samples and files for accelerators: those are of the original."""
    file = folder / f"int8.{source.file.format}"
    file.write_bytes(content)
    return replace(source, file=inspect.read(file), golden=(), compiled={}, folder=folder)


@contextmanager
def _about(source: "ModelSource", folder: Path) -> Iterator[None]:
    """Errors name the original, not files in between."""
    try:
        yield
    except ModelError as error:
        said = str(error).removeprefix(f"{folder / 'int8'}.{source.file.format}: ")
        raise ModelError(f"{source.file.path}: nothing is written: {said}") from error


def _tensors(model: "Model", samples: Sequence[GivenSample]) -> "Iterator[NDArray[Any]]":
    predictor = Predictor(model, None, None)
    for sample in samples:
        with _named(sample.path):
            tensor = predictor.tensor(sample.read())
        yield tensor


def _answers(model: "Model", samples: Sequence[GivenSample]) -> "Iterator[list[Prediction]]":
    least = None if model.task == "classification" else LEAST - TIE
    predictor = Predictor(model, None, least)
    for sample in samples:
        with _named(sample.path):
            answer = predictor.ask(sample.read()).predictions
        yield answer


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except EdgeAgentError as error:
        raise EdgeAgentError(f"{path}: {error}") from None


def _reason(found: Agreement, speed: Speed, accuracy: Accuracy | None, demands: Demands) -> str:
    if accuracy is not None:
        if accuracy.worse(demands.loss):
            before = f"{accuracy.original:.3f} before"
            return f"since it is less right as int8: {accuracy.metric} {accuracy.value:.3f}, {before}"
    elif found.compared < LEAST_COMPARED:
        few = f"only {found.compared} {found.unit} could be compared, of at least {LEAST_COMPARED}"
        return f"since {few}: take more samples"
    elif found.share < demands.agreement:
        wanted = f"{demands.agreement:.1%} are asked for"
        return f"since its results differ as int8: {found.share:.1%} agree, where {wanted}"
    return "" if speed.faster else "since it is not faster as int8 on this machine"
