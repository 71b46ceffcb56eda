"""Whether a model's answers can be right at all: the same for the same input, and possible."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.errors import InputError, ModelError
from edge_agent.models import comparison
from edge_agent.preprocess.prepare import preparation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.models.model import Model
    from edge_agent.samples import Prediction

# Parts of an output's range by which two runs may differ: threads may add numbers up in another order.
TOLERANCE = 1e-3
# The input is noise, in which a detector finds next to nothing.
MAX_CERTAIN = 50
CERTAIN, WHOLE = 0.9995, 0.98
_MIN_CLASSES = 3
_ALL = Limits(top_k=1000, min_confidence=0.5, max_overlap=1.0)
_EVERY_CLASS = Limits(top_k=100_000, min_confidence=0.0)
_CAUSES = (
    "the runtime computes the model wrongly, or what is stated about it is wrong: export it again, as float32 or as "
    "full integer, or check decoder, output and preprocess.normalize"
)


def check(model: "Model") -> None:
    """Runs a model twice on a made-up input, and looks at its answer.

    Raises:
        ModelError: its outputs differ between the runs though it keeps no state, or are impossible.
    """
    source = settings.ImagesSource(type="images", path=".")
    prepare = preparation(model.preprocess, settings.Pipeline(source=source, model="it"))
    prepared = prepare(comparison.synthetic_sample(model), needs_image=False)
    first, second = model.infer(prepared.tensor), model.infer(prepared.tensor)
    if not model.keeps_state and (difference := _difference(second, first)):
        raise ModelError(
            f"it gives another answer each time for the same input ({difference}): the runtime computes it wrongly, or "
            "it draws random numbers: export it again, in evaluation mode"
        )
    limits = _EVERY_CLASS if model.task == "classification" else _ALL
    try:
        predictions = model.predictions(first, prepared.placements, limits)
    except InputError as error:
        if not model.takes_pictures:
            return  # readings of noise may be outside of the model's range
        raise ModelError(f"{error}, for a picture of noise: {_CAUSES}") from error
    if problem := impossible(predictions, model.task, prepared.size):
        raise ModelError(f"its answer is impossible: {problem}: {_CAUSES}")


def check_extremes(model: "Model") -> None:
    """Runs a model on pictures for which one that sizes tensors by what it sees takes the most memory.

    What else fails on such pictures fails on them in service as well, and is an error of those inputs.

    Raises:
        ModelError: it gets no memory.
    """
    if not model.takes_pictures or model.keeps_state:
        return
    source = settings.ImagesSource(type="images", path=".")
    prepare = preparation(model.preprocess, settings.Pipeline(source=source, model="it"))
    for sample in comparison.extreme_samples():
        try:
            model.infer(prepare(sample, needs_image=False).tensor)
        except InputError:
            continue
        except ModelError as error:
            if lacks_memory(error):
                raise


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that has led to it, says that there is no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or re.search("bad.alloc|allocate memory", str(error)):
            return True
        error = error.__cause__
    return False


def _difference(here: "Sequence[NDArray[Any]]", there: "Sequence[NDArray[Any]]") -> str:
    """Where two runs differ by more than the order of additions explains, in words; "" if they do not."""
    for number, (ours, theirs) in enumerate(zip(here, there, strict=True)):
        if ours.shape != theirs.shape:
            return f"output {number} has the shape {list(theirs.shape)}, then {list(ours.shape)}"
        if not ours.size or ours.dtype.kind not in "iuf":
            continue
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if np.array_equal(a, b, equal_nan=True):
            continue
        allowed = max(TOLERANCE * float(np.ptp(b)), TOLERANCE * float(np.abs(b).max()), _step(ours))
        if not (most := float(np.abs(a - b).max())) <= allowed:
            return f"output {number} differs by up to {most:.3g}"
    return ""


def _step(stored: "NDArray[Any]") -> float:
    """By how much equal values may differ in any case: by one step of a quantised type."""
    return 1.0 if stored.dtype.itemsize == 1 else 1e-6


def impossible(predictions: "Sequence[Prediction]", task: str, size: tuple[int, int]) -> str:
    """What is impossible about the answer to noise, in words; "" if nothing is.

    Args:
        predictions: without non-maximum suppression.
        task: of the model.
        size: width, height of the picture in pixels.
    """
    certain = sum((one.confidence or 0) >= CERTAIN for one in predictions)
    if task == "classification":
        every = certain == len(predictions) >= _MIN_CLASSES
        return f"each of its {certain} classes has the score 1.0" if every else ""
    boxes = [one.box for one in predictions if one.box is not None]
    if boxes and certain >= MAX_CERTAIN:
        return f"in a picture of noise it finds {certain} objects with the score 1.0"
    area = WHOLE * size[0] * size[1]
    whole = sum((x2 - x1) * (y2 - y1) >= area for x1, y1, x2, y2 in boxes)
    return f"in a picture of noise it finds {whole} objects as large as the picture" if whole >= MAX_CERTAIN else ""
