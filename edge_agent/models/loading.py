"""All models of a configuration, loaded and ready to serve."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError, MissingExtraError, ModelError
from edge_agent.models import language
from edge_agent.models.accelerator_choice import threads_of
from edge_agent.models.budget import Budget
from edge_agent.models.io_spec import CLASSIFICATION
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model, load
from edge_agent.models.resolve import ModelSource, locate
from edge_agent.pipeline.compatibility import Misfit, with_language_model, without_language_model
from edge_agent.postprocess.filters import unknown_labels
from edge_agent.postprocess.thresholds import ANOMALY, NORMAL
from edge_agent.settings.streams import CommandSource
from edge_agent.timeseries.numbers import SeriesPreprocess

SOURCES_OF_PICTURES = ("camera", "video", "images", "pipeline")
SOURCES_OF_READINGS = ("serial", "iio", "audio", "microphone")
TASKS_WITH_OBJECTS = ("detection", "pose")
TASKS_WITH_BOXES = ("detection", "pose", "segmentation")

AnyModel = Model | LanguageModel
ModelKey = tuple[str, int]
"""Name and batch size: a pipeline with regions has a copy of its own, laid out for so many pictures at once."""


def key_of(pipeline: settings.Pipeline) -> ModelKey:
    """Which of the loaded models a pipeline uses."""
    return pipeline.model, max(1, len(pipeline.regions))


def load_models(
    wanted: Config,
    present: Mapping[ModelKey, AnyModel],
    *,
    unused_too: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> dict[ModelKey, AnyModel]:
    """Loads the models that the pipelines need.

    Args:
        wanted: the configuration.
        present: models that are loaded already; those that have not changed are taken over.
        unused_too: also those that no pipeline needs.
        waiting: called about twice a second as long as a model's trial goes on.

    Raises:
        ConfigError: with what is wrong with each model that can't be used.
    """
    pipelines = wanted.settings.pipelines
    keys = {key_of(pipeline) for pipeline in pipelines.values()}
    if unused_too:
        keys |= {(name, 1) for name in wanted.settings.models if name not in {used for used, _ in keys}}
    loaded: dict[ModelKey, AnyModel] = {}
    budget = Budget(wanted.settings.model_memory)
    problems: list[str] = []
    for key in sorted(keys, key=lambda key: (key not in present, key)):
        name, _ = key
        options = with_threads(wanted.settings.models[name], len(keys))
        try:
            loaded[key] = _load(key, options, wanted.path.parent, present.get(key), budget, waiting)
        except (ModelError, MissingExtraError) as error:
            problems.append(f"{wanted.where('models', name)}: {error}")
    problems += [] if problems else _misfits(wanted, loaded)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return loaded


def with_threads(model: settings.Model, models: int) -> settings.Model:
    """A model that states no threads, with its share of the cores: several must not take all of them each.

    Args:
        model: its settings.
        models: how many there are that may run at the same time.
    """
    share = max(1, len(os.sched_getaffinity(0)) // models)
    if model.threads is not None or share >= threads_of(model):
        return model
    return model.model_copy(update={"threads": share})


def _load(
    key: ModelKey,
    options: settings.Model,
    folder: Path,
    present: AnyModel | None,
    budget: Budget,
    waiting: Callable[[], None],
) -> AnyModel:
    """The model that is there already if it is still what the settings mean, else a new one."""
    name, batch = key
    found = language.find(locate(options.path, folder))
    if found is None:
        same = isinstance(present, Model) and present.is_still(options, folder)
    else:
        same = isinstance(present, LanguageModel) and (present.options, present.source) == (options, found)
    if present is not None and same:
        budget.keep(present.memory)
        return present
    if found is not None:
        return language.load(name, options, found, waiting, threads_of(options), budget)

    def admit(source: ModelSource) -> None:
        try:
            budget.take(source.file.size, "its file")
        except ModelError as error:
            raise ModelError(f"{source.file.path}: {error}") from None

    return load(name, options, folder, batch, waiting, admit)


def _misfits(wanted: Config, loaded: Mapping[ModelKey, AnyModel]) -> Iterator[str]:
    """What pipelines want of their models that these do not give."""
    pipelines = wanted.settings.pipelines
    for name, pipeline in pipelines.items():
        model, parent, parent_task = loaded[key_of(pipeline)], "", ""
        if isinstance(pipeline.source, settings.PipelineSource):
            parent = pipeline.source.name
            parent_task = loaded[key_of(pipelines[parent])].task
        if isinstance(model, LanguageModel):
            found = with_language_model(pipeline, parent, parent_task)
        else:
            found = itertools.chain(without_language_model(pipeline), _misfits_of(pipeline, model, parent, parent_task))
        for key, problem in found:
            yield f"{wanted.where('pipelines', name, *key)}: {problem}"


def _misfits_of(pipeline: settings.Pipeline, model: Model, parent: str, parent_task: str) -> Iterator[Misfit]:
    """See `_misfits`; each with its key."""
    if parent and parent_task not in TASKS_WITH_BOXES:
        yield ("source", "name"), f"{parent} finds no boxes, its task is {parent_task}"
    yield from _unfit(pipeline, model)


def _unfit(pipeline: settings.Pipeline, model: Model) -> Iterator[tuple[tuple[str, ...], str]]:
    """The options that a pipeline's model leaves without a meaning, each with the reason."""
    name, task, options = pipeline.model, model.task, pipeline
    pictures = not isinstance(model.preprocess, SeriesPreprocess)
    # What is stated, the option, whether it fits, and why not.
    table: tuple[tuple[object, tuple[str, ...], bool, str], ...] = (
        (gives(options.source) == "pictures", ("source",), pictures, f"gives pictures, {name} takes none"),
        (gives(options.source) == "readings", ("source",), not pictures, f"gives readings, {name} takes pictures"),
        (options.regions, ("regions",), pictures, f"is for pictures, {name} takes none"),
        (options.filters.zones, ("filters", "zones"), pictures, f"is for pictures, {name} takes none"),
        (options.snapshot, ("snapshot",), pictures, f"is for pictures, {name} takes none"),
        (options.gate, ("gate",), pictures, f"is for pictures, {name} takes none"),
        (options.window, ("window",), not pictures, f"is for readings and sound, {name} takes pictures"),
        (options.smoothing, ("smoothing",), not pictures, f"is for readings and sound, {name} takes pictures"),
        (options.smoothing, ("smoothing",), task == CLASSIFICATION, f"is for classification, {name} does {task}"),
        (options.anomaly, ("anomaly",), task == ANOMALY, f"is for scores of anomalies, the task of {name} is {task}"),
        (options.tracking, ("tracking",), task in TASKS_WITH_OBJECTS, f"{name} finds no objects, its task is {task}"),
    )
    yield from ((path, problem) for stated, path, fits, problem in table if stated and not fits)
    labels = (NORMAL, ANOMALY) if task == ANOMALY else model.reading.labels or ()
    yield from ((("filters", key), problem) for key, problem in unknown_labels(options.filters, labels))


def gives(source: settings.Source) -> Literal["pictures", "readings", "either"]:
    """What comes out of a source."""
    kind = source.format if isinstance(source, CommandSource) else source.type
    if kind in (*SOURCES_OF_PICTURES, "mjpeg", "raw"):
        return "pictures"
    return "readings" if kind in (*SOURCES_OF_READINGS, "pcm", "jsonl", "csv") else "either"
