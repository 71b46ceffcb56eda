"""Makes a value of the digits of a meter, and refuses what a meter can't show: that it falls, or rises too fast.

The wheel of a mechanical counter turns on while the wheel to its right goes from 9 to 0; in between it shows parts of
two digits, and a classifier is unsure. The wheel to the right decides: while it shows 5 to 9, the lower digit counts.
"""

import itertools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.postprocess import persisted
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.meter import Meter

log = logging.getLogger(__name__)

TASK = "meter"
_UNITS = {"m3": "m³", "ft3": "ft³"}
# More unsure digits than this are no reading.
MOST_CARRIED = 3
# The value is written at most this often, in seconds: flash cards wear out.
SAVE_EVERY = 30.0
HALF_TURNED = 5
_DIGITS = "0123456789"

Scores = Mapping[int, float]
"""The confidence of each digit in one window."""


class Last(NamedTuple):
    """The last good value, in units of its last digit, and when it was read, in seconds since the epoch."""

    value: int
    at: float


class MeterReader:
    """Reads one meter. Not thread-safe.

    Args:
        name: of the pipeline.
        options: of the meter.
        file: where the last good value is kept; None: nowhere.
    """

    def __init__(self, name: str, options: Meter, file: Path | None) -> None:
        self._name = name
        self._options = options
        self._file = file
        self._changed, self._saved_at = False, -math.inf
        self._unit = unit_of(options)
        self._held: Last | None = None

    def read(self, predictions: Sequence[Prediction], sample: Sample) -> list[Prediction]:
        """The value, as one prediction; of a refused reading the last good value, with the reason.

        Args:
            predictions: of all windows, several for each; or one for each digit that the model has found.
            sample: where they come from.
        """
        windows = _windows(predictions)
        digits = [_sure(scores, self._options.min_confidence) for scores in windows]
        digits = _resolved(digits, windows, self._options.min_confidence)
        shown = "".join("?" if digit is None else str(digit) for digit in digits)
        confidence = min((max(scores.values(), default=0.0) for scores in windows), default=0.0)
        value, refused = self._judge(digits, sample.captured_at)
        details: dict[str, Any] = {"unit": self._unit, "digits": shown}
        if refused:
            details["refused"] = refused
            value = None if self._last is None else self._last.value
        else:
            details["carried"] = shown.count("?")
            self._accept(value, sample.captured_at)
        scaled = None if value is None else round(value / 10**self._options.decimals, self._options.decimals)
        return [Prediction(None, None, confidence, value=scaled, details=details)]

    def save(self) -> None:
        """Writes the last good value, if it has changed."""
        if self._changed and self._last is not None:
            self._changed, self._saved_at = False, time.monotonic()
            document = {**self._last._asdict(), "digits": self._options.digits, "decimals": self._options.decimals}
            persisted.write(self._file, document, self._name, "the value of its meter")

    @cached_property
    def _kept(self) -> Last | None:
        """Read when it is first needed: after a reload, the pipeline before this one has saved it by then."""
        document = persisted.read(self._file)
        value, at = document.get("value"), document.get("at")
        same = (document.get("digits"), document.get("decimals")) == (self._options.digits, self._options.decimals)
        return Last(value, float(at)) if same and type(value) is int and isinstance(at, int | float) else None

    @property
    def _last(self) -> Last | None:
        return self._held or self._kept

    def _accept(self, value: int | None, at: float) -> None:
        if value is None:
            return
        self._changed |= self._last is None or value != self._last.value
        self._held = Last(value, at)
        if self._changed and time.monotonic() - self._saved_at >= SAVE_EVERY:
            self.save()

    def _judge(self, digits: Sequence[int | None], now: float) -> tuple[int | None, str]:
        """The value, or why it is refused."""
        unsure = [at for at, digit in enumerate(digits) if digit is None]
        if len(digits) != self._options.digits:
            return None, f"{len(digits)} digits"
        if len(unsure) > MOST_CARRIED or (unsure and self._last is None):
            return None, "unsure"
        last, modulus = self._last, 10 ** len(digits)
        if last is None:
            return _number(digits, {}), ""
        most = modulus // 2  # beyond that it has fallen; after the highest value comes 0
        if self._options.max_rate is not None:
            rate = self._options.max_rate * 10**self._options.decimals
            most = min(most, math.ceil(rate * max(0.0, now - last.at) / 3600) + 1)
        fills = (dict(zip(unsure, fill, strict=True)) for fill in itertools.product(range(10), repeat=len(unsure)))
        # How far each value that the sure digits allow is above the last one.
        risen = {(value - last.value) % modulus: value for value in (_number(digits, fill) for fill in fills)}
        least = min(risen)
        if least <= most:
            return risen[least], ""
        return None, "falls" if least > modulus // 2 else "too fast"


def unit_of(options: Meter) -> str:
    """The unit of a meter, as it is written."""
    unit = options.unit or ("kWh" if options.kind == "energy" else "m3")
    return _UNITS.get(unit, unit)


def _windows(predictions: Sequence[Prediction]) -> list[Scores]:
    """The digits' scores, from left to right: by region, or of each box."""
    if any(one.region is not None for one in predictions):
        regions: dict[str, dict[int, float]] = defaultdict(dict)
        for one in predictions:
            scores = regions[one.region or ""]
            if one.name in _DIGITS and one.name:
                scores[int(one.name)] = one.certainty
        return list(regions.values())
    found = [one for one in predictions if one.name in _DIGITS and one.box is not None]
    return [{int(one.name): one.certainty} for one in sorted(found, key=_left)]


def _left(prediction: Prediction) -> float:
    return prediction.box[0] if prediction.box is not None else 0.0


def _sure(scores: Scores, least: float) -> int | None:
    """The digit in a window; None if it is unsure."""
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= least else None


def _resolved(digits: Sequence[int | None], windows: Sequence[Scores], least: float) -> list[int | None]:
    """The digits, those of half-turned wheels decided by the wheel to the right."""
    found = list(digits)
    for at in range(len(found) - 1, -1, -1):
        if found[at] is not None:
            continue
        first, second = sorted(windows[at], key=windows[at].__getitem__, reverse=True)[:2] or (None, None)
        if first is None or second is None or windows[at][first] + windows[at][second] < least:
            continue
        if (first + 1) % 10 == second:
            lower, upper = first, second
        elif (second + 1) % 10 == first:
            lower, upper = second, first
        else:
            continue
        right = found[at + 1] if at + 1 < len(found) else None
        if at + 1 == len(found):
            found[at] = lower  # the last wheel turns all the time
        elif right is not None:
            found[at] = lower if right >= HALF_TURNED else upper
    return found


def _number(digits: Sequence[int | None], fill: Mapping[int, int]) -> int:
    return int("".join(str(fill[at] if digit is None else digit) for at, digit in enumerate(digits)))
