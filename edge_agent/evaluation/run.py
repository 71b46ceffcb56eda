"""Runs a model over labelled data, by the same stages as in a pipeline, and judges what it says."""

import contextlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_agent.errors import ConfigError, EdgeAgentError, InputError
from edge_agent.evaluation import metrics
from edge_agent.evaluation.judging import TOP, Classified, Judge, Options
from edge_agent.evaluation.judging_pictures import Detected, Segmented
from edge_agent.evaluation.judging_values import AnomalyFound, Answered, Regressed
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.language.generation import Answer as TextAnswer
from edge_agent.language.request import read_request
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model
from edge_agent.models.predictor import Answer, Predictor
from edge_agent.models.summary import TASKS, Summary
from edge_agent.samples import Prediction, Timing
from edge_agent.settings.text import Generation
from edge_agent.sources.recordings import of_numbers, windows_of
from edge_agent.system import memory
from edge_agent.timeseries.numbers import SeriesPreprocess

# Precision is judged over all of a detector's recall: what it is hardly sure of counts too.
LEAST_CONFIDENCE = {"detection": 0.001, "pose": 0.001}
# Most that a pipeline may be asked for.
_ALL_CLASSES = 1000


class Progress(Protocol):
    """Looks on, and may end it early.

    Attributes:
        stopping: whether the user wants it to end.
    """

    stopping: bool

    def done(self, samples: int) -> None:
        """Called after each sample.

        Args:
            samples: how many of the data set have been looked at.
        """
        ...


@dataclass(slots=True)
class Run:
    """What came of an evaluation.

    Attributes:
        task: of the model.
        judge: with the outcomes of the samples.
        numbers: of the samples in the data set that have an outcome, in the order of the outcomes.
        failures: where, and why, for samples that could not be used.
        left_out: number of samples that the mapping leaves out.
        latencies: milliseconds from the encoded sample to its predictions, without waiting.
        inferences: milliseconds in the model.
        memory: bytes that the model has added to this process.
        seconds: from the first sample to the last.
        interrupted: whether the user has ended it early.
        accelerator: what the model ran on, at the end.
        model_sha256: of the model's file.
    """

    task: str
    judge: Judge
    numbers: list[int] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    latencies: list[float] = field(default_factory=list)
    inferences: list[float] = field(default_factory=list)
    memory: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    accelerator: str = ""
    model_sha256: str = ""

    def note(self, timing: Timing, memory_before: int) -> None:
        """Notes where the time of a sample went; after the first one, the memory."""
        self.latencies.append(timing.preprocess + timing.inference + timing.postprocess)
        self.inferences.append(timing.inference)
        if len(self.latencies) == 1:
            self.memory = max(0, memory.taken() - memory_before)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on predictions, as in a pipeline; None: all that the measures need."""

    top_k: int | None = None
    min_confidence: float | None = None


def judge_for(task: str, dataset: Dataset, labels: Sequence[str], options: Options) -> Judge:
    """What judges a model of a task.

    Raises:
        ConfigError: the data does not label what the task needs, or the task can't be judged.
    """
    match task:
        case "classification":
            return Classified(dataset, labels, options)
        case "detection" | "pose":
            return Detected(dataset, labels, options, task)
        case "segmentation":
            return Segmented(dataset, labels, options)
        case "regression":
            return Regressed(dataset)
        case "anomaly":
            return AnomalyFound(dataset, options)
        case "text":
            return Answered(dataset)
    raise ConfigError([f"{dataset.path}: the model's task is {task}: there is no measure of how right that is"])


def evaluate(
    model: Model, dataset: Dataset, options: Options, limits: Limits, progress: Progress, memory_before: int
) -> Run:
    """Judges a model on a data set. Where it is ended early, what has been judged so far stays.

    Args:
        model: loaded.
        dataset: the samples.
        options: of the evaluation.
        limits: on predictions.
        progress: looks on.
        memory_before: bytes that this process took before the model was loaded.

    Raises:
        ConfigError: see `judge_for`.
        ModelError: the model fails.
    """
    run = Run(model.task, judge_for(model.task, dataset, model.labels, options))
    admitted = [(number, sample) for number, sample in enumerate(dataset) if run.judge.admits(sample)]
    run.left_out = len(dataset) - len(admitted)
    top_k = TOP if model.task == "classification" and limits.top_k is None else limits.top_k
    least = LEAST_CONFIDENCE.get(model.task, 0.0) if limits.min_confidence is None else limits.min_confidence
    began = time.monotonic()
    preprocess = model.preprocess
    if isinstance(preprocess, SeriesPreprocess):
        predictor = Predictor(model, _ALL_CLASSES if model.task in TASKS else top_k, least)
        answers = _of_recordings(predictor, preprocess, admitted, summed_up=model.task in TASKS)
    else:
        # Not class by class: if it is ended early, what has been judged is like the rest.
        order = np.random.default_rng(metrics.SEED).permutation(len(admitted))
        answers = _of_pictures(Predictor(model, top_k, least), [admitted[place] for place in order])
    with contextlib.closing(answers):
        seen: set[int] = set()
        for number, sample, answer in answers:
            seen.add(number)
            try:
                if isinstance(answer, EdgeAgentError):
                    raise answer
                run.judge.add(sample, answer.predictions, answer.facts)
                run.numbers.append(number)
                run.note(answer.timing, memory_before)
            except InputError as error:
                run.failures.append((sample.name, str(error)))
            progress.done(run.left_out + len(seen))
            if progress.stopping:
                run.interrupted = True
                break
    run.seconds = time.monotonic() - began
    run.accelerator, run.model_sha256 = model.engine.accelerator, model.file.sha256
    run.judge.finish()
    return run


Answers = Generator[tuple[int, LabelledSample, Answer | EdgeAgentError], None, None]


def _of_pictures(predictor: Predictor, samples: Sequence[tuple[int, LabelledSample]]) -> Answers:
    answers = predictor.ask_each(sample.read for _, sample in samples)
    for (number, sample), answer in zip(samples, answers, strict=True):
        yield number, sample, answer


def _of_recordings(
    predictor: Predictor,
    preprocess: SeriesPreprocess,
    samples: Sequence[tuple[int, LabelledSample]],
    *,
    summed_up: bool,
) -> Answers:
    """The answer to each recording, summed up over its windows; to each window where the sample is a stream of them."""
    for number, sample in samples:
        if sample.series is not None and (sample.stream or sample.series.values.size != math.prod(preprocess.shape)):
            # Without a rate of their own, readings count as taken at that of the model.
            series = replace(sample.series, rate=sample.series.rate or preprocess.input.rate)
            given = windows_of([series], Path(sample.where), preprocess, None, lambda _: None)
        elif sample.series is not None:
            given = iter([sample.read()])
        else:
            given = of_numbers(sample.path or Path(), preprocess, None, lambda _: None).samples
        summary, timing, facts, windows = Summary(), Timing(), dict[str, Any](), 0
        failed: EdgeAgentError | None = None
        for window in given:
            try:
                answer = predictor.ask(window)
            except EdgeAgentError as error:
                failed = error
                break
            if sample.stream or not summed_up:
                yield number, sample, answer
            summary.add(answer.predictions, None)
            _add(timing, answer.timing)
            windows += 1
        if failed is not None:
            yield number, sample, failed
        elif not windows:
            yield number, sample, InputError(f"{sample.name}: too short for a window of the model")
        elif summed_up and not sample.stream:
            predictions = [_prediction(one) for one in summary.predictions(_ALL_CLASSES, 0.0)]
            yield number, sample, Answer(predictions, facts, timing, None)


def _add(total: Timing, one: Timing) -> None:
    for key in ("queue", "preprocess", "inference", "postprocess"):
        setattr(total, key, getattr(total, key) + getattr(one, key))


def _prediction(row: Mapping[str, Any]) -> Prediction:
    return Prediction(row.get("label"), row.get("class_id"), row.get("confidence"), value=row.get("value"))


def evaluate_language(
    model: LanguageModel, dataset: Dataset, progress: Progress, memory_before: int, system: str = ""
) -> Run:
    """Judges a language model on requests: see `evaluate`. It decodes greedily unless a request states otherwise.

    Args:
        model: loaded.
        dataset: of requests.
        progress: see `evaluate`.
        memory_before: see `evaluate`; the model's own process is not counted.
        system: system message, for requests without one.
    """
    judge = Answered(dataset)
    run = Run(model.task, judge)
    began = time.monotonic()
    for number, sample in enumerate(dataset):
        started = time.monotonic()
        try:
            job = read_request(sample.request or b"", Generation()).job(system, age=0.0)
            with model.slot():
                *_, answer = model.ask(job, lambda: progress.stopping)
        except InputError as error:
            run.failures.append((sample.name, str(error)))
            continue
        if progress.stopping:
            run.interrupted = True
            break
        judge.judge(sample, answer.text if isinstance(answer, TextAnswer) else answer)
        run.numbers.append(number)
        run.note(Timing(inference=(time.monotonic() - started) * 1000), memory_before)
        progress.done(number + 1)
    run.seconds = time.monotonic() - began
    run.accelerator, run.model_sha256 = model.engine.accelerator, model.source.sha256
    return run
