"""What is done about the active versions before any model loads, when the last run has ended unexpectedly.

A version may end the agent at any age: with a picture that comes only in winter, or a leak. Such a version would be
loaded again and again, and the next check, which finds that it has been revoked, might never come.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from edge_agent.config.loader import Config
from edge_agent.errors import UpdateError
from edge_agent.update.releases import Release, is_revoked
from edge_agent.update.store import Store
from edge_agent.update.stores import all_stores_of, config_store_of, stores_of

log = logging.getLogger(__name__)

# Seconds for which the start waits for the repository.
CHECK_TIMEOUT = 10.0
POLL_EVERY = 0.2


def note_start(config: Config, waiting: Callable[[], None]) -> None:
    """Notes a start of the agent, and leaves versions that have ended it too often, or have been revoked since.

    Where several models are updated, or the configuration as well, nobody knows which one ends the agent: the version
    that was activated last goes first, and the others begin to count again.

    Args:
        config: as its file, and the active configuration of a repository, state it.
        waiting: called about five times a second while the repository is asked; raises to cancel the start.
    """
    update = config.settings.update
    if update is None:
        return
    stores, died = all_stores_of(config), False
    for store in stores:
        try:
            store.repair()
            died |= store.began(update.crash_loop.within)
        except UpdateError as trouble:
            log.error("%s", trouble)
    if not died:
        return
    _leave_crash_loop(stores, update.crash_loop.deaths)
    if any(store.state().active is not None for store in stores):
        _leave_revoked(config, _releases(config, waiting))


def _leave_crash_loop(stores: Sequence[Store], most: int) -> None:
    looping = [store for store in stores if len(store.state().deaths) >= most]
    if not looping:
        return
    latest = max(looping, key=lambda store: store.state().activated_at())
    try:
        state = latest.state()
        reason = f"the agent has ended {len(state.deaths)} times unexpectedly while this version was active"
        log.error("%s: %s: rolling back to the previous version", state.name(state.active), reason)
        latest.roll_back(reason)
        for store in looping:
            store.forget_deaths()
    except UpdateError as trouble:
        log.error("%s", trouble)


def _leave_revoked(config: Config, releases: list[Release]) -> None:
    update = config.settings.update
    assert update is not None  # noqa: S101 - for the type checker
    following = [(name, update.models[name], store) for name, store in stores_of(config).items()]
    if (configuration := config_store_of(config)) is not None:
        following.append(("config", str(update.config), configuration))
    for name, channel, store in following:
        mine = [release for release in releases if release.channel == channel]
        try:
            if is_revoked(mine, store.state().active):
                log.warning("%s: has been revoked: rolling back to the previous version", name)
                store.roll_back("it has been revoked", revoked=[release.key for release in mine if release.revoked])
        except UpdateError as trouble:
            log.error("%s", trouble)


def _releases(config: Config, waiting: Callable[[], None]) -> list[Release]:
    """The releases in the repository; none if it does not answer in time."""
    from edge_agent.update.repository import repository_of

    update = config.settings.update
    assert update is not None  # noqa: S101 - for the type checker
    repository = repository_of(config)
    given_up, found = threading.Event(), list[Release]()

    def check_stop() -> None:
        if given_up.is_set():
            raise UpdateError("given up")

    def ask() -> None:
        try:
            found.extend(repository.releases(check_stop))
        except UpdateError as error:
            if not given_up.is_set():
                log.warning("before the models load, the repository was not read: %s", error)
        except Exception:  # it must not keep the agent from starting
            log.exception("a defect in edge-agent: update check failed")

    thread = threading.Thread(target=ask, name="update at start", daemon=True)
    thread.start()
    try:
        for _ in range(round(CHECK_TIMEOUT / POLL_EVERY)):
            waiting()
            thread.join(POLL_EVERY)
            if not thread.is_alive():
                return found
    finally:
        given_up.set()
    log.warning("%s: no answer for %g s: the models load as they are", update.url, CHECK_TIMEOUT)
    return []
