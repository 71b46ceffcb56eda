"""All models of a configuration, loaded and ready to serve."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError, MissingExtraError, ModelError
from edge_agent.models import language
from edge_agent.models.accelerator_choice import threads_of
from edge_agent.models.budget import Budget
from edge_agent.models.language import LanguageModel, LanguageSource
from edge_agent.models.model import Model, load_qualified
from edge_agent.models.resolve import resolve

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
        waiting: called about twice a second while a self-test runs.

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
    """The model that is loaded already if its settings and files are still the same, else a new one."""
    name, batch = key
    source = resolve(options, folder)
    if isinstance(present, LanguageModel) and (present.options, present.source) == (options, source):
        same = True
    else:
        same = isinstance(present, Model) and present.source == source
    if present is not None and same:
        budget.keep(present.memory)
        return present
    if isinstance(source, LanguageSource):
        return language.load(name, options, source, waiting, threads_of(options), budget)
    try:
        budget.take(source.file.size, "its file")
    except ModelError as error:
        raise ModelError(f"{source.file.path}: {error}") from None
    return load_qualified(name, source, batch, waiting)
