"""Runs combinations of settings on pictures, on the stages that serve, each distinct input only once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.decoders import Limits, real_values
from edge_agent.decoders.classification import Classification, softmax
from edge_agent.fitting.combinations import Combination
from edge_agent.fitting.judge import LEAST_CONFIDENCE
from edge_agent.models import model as models
from edge_agent.models.bound_io import BoundIO
from edge_agent.models.model import Model
from edge_agent.models.stages import Stages
from edge_agent.settings.models import Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_agent.models.resolve import ModelSource
    from edge_agent.samples import Prediction, Sample

_MOST = 1000
_ROUNDING = 1e-2
_PIPELINE = settings.Pipeline(source=settings.ImagesSource(type="images", path="."), model="fit")


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes out for a sample.

    Attributes:
        predictions: the most confident first; of a classifier with confidences for all classes: none.
        confidences: of such a classifier, (classes,), 0 to 1.
        size: width, height of the picture in pixels.
    """

    predictions: "Sequence[Prediction]"
    confidences: "NDArray[np.float32] | None"
    size: tuple[int, int]


class Runner:
    """The model with each of its combinations; one engine for all.

    Args:
        source: the model, resolved.
        combinations: of its settings.

    Raises:
        ModelError: the runtime refuses it.
    """

    def __init__(self, source: "ModelSource", combinations: Sequence[Combination]) -> None:
        self._first = models.load_unqualified("fit", replace(source, stated=combinations[0].stated, golden=()))
        self._stages = {}
        for one in combinations:
            io = BoundIO.bind(one.spec, self._first.engine_for(1))
            model = Model("fit", replace(source, stated=one.stated), io, self._first.engines)
            self._stages[id(one)] = Stages("fit", _PIPELINE, model)
        self._outputs: set[Output] = set()

    def close(self) -> None:
        """Frees the engine."""
        self._first.close()

    def ask(self, sample: "Sample", combinations: Sequence[Combination]) -> "Iterator[Answer]":
        """What comes out for a sample with each of some combinations.

        Raises:
            InputError: the sample can't be used.
            ModelError: the inference fails.
        """
        known: dict[bytes, Any] = {}
        for one in combinations:
            stages = self._stages[id(one)]
            (item,) = stages.begin([sample])
            stages.prepare(item, needs_image=False)
            digest = hashlib.blake2b(np.ascontiguousarray(item.prepared.tensor).tobytes(), digest_size=16).digest()
            if digest in known:
                item.outputs = known[digest]
            else:
                stages.infer([item])
                known[digest] = item.outputs
            decode = item.model.decode if isinstance(item.model, Model) else None
            if isinstance(decode, Classification):
                confidences = decode.confidences(item.outputs)[0]
                if one.output_open:
                    confidences = self._read(real_values(np.asarray(item.outputs[0]), decode.spec).reshape(-1))
                yield Answer((), confidences, item.prepared.size)
                continue
            limits = Limits(top_k=_MOST, min_confidence=LEAST_CONFIDENCE if one.spec.task == "detection" else 0.0)
            found = item.model.predictions(item.outputs, item.prepared.placements, limits)
            yield Answer(found, None, item.prepared.size)

    def _read(self, scores: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """The confidences of a classifier that does not say what its scores are, (classes,)."""
        self._observe(scores)
        return softmax(scores) if self.output == "logits" else scores.clip(0, 1)

    def _observe(self, scores: "NDArray[np.float32]") -> None:
        """Notes what the scores of a classifier can be."""
        if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
            self._outputs.add("logits")
        elif scores.size > 1 and abs(float(scores.sum()) - 1) <= _ROUNDING:
            self._outputs.add("probabilities")
        else:
            self._outputs.add("sigmoid")

    @property
    def output(self) -> Output:
        """What the scores of a classifier are, judged by all that were seen."""
        for kind in ("logits", "sigmoid"):
            if kind in self._outputs:
                return kind
        return "probabilities"
