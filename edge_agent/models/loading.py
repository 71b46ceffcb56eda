"""All models of a configuration, loaded and ready to serve."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.engines import MEMORY_LIMIT
from edge_agent.errors import ConfigError, MissingExtraError, ModelError
from edge_agent.models import language
from edge_agent.models.accelerator_choice import threads_of
from edge_agent.models.budget import Budget
from edge_agent.models.language import LanguageModel, LanguageSource
from edge_agent.models.model import Model, load_qualified
from edge_agent.models.resolve import resolve
from edge_agent.models.statistics import StatisticsModel
from edge_agent.settings.statistics import STATISTICS

AnyModel = Model | LanguageModel | StatisticsModel


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
    budget = Budget(wanted.settings.model_memory)
    MEMORY_LIMIT.models = wanted.settings.model_memory
    problems: list[str] = []
    for name in sorted(batches, key=lambda name: (name not in present, name)):
        options = with_threads(wanted.settings.models[name], engines)
        try:
            loaded[name] = _load(name, options, wanted.path.parent, batches[name], present.get(name), budget, waiting)
        except (ModelError, MissingExtraError) as error:
            problems.append(f"{wanted.where('models', name)}: {error}")
    if problems:
        raise ConfigError(problems)
    if any(not isinstance(pipeline.model, str) for pipeline in wanted.settings.pipelines.values()):
        before = present.get(STATISTICS)
        loaded[STATISTICS] = before if isinstance(before, StatisticsModel) else StatisticsModel()
    return loaded


def batch_of(pipeline: settings.Pipeline) -> int:
    """The batch size in which a pipeline runs its model: all its regions at once."""
    return max(1, len(pipeline.regions))


def with_threads(model: settings.Model, engines: int) -> settings.Model:
    """The settings of a model; where they state no threads, with its share of the cores.

    Args:
        model: its settings.
        engines: number of engines that may run at the same time.
    """
    share = max(1, len(os.sched_getaffinity(0)) // engines)
    if model.threads is not None or share >= threads_of(model):
        return model
    return model.model_copy(update={"threads": share})


def _load(
    name: str,
    options: settings.Model,
    folder: Path,
    batches: Collection[int],
    present: AnyModel | None,
    budget: Budget,
    waiting: Callable[[], None],
) -> AnyModel:
    """The model that is loaded already if its settings and files are still the same, else a new one."""
    source = resolve(options, folder)
    if isinstance(source, LanguageSource):
        if isinstance(present, LanguageModel) and (present.options, present.source) == (options, source):
            budget.keep(present.memory)
            present.source = source  # the same content, but perhaps in other files
            return present
        return language.load(name, options, source, waiting, threads_of(options), budget)
    source = replace(source, model_memory=budget.stated)
    engines = present.engines if isinstance(present, Model) and present.source == source else {}
    try:
        for batch in sorted(batches, key=lambda batch: batch not in engines):
            if batch in engines:
                budget.keep(source.file.total_size)
            else:
                budget.take(source.file.total_size, "its file")
    except ModelError as error:
        raise ModelError(f"{source.file.path}: {error}") from None
    if present is not None and engines.keys() == set(batches):
        return present
    return load_qualified(name, source, batches, waiting, engines)
