"""All models of a configuration, loaded and ready to serve."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.engines import MEMORY_LIMIT
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import ConfigError, MissingExtraError, ModelError
from edge_agent.models import language
from edge_agent.models.budget import Budget
from edge_agent.models.language import LanguageModel, LanguageSource
from edge_agent.models.model import Model, load_qualified, memory_of
from edge_agent.models.resolve import ModelSource, locate, resolve
from edge_agent.models.speech import SpeechModel
from edge_agent.models.statistics import StatisticsModel
from edge_agent.models.transcription import TranscriptionModel
from edge_agent.models.tuning import MOST_ENGINES, threads_of, usual

AnyModel = Model | LanguageModel | StatisticsModel | SpeechModel | TranscriptionModel


def load_models(
    wanted: Config,
    present: Mapping[str, AnyModel],
    *,
    unused_too: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> dict[str, AnyModel]:
    """Loads the models that the pipelines need.

    Args:
        wanted: the configuration.
        present: models that are loaded already, by name; those that have not changed are taken over.
        unused_too: also those that no pipeline needs.
        waiting: called about twice a second while a self-test runs.

    Returns:
        The models by name.

    Raises:
        ConfigError: with what is wrong with each model that can't be used.
    """
    batches: dict[str, set[int]] = {name: {1} for name in wanted.settings.models} if unused_too else {}
    used: dict[str, set[int]] = defaultdict(set)
    for pipeline in wanted.settings.pipelines.values():
        if isinstance(pipeline.model, str):
            used[pipeline.model].add(batch_of(pipeline))
    batches |= used
    engines = sum(map(len, batches.values()))
    loaded: dict[str, AnyModel] = {}
    sources: dict[str, ModelSource | LanguageSource] = {}
    budget = Budget(wanted.settings.model_memory)
    MEMORY_LIMIT.models = wanted.settings.model_memory
    problems: dict[str, str] = {}
    for name in batches:
        with _problem_of(name, problems):
            options = with_threads(wanted.settings.models[name], engines)
            sources[name] = resolve(options, wanted.path.parent)
    # Those that are loaded already first, then language models: more engines than one get what all models leave.
    for name in sorted(sources, key=lambda name: (name not in present, isinstance(sources[name], ModelSource), name)):
        source = sources.pop(name)
        with _problem_of(name, problems):
            if isinstance(source, LanguageSource):
                options = with_threads(wanted.settings.models[name], engines)
                loaded[name] = _load_language(name, options, source, present.get(name), budget, waiting)
                continue
            to_come = sum(
                one.file.total_size * len(batches[other])
                for other, one in sources.items()
                if isinstance(one, ModelSource)
            )
            source = replace(source, model_memory=budget.stated, cores=_share(engines))
            loaded[name] = _load(name, source, batches[name], present.get(name), budget, to_come, waiting)
    if problems:
        raise ConfigError([f"{wanted.where('models', name)}: {problems[name]}" for name in sorted(problems)])
    return loaded | _built_in(wanted, present)


def _built_in(wanted: Config, present: Mapping[str, AnyModel]) -> dict[str, AnyModel]:
    """The models that need no file, by the names that pipelines know them by.

    Raises:
        ConfigError: one can't be used.
    """
    loaded: dict[str, AnyModel] = {}
    for name, pipeline in wanted.settings.pipelines.items():
        known, options = pipeline.model_name, pipeline.model
        if isinstance(options, str) or known in loaded:
            continue
        try:
            loaded[known] = present.get(known) or _without_entry(options, wanted.path.parent)
        except (ModelError, MissingExtraError) as error:
            raise ConfigError([f"{wanted.where('pipelines', name, 'model')}: {error}"]) from None
    return loaded


def _without_entry(
    options: settings.Speech | settings.Statistics, folder: Path
) -> StatisticsModel | SpeechModel | TranscriptionModel:
    """A model that a pipeline states itself; errors are those of its class."""
    if isinstance(options, settings.Statistics):
        return StatisticsModel()
    return SpeechModel(options) if options.path is None else TranscriptionModel(locate(options.path, folder))


@contextmanager
def _problem_of(name: str, problems: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except (ModelError, MissingExtraError) as error:
        problems[name] = str(error)


def batch_of(pipeline: settings.Pipeline) -> int:
    """The batch size in which a pipeline runs its model: all its regions at once."""
    return max(1, len(pipeline.regions))


def with_threads(model: settings.Model, engines: int) -> settings.Model:
    """The settings of a model; where they state no threads, with its share of the cores.

    Args:
        model: its settings.
        engines: number of engines that may run at the same time.
    """
    share = _share(engines)
    if model.threads is not None or share >= threads_of(model):
        return model
    return model.model_copy(update={"threads": share})


def _share(engines: int) -> int:
    """The share of the cores that a model may keep busy, of this number that may run at the same time."""
    return max(1, len(os.sched_getaffinity(0)) // engines)


def _load_language(
    name: str,
    options: settings.Model,
    source: LanguageSource,
    present: AnyModel | None,
    budget: Budget,
    waiting: Callable[[], None],
) -> LanguageModel:
    """See `_load`."""
    if isinstance(present, LanguageModel) and (present.options, present.source) == (options, source):
        budget.keep(present.memory)
        present.source = source  # the same content, but perhaps in other files
        return present
    return language.load(name, options, source, waiting, threads_of(options), budget)


def _load(
    name: str,
    source: ModelSource,
    batches: Collection[int],
    present: AnyModel | None,
    budget: Budget,
    to_come: int,
    waiting: Callable[[], None],
) -> AnyModel:
    """The model that is loaded already if its settings and files are still the same, else a new one.

    Args:
        name: of the model in the configuration.
        source: the model, resolved.
        batches: the batch sizes that it needs engines for.
        present: the model that has this name now.
        budget: for all models.
        to_come: bytes of it that models to be loaded later need at least.
        waiting: see `load_models`.
    """
    engines = present.engines if isinstance(present, Model) and present.source == source else {}
    try:
        for batch in sorted(batches, key=lambda batch: batch not in engines):
            if batch in engines:
                budget.keep(memory_of(source, engines[batch].tuning))
            else:
                budget.take(memory_of(source, usual(source.options)), "its file")
    except ModelError as error:
        raise ModelError(f"{source.file.path}: {error}") from None
    if present is not None and engines.keys() == set(batches):
        return present
    missing = len(set(batches) - engines.keys())
    source = replace(source, most_engines=_most_engines(source, budget, to_come, missing))
    model = load_qualified(name, source, batches, waiting, engines)
    further = [engine.tuning for batch, engine in model.engines.items() if batch not in engines]
    for tuning in further:
        budget.keep(memory_of(source, tuning) - memory_of(source, usual(source.options)))
    return model


def _most_engines(source: ModelSource, budget: Budget, to_come: int, batches: int) -> int:
    """For how many engines, for each of some batch sizes, there is memory; the first one is counted already."""
    if not batches or budget.left is None or memory_of(source, Tuning(2)) == memory_of(source, Tuning(1)):
        return MOST_ENGINES
    further = max(0, budget.left - to_come) // (source.file.total_size * batches)
    return min(1 + further, MOST_ENGINES)
