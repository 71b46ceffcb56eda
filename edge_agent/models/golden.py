"""Golden samples: pictures with the predictions that a model must make of them.

A line states one prediction of one picture; a picture with several objects has several lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.decoders.boxes import overlap
from edge_agent.errors import ModelError
from edge_agent.models.bundle import Golden
from edge_agent.samples import Prediction

# Detections below this confidence come and go with the accelerator: they are not recorded.
LEAST_RECORDED = 0.5
MOST_RECORDED = 20
TOLERANCE = 0.05
MIN_OVERLAP = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """One line, compared with the predictions of a model.

    Attributes:
        input: the picture, as the bundle names it.
        expected: the prediction that the line states, in words.
        found: the prediction of the model, in words.
        right: whether they are the same within the line's tolerances.
    """

    input: str
    expected: str
    found: str
    right: bool


def least_confidence(lines: Sequence[Golden]) -> float:
    """The least confidence that a line of a picture accepts."""
    return min(_bounds(line)[0] for line in lines)


def check(lines: Sequence[Golden], predictions: Sequence[Prediction]) -> list[Check]:
    """Compares the predictions of a picture with its lines.

    Each line needs a prediction of its own, with its label, its confidence and, if it has a box, that place. No other
    prediction may be more confident than that of a line, except within the line's tolerance.

    Args:
        lines: all lines of the picture.
        predictions: of the picture, boxes in its pixels, the most confident first; all from `least_confidence` up.
    """
    others = list(predictions)
    nearest: list[Prediction | None] = []
    for line in lines:
        match = max(others, key=partial(_likeness, line), default=None)
        nearest.append(match)
        if match is not None and _likeness(line, match) >= line.min_overlap:
            others.remove(match)
    rival = max(others, key=_confidence, default=None)
    return [_compare(line, match, rival) for line, match in zip(lines, nearest, strict=True)]


def failed(line: Golden, error: Exception) -> Check:
    """The check of a line whose picture the model could not process."""
    return Check(str(line.input), _stated(line), str(error), right=False)


def record(input_: str, task: str, predictions: Sequence[Prediction]) -> list[Golden]:
    """The lines that state the predictions of a model.

    Args:
        input_: the picture, as the bundle will name it.
        task: of the model.
        predictions: of that picture, the most confident first.

    Raises:
        ModelError: there are none that a line could state.
    """
    if task == "anomaly" and (labels := [one.label for one in predictions if one.label is not None]):
        return [Golden(input=Path(input_), label=label) for label in labels]
    found = [one for one in predictions if one.label is not None and one.confidence is not None]
    if any(one.box for one in found):
        found = [one for one in found if one.box and _confidence(one) >= LEAST_RECORDED][:MOST_RECORDED]
    elif task == "classification":
        found = found[:1]
    elif predictions:
        raise ModelError(f"golden samples are recorded of labels and boxes, not of {task}: leave --golden out")
    if not found:
        raise ModelError(f"{input_}: can't be a golden sample: the model finds nothing there with {LEAST_RECORDED:.0%}")
    return [Golden.model_validate({"input": input_, **_facts(one)}) for one in found]


def _facts(one: Prediction) -> dict[str, Any]:
    facts = {"label": one.label, "confidence": round(_confidence(one), 4), "tolerance": TOLERANCE}
    if one.box is None:
        return facts
    return facts | {"box": [round(edge, 1) for edge in one.box], "min_overlap": MIN_OVERLAP}


def _likeness(line: Golden, prediction: Prediction) -> float:
    """Overlap of the boxes (IoU, 0 to 1), or 1 where the line has none; -1 for another label."""
    if prediction.label != line.label:
        return -1.0
    if line.box is None:
        return 1.0
    if prediction.box is None:
        return -1.0
    return overlap(line.box, prediction.box)


def _compare(line: Golden, nearest: Prediction | None, rival: Prediction | None) -> Check:
    """The check of a line.

    Args:
        line: one of the picture.
        nearest: the prediction that is most like it.
        rival: the most confident prediction that no line states.
    """
    low, high = _bounds(line)
    if nearest is None:
        found, right = "nothing", False
    else:
        found = _describe(nearest)
        right = _likeness(line, nearest) >= line.min_overlap and low <= round(_confidence(nearest), 4) <= high
        if rival and rival is not nearest and _confidence(rival) > _confidence(nearest) + line.tolerance:
            found, right = f"{found}, and {_describe(rival)} before it", False
    return Check(str(line.input), _stated(line), found, right)


def _bounds(line: Golden) -> tuple[float, float]:
    if line.confidence is None:
        return line.min_confidence, 1.0
    return max(line.min_confidence, line.confidence - line.tolerance), min(1.0, line.confidence + line.tolerance)


def _confidence(prediction: Prediction) -> float:
    return prediction.confidence or 0.0


def _stated(line: Golden) -> str:
    low, high = _bounds(line)
    if (low, high) == (0.0, 1.0):
        return f"{line.label}{_place(line.box)}"
    confidence = f"{low:.3f} to {high:.3f}" if high < 1 else f"at least {low:.3f}"
    return f"{line.label} {confidence}{_place(line.box)}"


def _describe(prediction: Prediction) -> str:
    if prediction.confidence is None and prediction.value is not None:
        return f"{prediction.label} (score {prediction.value:.4g})"
    return f"{prediction.label} {_confidence(prediction):.3f}{_place(prediction.box)}"


def _place(box: tuple[float, float, float, float] | None) -> str:
    return f" at [{', '.join(f'{edge:.0f}' for edge in box)}]" if box else ""
