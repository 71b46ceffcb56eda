"""Which version of each model serves: what stands in the configuration, or what an update has put in its place."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError, MissingExtraError, UpdateError
from edge_agent.update.store import Store

Loaded = TypeVar("Loaded")

log = logging.getLogger(__name__)


def stores_of(config: Config) -> dict[str, Store]:
    """The versions of each model that is updated, by its name."""
    update = config.settings.update
    return {name: Store(config.updates_path() / "models" / name) for name in update.models} if update else {}


def with_active(config: Config) -> Config:
    """The configuration, with the versions that are active in the place of those that it names.

    Raises:
        ConfigError: updates are wanted, and what they need is not installed.
    """
    if config.settings.update is None:
        return config
    try:
        import tuf  # noqa: F401 - asked for now, and not only when the first list is to be verified
    except ImportError:
        error = MissingExtraError("updating models", "update")
        raise ConfigError([f"{config.where('update')}: {error}"]) from None
    for name, store in stores_of(config).items():
        if (key := store.state().active) is not None:
            config = with_version(config, name, version_of(config.settings.models[name], store.archive(key)))
    return config


def with_version(config: Config, name: str, version: settings.Model) -> Config:
    """The configuration, with a model's settings in the place of those that it has."""
    models = config.settings.models | {name: version}
    return replace(config, settings=config.settings.model_copy(update={"models": models}))


def version_of(options: settings.Model, archive: Path) -> settings.Model:
    """The settings of a model, for a version of it."""
    return options.model_copy(update={"path": archive.absolute()})


def load_at_start(config: Config, load: Callable[[Config], Loaded]) -> tuple[Config, Loaded]:
    """Loads what is active; a version that can't serve here any more gives way to the one before it.

    Args:
        config: as it stands in the file.
        load: loads the models of a configuration.

    Raises:
        ConfigError: what the configuration names can't be loaded.
    """
    stores = stores_of(config)
    try:
        for store in stores.values():
            store.began()
    except UpdateError as trouble:
        log.error("%s", trouble)
    while True:
        wanted = with_active(config)
        try:
            return wanted, load(wanted)
        except ConfigError as error:
            try:
                if not _gone_back(wanted, stores, error):
                    raise
            except UpdateError as trouble:
                log.error("%s: the models that the configuration names serve", trouble)
                return config, load(config)


def _gone_back(wanted: Config, stores: Mapping[str, Store], error: ConfigError) -> bool:
    """Whether there was a version to blame, which then is active no more."""
    blamed = False
    for name, store in stores.items():
        reasons = [problem for problem in error.problems if problem.startswith(f"{wanted.where('models', name)}: ")]
        if reasons and store.state().active is not None:
            log.error("%s: the version before serves again", reasons[0])
            store.roll_back(reasons[0])
            blamed = True
    return blamed
