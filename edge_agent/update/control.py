"""Starts and stops the updater, and implements the remote commands `update`, `rollback` and `pin`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge_agent.config.loader import Config
from edge_agent.errors import UpdateError
from edge_agent.update.active import stores_of
from edge_agent.update.check_pace import CheckPace

if TYPE_CHECKING:
    from edge_agent.models.model import Model
    from edge_agent.update.host import Host
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
        self, host: "Host", adopt: "Callable[[str, Model | None], None]", check_stop: Callable[[], None]
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
            for store in stores_of(self._loaded).values():
                store.forget_refusals()
        if self._updater is not None:
            self._updater.check_now()
        return {}

    def pin(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The command `pin`: the active version stays, whatever is released, until it is revoked.

        With `"pinned": false`, new versions are taken again. The version is that of the file of the configuration where
        no release is active.

        Raises:
            UpdateError: there is no such model.
        """
        store = self._store(request)
        pinned = request.get("pinned", True)
        store.pin(pinned)
        if self._updater is not None:
            self._host.publish_state(self._updater.document())
        return {"pinned": pinned, "version": store.state().name(store.state().active)}

    def _store(self, request: Mapping[str, Any]) -> "Store":
        stores = {} if self._loaded is None else stores_of(self._loaded)
        name = str(request.get("model"))
        if name not in stores:
            raise UpdateError(f"model: expected one that is updated here ({', '.join(stores)})")
        return stores[name]

    def roll_back(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The command `rollback`: back to the previous version, which is on this device.

        Raises:
            UpdateError: there is no such model, or no previous version.
        """
        store, name, loaded = self._store(request), str(request.get("model")), self._loaded
        self.stop()
        try:
            key = store.roll_back("by command")
            path = None if key is None else store.archive(key)
            self._adopt(name, self._host.load_version(name, path, self._check_stop))
        finally:
            if loaded is not None:
                self.start(loaded)
        return {"version": store.state().name(key)}
