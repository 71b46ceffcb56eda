"""How right a model is as int8, compared with its original on labelled data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError
from edge_agent.evaluation.judging import Options
from edge_agent.evaluation.report import MAIN, difference, measured
from edge_agent.evaluation.run import Limits, Run, evaluate

if TYPE_CHECKING:
    from edge_agent.evaluation.labelled import Dataset
    from edge_agent.models.model import Model


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The main measure of both models on the same samples.

    Attributes:
        metric: its name: `top1`, `ap`.
        samples: number of samples.
        original: of the original, 0 to 1.
        value: of the int8 model.
        interval: 95 % interval of the difference, int8 less original, from the same resamples for both.
    """

    metric: str
    samples: int
    original: float
    value: float
    interval: tuple[float, float]

    def worse(self, loss: float) -> bool:
        """Whether int8 is less right by more than a loss that is accepted, or beyond doubt by any."""
        return self.original - self.value > loss or self.interval[1] < 0


class _Unobserved:
    """See `evaluation.run.Progress`."""

    stopping = False

    def done(self, samples: int) -> None:
        """Nobody looks on."""


def compare_accuracy(original: "Model", quantized: "Model", data: "Dataset") -> Accuracy:
    """Judges both on labelled data.

    Raises:
        ConfigError: the data does not label what the task needs, or no sample of it can be used.
        ModelError: a model fails.
    """
    runs = [_run(model, data) for model in (original, quantized)]
    metric = MAIN[original.task]
    found = [measured(run.judge)[0][metric] for run in runs]
    paired = difference(runs[1], runs[0])
    return Accuracy(metric, paired.samples, found[0], found[1], paired.interval[metric])


def _run(model: "Model", data: "Dataset") -> Run:
    run = evaluate(model, data, Options(), Limits(), _Unobserved(), 0)
    if not run.numbers:
        where, reason = run.failures[0] if run.failures else (str(data.path), "there is no sample in it")
        raise ConfigError([f"{where}: {reason}"])
    return run
