"""Regression: real values, such as an age or an angle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.decoders import Limits, check_finite, real_values
from edge_agent.decoders.class_number import ARGMAX
from edge_agent.decoders.detection import items, label_of
from edge_agent.decoders.recognition import Recognition, sole_output, without_batch
from edge_agent.engines import TensorSpec
from edge_agent.modelfile.facts import ModelFile
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import Prediction
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The output of one of these operators is a probability, or the number of a class.
_NO_VALUES = ARGMAX | {"LOGISTIC", "SOFTMAX", "Sigmoid", "Softmax", "QLinearSigmoid", "QLinearSoftmax"}

# As sklearn-onnx and onnxmltools write them, https://onnx.ai/onnx/operators/index.html.
_REGRESSORS = {"LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor"}


@dataclass(frozen=True, slots=True)
class Regression:
    """Decodes (batch, values), with axes of size 1 anywhere, to one prediction per value, in the model's order.

    Attributes:
        spec: the tensor.
        labels: one name per value; None: they have only numbers.
    """

    task = "regression"

    spec: TensorSpec
    labels: Sequence[str] | None

    def __call__(
        self, outputs: Sequence["NDArray[Any]"], placements: Sequence[Placement], limits: Limits
    ) -> list[Prediction]:
        """Predictions of a batch: see `Decoder`. A value has no confidence, so the limits do not apply."""
        del limits
        predictions = []
        for placement, item in zip(placements, items(outputs, len(placements)), strict=True):
            values = real_values(item[0].reshape(-1), self.spec)
            check_finite(values)
            for number, value in enumerate(values.tolist()):
                label = label_of(number, self.labels)
                predictions.append(Prediction(label, number, None, placement.region, value=float(f"{value:.7g}")))
        return predictions


def recognise_regression(file: ModelFile, *, stated: bool = False) -> Recognition | None:
    """[1, 1]. The shape of several values could be that of a classifier's scores, unless a regressor computes them."""
    output = sole_output(file)
    if output is None:
        return None
    axes = without_batch(output)
    if sum(size != 1 for size in axes) > 1 or -1 in axes:
        return None
    values = max(axes, default=1)
    operator = file.output_operators[0]
    is_known = operator in _REGRESSORS
    if not stated and ((values > 1 and not is_known) or not output.shape or operator in _NO_VALUES or not operator):
        return None
    return Recognition(
        "regression",
        "regression",
        (
            (
                f"the output {list(output.shape)} is {counted(values, 'value')}, its last operator "
                f"{operator or 'is not known'}"
            ),
        ),
        build=lambda parts: Regression(parts.outputs[0], parts.labels or None),
        named=is_known,
        classes=values,
        labels=(),
    )
