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
from edge_agent.update.configuration import load_active, reason_of
from edge_agent.update.store import Store
from edge_agent.update.stores import config_store_of, stores_of

Loaded = TypeVar("Loaded")

log = logging.getLogger(__name__)


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
) -> tuple[Config, Config, Loaded]:
    """Loads what is active; what can no longer be loaded, or has ended the agent too often, is rolled back.

    Args:
        config: as its file, and the active configuration of a repository, state it.
        load: loads the models of a configuration.
        waiting: called about five times a second while the repository is asked; raises to cancel the start.

    Returns:
        The configuration, which may be another one then; the same with the active versions of models; the models.

    Raises:
        ConfigError: a configured model can't be loaded.
    """
    note_start(config, waiting)
    while True:
        config = _as_active(config)
        stores = stores_of(config)
        wanted = with_active(config)
        try:
            return config, wanted, load(wanted)
        except ConfigError as error:
            try:
                if not (_rolled_back(wanted, stores, error) or give_up_configuration(config, error)):
                    raise
            except UpdateError as trouble:
                log.error("%s: using the configured models", trouble)
                return config, config, load(config)


def load_again(config: Config, check: Callable[[Config], None]) -> Config:
    """What a reload takes. A release that is in use is not blamed for what the device's own file has become.

    Args:
        config: in use.
        check: raises ConfigError for a configuration that can't be used.

    Raises:
        ConfigError: the configuration can't be used.
    """
    store = config_store_of(config)
    state = None if store is None else store.state()
    in_use = state is None or state.active is None or config.release == state.name(state.active)
    return load_active(config.path, check, keep=in_use)


def _as_active(config: Config) -> Config:
    """The configuration again, if another release of it is the active one by now."""
    store = config_store_of(config)
    if store is None or (state := store.state()).active is None:
        return config if store is None or not config.release else load_active(config.path)
    return config if config.release == state.name(state.active) else load_active(config.path)


def give_up_configuration(config: Config, error: Exception) -> bool:
    """Goes back from the release of a configuration because of an error; returns whether there was one in use.

    Raises:
        UpdateError: the disk can't be written.
    """
    store = config_store_of(config)
    if store is None or not config.release or store.state().active is None:
        return False
    log.error("%s: going back to the configuration before", config.release)
    store.roll_back(reason_of(error))
    return True


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
