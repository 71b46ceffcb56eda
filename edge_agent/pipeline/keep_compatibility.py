"""Checks of what a pipeline keeps against its model: rules that can never apply, and names that nothing bears."""

from collections.abc import Iterator, Sequence

from edge_agent import settings
from edge_agent.models.bundle import TRANSCRIPTION
from edge_agent.models.io_spec import CLASSIFICATION
from edge_agent.models.model import Model
from edge_agent.models.stages import SampleModel
from edge_agent.pipeline.tasks import TASKS_WITH_BOXES, TASKS_WITH_CONFIDENCE
from edge_agent.postprocess.filters import unknown_names
from edge_agent.postprocess.thresholds import ANOMALY

OF_ANSWERS = ("least_probability", "mean_probability", "finish_reason")
OF_ALL = (*OF_ANSWERS, "failed", "random")

Incompatibility = tuple[tuple[str | int, ...], str]
"""The key of an option in a pipeline's settings, and what is wrong with it."""


def of_answers(pipeline: settings.Pipeline) -> Iterator[Incompatibility]:
    """What does not fit a language model, which is that of the pipeline."""
    keep, name = pipeline.keep, pipeline.model_name
    if keep is None:
        return
    if not keep.prompts:
        what = f"what is kept of {name}, a language model, are prompts and answers"
        yield ("keep", "prompts"), f"{what}: state `prompts: true` if these may be written to the disk"
    default = settings.KeepRules()
    for key in settings.KeepRules.model_fields:
        if key not in OF_ALL and getattr(keep.when, key) != getattr(default, key):
            yield ("keep", "when", key), f"is for predictions, and {name} gives text"
    for key in ("mask", "blur"):
        if getattr(keep, key):
            yield ("keep", key), f"is for pictures, {name} takes none"


def of_predictions(
    keep: settings.Keep, pipeline: settings.Pipeline, model: SampleModel, labels: Sequence[str]
) -> Iterator[Incompatibility]:
    """What does not fit any other model.

    Args:
        keep: what is kept.
        pipeline: the pipeline's settings.
        model: its model.
        labels: that the model gives; empty where they are not known.
    """
    name, task, when = pipeline.model_name, model.task, keep.when
    speaks, is_file = isinstance(pipeline.model, settings.Speech), isinstance(model, Model)
    table: tuple[tuple[object, tuple[str, ...], bool, str], ...] = (
        (when.margin, ("margin",), task == CLASSIFICATION and not speaks, _only("classification", name, task)),
        (
            when.confidence or when.labels,
            ("confidence",),
            task in (*TASKS_WITH_CONFIDENCE, TRANSCRIPTION),
            f"{name} gives no confidence, its task is {task}",
        ),
        (when.labels, ("labels",), task != TRANSCRIPTION, f"{name} gives texts: state `confidence`"),
        (when.disagreement, ("disagreement",), is_file, f"{name} is built in: there is no other version of it"),
        (when.anomaly, ("anomaly",), task == ANOMALY, _only("scores of anomalies", name, task)),
        (when.flicker, ("flicker",), pipeline.tracking is not None, "needs tracking: add `tracking: {}`"),
    )
    yield from ((("keep", "when", *key), problem) for stated, key, fits, problem in table if stated and not fits)
    kinds = pipeline.event_kinds
    for kind in when.event:
        if kind not in kinds:
            given = f"its events are {', '.join(kinds)}" if kinds else "it has no events: these need tracking"
            yield ("keep", "when", "event"), f"{kind} never comes from this pipeline: {given}"
    for key in OF_ANSWERS:
        if getattr(when, key):
            yield ("keep", "when", key), f"is for language models, and {name} is none"
    if keep.prompts:
        yield ("keep", "prompts"), f"is for language models, and {name} is none"
    begin = "the model has no label"
    yield from ((("keep", "when", "labels"), text) for text in unknown_names(when.labels, labels, begin))
    yield from hidden("keep", keep, name, model, labels)


def hidden(
    key: str, options: settings.Keep | settings.Record, name: str, model: SampleModel, labels: Sequence[str]
) -> Iterator[Incompatibility]:
    """What is to be hidden in pictures, and can't be.

    Args:
        key: `keep` or `record`.
        options: what stands under it.
        name: of the model.
        model: the model itself.
        labels: that it gives; empty where they are not known.
    """
    if options.mask and not model.takes_pictures:
        yield (key, "mask"), f"is for pictures, {name} takes none"
    if options.blur is not None and model.task not in TASKS_WITH_BOXES:
        yield (key, "blur"), f"{name} finds no boxes, its task is {model.task}"
    elif options.blur is not None:
        begin = "the model has no label"
        yield from (((key, "blur", "labels"), text) for text in unknown_names(options.blur.labels, labels, begin))


def _only(what: str, name: str, task: str) -> str:
    return f"is for {what}, and the task of {name} is {task}"
