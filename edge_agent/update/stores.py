"""The stores of what follows a channel on this device."""

from edge_agent.config.loader import Config
from edge_agent.update.store import Store


def stores_of(config: Config) -> dict[str, Store]:
    """The store of each model that is updated, by the model's name."""
    update = config.settings.update
    return {name: Store(config.updates_path() / "models" / name) for name in update.models} if update else {}


def config_store_of(config: Config) -> Store | None:
    """The store of the configuration; None if it follows no channel."""
    update = config.settings.update
    return None if update is None or update.config is None else Store(config.updates_path() / "config" / "device")


def all_stores_of(config: Config) -> list[Store]:
    """All of them."""
    store = config_store_of(config)
    return [*stores_of(config).values(), *([] if store is None else [store])]
