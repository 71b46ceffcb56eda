"""Classifiers of tables: the label that is chosen, and the probability of each.

Scikit-learn's by sklearn-onnx, LightGBM's and XGBoost's by onnxmltools; also the classifiers of Azure Custom Vision.
Sources: https://github.com/onnx/sklearn-onnx, https://github.com/onnx/onnxmltools and
https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.decoders import Limits
from edge_agent.decoders.classification import Classification
from edge_agent.decoders.recognition import Parts, Recognition
from edge_agent.errors import InputError
from edge_agent.modelfile.facts import ModelFile, Tensor
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Probabilities are sums and quotients of float32.
_LARGEST = 1.001


@dataclass(frozen=True, slots=True)
class LabelsAndScores:
    """Decodes (batch, classes) probabilities; the label beside them says no more.

    Attributes:
        scores: index of the output with the probabilities.
        classification: of that output.
    """

    task = "classification"

    scores: int
    classification: Classification

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`."""
        values = outputs[self.scores]
        is_probable = (
            self.classification.output != "probabilities"
            or not values.size
            or (values.min() >= 0 and values.max() <= _LARGEST)
        )
        if not is_probable:
            raise InputError(
                f"the model's scores go from {values.min():.3g} to {values.max():.3g}, and are no numbers (NaN) or no "
                "probabilities: state output: logits, or sigmoid, if they are scores of another kind"
            )
        return self.classification([values], placements, limits)


def recognise_labels_and_scores(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """A label, [1] or [1, 1] of whole numbers or text, and probabilities, [1, classes] or maps from labels to them."""
    del stated
    if len(file.outputs) != 2:  # noqa: PLR2004 - label, probabilities
        return None
    for label, scores in ((0, 1), (1, 0)):
        classes = _classes(file, file.outputs[scores])
        if _is_label(file.outputs[label]) and classes:
            break
    else:
        return None

    def build(parts: Parts) -> LabelsAndScores:
        names = parts.labels or [str(number) for number in range(classes)]
        decode = Classification(parts.outputs[scores], names, parts.output or "probabilities")
        return LabelsAndScores(scores, decode)

    names = [tensor.name for tensor in file.outputs]
    evidence = f"the outputs {names[label]} and {names[scores]} are a label and the scores of {classes} classes"
    return Recognition(
        "labels_and_scores",
        "classification",
        (evidence,),
        build=build,
        named=file.outputs[scores].dtype == "sequence",
        classes=classes,
    )


def _is_label(tensor: Tensor) -> bool:
    return (
        tensor.dtype in ("int64", "str")
        and all(size in (1, -1) for size in tensor.shape[:2])
        and (
            len(tensor.shape) <= 2  # noqa: PLR2004 - batch, one
        )
    )


def _classes(file: ModelFile, tensor: Tensor) -> int:
    """The number of classes of the scores; 0 if they are none."""
    labelled = len(file.labels or ())
    if tensor.dtype == "sequence":
        return labelled if "ZipMap" in file.operators else 0
    if tensor.dtype not in ("float32", "float64") or len(tensor.shape) != 2:  # noqa: PLR2004 - batch, classes
        return 0
    classes = tensor.shape[1] if tensor.shape[1] > 0 else labelled
    return classes if classes > 1 else 0
