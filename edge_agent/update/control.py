"""Starts and stops the updater, and implements the remote commands `update`, `rollback` and `pin`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge_agent.config.loader import Config
from edge_agent.errors import UpdateError
from edge_agent.update.agent_release import downloads_of, installer_store
from edge_agent.update.agent_update import AgentStore
from edge_agent.update.check_pace import CheckPace
from edge_agent.update.stores import all_stores_of, config_store_of, stores_of

if TYPE_CHECKING:
    from edge_agent.update.host import Host, Served
    from edge_agent.update.store import Store
    from edge_agent.update.updater import Updater

STOP_TIMEOUT = 0.4


class UpdateControl:
    """Runs an updater where updates are configured.

    Args:
        host: the agent.
        adopt: puts a loaded version into service at once; called in the agent's main thread.
        check_stop: called about twice a second while a version is being tested; raises to cancel that.
    """

    def __init__(
        self, host: "Host", adopt: "Callable[[str, Served | None], None]", check_stop: Callable[[], None]
    ) -> None:
        self._host = host
        self._adopt = adopt
        self._check_stop = check_stop
        self._loaded: Config | None = None
        self._updater: Updater | None = None
        self._pace = CheckPace()

    def start(self, loaded: Config) -> None:
        """Starts checking for updates.

        Args:
            loaded: the configuration as its file states it.
        """
        self._loaded = loaded
        if loaded.settings.update is not None:
            from edge_agent.update.updater import Updater

            self._updater = Updater(loaded, self._host, self._pace)
            self._updater.start()

    def stop(self) -> None:
        """Stops checking; an update in progress continues after the next start."""
        if self._updater is not None:
            self._updater.stop(STOP_TIMEOUT)
            self._updater = None

    def document(self) -> Mapping[str, Any] | None:
        """The state of updates; None where there are none."""
        updater = self._updater  # other threads call this, while the main thread stops it
        return None if updater is None else updater.document()

    def check_now(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The command `update`; with `"again": true`, refused versions are tried again.

        Commands that come while a check is waited for lead to one check.
        """
        if request.get("again") is True and self._loaded is not None:
            for store in all_stores_of(self._loaded):
                store.forget_refusals()
        if self._updater is not None:
            self._updater.check_now()
        return {}

    def pin(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The command `pin`: the active version stays, whatever is released, until it is revoked.

        With `"pinned": false`, new versions are taken again. The version is that of the file of the configuration where
        no release is active.

        Raises:
            UpdateError: nothing follows a channel that the command names.
        """
        store = self._store(request)
        pinned = request.get("pinned", True)
        store.pin(pinned)
        if self._updater is not None:
            self._host.publish_state(self._updater.document())
        return {"pinned": pinned, "version": store.state().name(store.state().active)}

    def _store(self, request: Mapping[str, Any]) -> "Store":
        """Of the model, or of the configuration or the agent (`target`), that a command names."""
        key = "target" if "target" in request else "model"
        if {"target", "model"} <= request.keys():
            raise UpdateError("model and target: expected one of them")
        known = {"model": {}, "target": {}} if self._loaded is None else _followed(self._loaded)
        if (store := known[key].get(str(request.get(key)))) is None:
            others = [f"{name}: {', '.join(stores)}" for name, stores in known.items() if stores]
            raise UpdateError(f"{key}: expected what is updated here ({'; '.join(others)})")
        return store

    def roll_back(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The command `rollback`: back to the previous version, which is on this device.

        A model changes at once, the configuration with a reload, and the agent when the service that installs it has
        switched, which ends this process.

        Raises:
            UpdateError: nothing follows a channel that the command names, or there is no previous version.
        """
        store, loaded = self._store(request), self._loaded
        self.stop()
        try:
            key = store.roll_back("by command")
            if "model" in request:
                name, path = str(request["model"]), None if key is None else store.archive(key)
                self._adopt(name, self._host.load_version(name, path, self._check_stop))
            elif request["target"] == "config":
                self._host.request_reload()
        finally:
            if loaded is not None:
                self.start(loaded)
        return {"version": store.state().name(key)}


def _followed(config: Config) -> dict[str, dict[str, "Store"]]:
    """The stores of what follows a channel, by how a command names it."""
    alone: dict[str, Store] = {}
    if (store := config_store_of(config)) is not None:
        alone["config"] = store
    if config.settings.update is not None and config.settings.update.agent is not None:
        alone["agent"] = AgentStore(downloads_of(config), installer_store())
    return {"model": dict(stores_of(config)), "target": alone}
