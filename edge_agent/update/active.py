"""Which version of each model is active: the configured one, or the one that an update has activated."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError, MissingExtraError, UpdateError
from edge_agent.update.at_start import note_start
from edge_agent.update.store import Store

Loaded = TypeVar("Loaded")

log = logging.getLogger(__name__)


def stores_of(config: Config) -> dict[str, Store]:
    """The store of each model that is updated, by the model's name."""
    update = config.settings.update
    return {name: Store(config.updates_path() / "models" / name) for name in update.models} if update else {}


def with_active(config: Config) -> Config:
    """The configuration, with the active versions in place of the configured ones.

    Raises:
        ConfigError: updates are configured, but the package that they need is not installed.
    """
    if config.settings.update is None:
        return config
    try:
        import tuf  # noqa: F401 - reports a missing package now, not at the first check
    except ImportError as error:
        missing = MissingExtraError("updating models", "update", error)
        raise ConfigError([f"{config.where('update')}: {missing}"]) from None
    for name, store in stores_of(config).items():
        if (key := store.state().active) is not None:
            config = with_version(config, name, version_of(config.settings.models[name], store.archive(key)))
    return config


def with_version(config: Config, name: str, version: settings.Model) -> Config:
    """The configuration, with other settings for one model."""
    models = config.settings.models | {name: version}
    return replace(config, settings=config.settings.model_copy(update={"models": models}))


def version_of(options: settings.Model, archive: Path) -> settings.Model:
    """The settings of a model, for another version of it."""
    return options.model_copy(update={"path": archive.absolute()})


def load_at_start(
    config: Config, load: Callable[[Config], Loaded], waiting: Callable[[], None]
) -> tuple[Config, Loaded]:
    """Loads the active versions; one that can no longer be loaded, or has ended the agent too often, is rolled back.

    Args:
        config: as its file states it.
        load: loads the models of a configuration.
        waiting: called about five times a second while the repository is asked; raises to cancel the start.

    Raises:
        ConfigError: a configured model can't be loaded.
    """
    stores = stores_of(config)
    if stores:
        note_start(config, stores, waiting)
    while True:
        wanted = with_active(config)
        try:
            return wanted, load(wanted)
        except ConfigError as error:
            try:
                if not _rolled_back(wanted, stores, error):
                    raise
            except UpdateError as trouble:
                log.error("%s: using the configured models", trouble)
                return config, load(config)


def _rolled_back(wanted: Config, stores: Mapping[str, Store], error: ConfigError) -> bool:
    """Rolls back the active versions that an error is about; returns whether there was any."""
    done = False
    for name, store in stores.items():
        reasons = [problem for problem in error.problems if problem.startswith(f"{wanted.where('models', name)}: ")]
        if reasons and store.state().active is not None:
            log.error("%s: rolling back to the previous version", reasons[0])
            store.roll_back(reasons[0])
            done = True
    return done
