"""Golden samples: pictures with what a model must say to them, by which it proves itself on a device.

A line states one prediction of one picture; a picture with several objects has several lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.decoders.boxes import iou
from edge_agent.errors import ModelError
from edge_agent.models.bundle import Golden
from edge_agent.samples import Prediction

# Detections that are less certain come and go with the accelerator: they prove nothing.
LEAST_RECORDED = 0.5
MOST_RECORDED = 20
TOLERANCE = 0.05
MIN_OVERLAP = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """One golden line, held against what the model says here.

    Attributes:
        input: the picture, as the bundle names it.
        expected: what the line states, in words.
        found: what the model says, in words.
        right: whether that is the same within the line's tolerances.
    """

    input: str
    expected: str
    found: str
    right: bool


def least_confidence(lines: Sequence[Golden]) -> float:
    """The least confidence of which the lines of a picture speak."""
    return min(_bounds(line)[0] for line in lines)


def check(lines: Sequence[Golden], predictions: Sequence[Prediction]) -> list[Check]:
    """Holds what a model says to a picture against its lines.

    Each line needs a prediction of its own: of its label, as confident as it says and, if it has a box, at that place.
    And the lines are all that there is to say: nothing else is more confident than one of them, but for its tolerance.

    Args:
        lines: all of one picture.
        predictions: of that picture, in pixels of it, the most confident first; at least those of
            `least_confidence`.
    """
    others = list(predictions)
    nearest: list[Prediction | None] = []
    for line in lines:
        match = max(others, key=partial(_likeness, line), default=None)
        nearest.append(match)
        if match is not None and _likeness(line, match) >= line.min_overlap:
            others.remove(match)
    rival = max(others, key=_confidence, default=None)
    return [_held(line, match, rival) for line, match in zip(lines, nearest, strict=True)]


def failed(line: Golden, error: Exception) -> Check:
    """A line of a picture to which the model has no answer."""
    return Check(str(line.input), _stated(line), str(error), right=False)


def record(input_: str, task: str, predictions: Sequence[Prediction]) -> list[Golden]:
    """The lines that state what a model says now.

    Args:
        input_: the picture, as the bundle is to name it.
        task: of the model.
        predictions: of that picture, the most confident first.

    Raises:
        ModelError: there is nothing that a line could state.
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
    return float(iou(np.array([line.box], np.float32), np.array([prediction.box], np.float32))[0, 0])


def _held(line: Golden, nearest: Prediction | None, rival: Prediction | None) -> Check:
    """A line and the prediction that is most like it; the rival is the most confident one that no line states."""
    low, high = _bounds(line)
    if nearest is None:
        found, right = "nothing", False
    else:
        found = _said(nearest)
        right = _likeness(line, nearest) >= line.min_overlap and low <= round(_confidence(nearest), 4) <= high
        if rival and rival is not nearest and _confidence(rival) > _confidence(nearest) + line.tolerance:
            found, right = f"{found}, and {_said(rival)} before it", False
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


def _said(prediction: Prediction) -> str:
    if prediction.confidence is None and prediction.value is not None:
        return f"{prediction.label} (score {prediction.value:.4g})"
    return f"{prediction.label} {_confidence(prediction):.3f}{_place(prediction.box)}"


def _place(box: tuple[float, float, float, float] | None) -> str:
    return f" at [{', '.join(f'{edge:.0f}' for edge in box)}]" if box else ""
