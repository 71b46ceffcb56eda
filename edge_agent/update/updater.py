"""Updates what follows a channel, step by step. Each step is published, and may be interrupted by a power cut.

    check → download → verify → try → shadow → activate → probation → commit

`Updater._update` shows all of it; what differs between models and the configuration is in `model_update` and
`config_update`. Progress is kept on the disk (`store`): after a stop, a reload or a power cut, an update starts at the
top again, and skips the steps that are done.
"""

import gc
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from edge_agent.config.loader import Config
from edge_agent.errors import EdgeAgentError, UpdateError
from edge_agent.samples import timestamp
from edge_agent.system import limits
from edge_agent.system.units import format_size
from edge_agent.update.agent_release import downloads_of, installer_store
from edge_agent.update.agent_update import AgentUpdate
from edge_agent.update.check_pace import CheckPace
from edge_agent.update.config_update import ConfigUpdate
from edge_agent.update.host import Host, RefusedError, UndecidedError
from edge_agent.update.model_update import ModelUpdate
from edge_agent.update.releases import Release, choose, is_revoked
from edge_agent.update.repository import repository_of
from edge_agent.update.stores import config_store_of, stores_of
from edge_agent.update.subject import Subject

log = logging.getLogger(__name__)

# Seconds after the start within which the first check comes, at random, so that not all devices check at once.
FIRST_CHECK_WITHIN = 300.0
JITTER = 0.2
# The latest refused versions are published.
MAX_REFUSED_PUBLISHED = 10
# Free disk space that an archive needs, including the unpacked files, in multiples of its size.
ROOM = 3


class _StoppedError(Exception):
    """The updater has been asked to stop."""


class _Progress:
    """Of one subject; see `subject.Progress`."""

    def __init__(self, updater: "Updater", subject: Subject) -> None:
        self.check_stop = updater._check_stop  # noqa: SLF001 - a part of it
        self.pause = updater._pause  # noqa: SLF001
        self.step = partial(updater._step, subject)  # noqa: SLF001


class Updater:
    """Checks for releases, and puts them into service, in a thread of its own.

    Args:
        config: as its file, and the active configuration of a repository, state it; it has an `update` section.
        host: the agent.
        pace: of the checks, also of those of earlier updaters.
    """

    def __init__(self, config: Config, host: Host, pace: CheckPace) -> None:
        assert config.settings.update is not None  # noqa: S101 - for the type checker
        self._options = options = config.settings.update
        self._device_id = config.settings.device_id
        self._host = host
        self._pace = pace
        self._models = [
            ModelUpdate(name, options.models[name], store, config.settings.models[name].accelerators, options, host)
            for name, store in stores_of(config).items()
        ]
        store = config_store_of(config)
        configuration = None if store is None else ConfigUpdate(str(options.config), store, config, host)
        agent = None
        if options.agent is not None:
            agent = AgentUpdate(options.agent, downloads_of(config), installer_store())
        # The agent first, which may have to leave a bad version; then the configuration, which may bring models.
        self._alone: list[Subject] = [one for one in (agent, configuration) if one is not None]
        self._subjects: list[Subject] = [*self._alone, *self._models]
        self._repository = repository_of(config)
        self._changed = threading.Condition()
        self._stopping = self._check_requested = False
        self._steps = {one: _last_step(one.store.state().history) for one in self._subjects}
        self._error, self._checked_at = "", ""
        self._thread = threading.Thread(target=self._run, name="update", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the thread at any step; the update continues after the next start.

        Args:
            timeout: seconds to wait; a step that can't be interrupted ends by itself later, and no other follows.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def check_now(self) -> None:
        """Checks for releases now."""
        with self._changed:
            self._check_requested = True
            self._changed.notify_all()

    def document(self) -> dict[str, Any]:
        """The state of updates, as published."""
        return {
            "at": timestamp(time.time()),
            "checked_at": self._checked_at or None,
            "error": self._error or None,
            "labels": list(self._options.labels),
            "models": {one.name: self._facts(one) for one in self._models},
            **{one.name: self._facts(one) for one in self._alone},
        }

    def _facts(self, subject: Subject) -> dict[str, Any]:
        state = subject.store.state()
        active = state.versions.get(state.active or "")
        return {
            "channel": subject.channel,
            "active": active and {key: active[key] for key in ("version", "number", "sha256")},
            "on_probation": state.on_probation,
            "pinned": state.pinned,
            "refused": {
                facts["version"]: facts["reason"] for facts in list(state.refused.values())[-MAX_REFUSED_PUBLISHED:]
            },
            **self._steps[subject],
        }

    # Everything below runs in the updater's thread.

    def _run(self) -> None:
        try:
            self._host.publish_state(self.document())
            for subject in self._subjects:
                self._guarded(subject, self._see_through_probation)
            self._wait(random.uniform(0, min(self._options.interval, FIRST_CHECK_WITHIN)))  # noqa: S311 - spreads load
            while True:
                self._pause(self._pace.left(self._options.interval))
                self._check()
                self._wait(self._options.interval * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - spreads load
        except _StoppedError:
            pass

    def _wait(self, seconds: float) -> None:
        """Waits for the next check, or for `check_now`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._check_requested, seconds)
            self._check_requested = False
        self._check_stop()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)
        self._check_stop()

    def _check_stop(self, *_: object) -> None:
        """Raises if the updater has been asked to stop."""
        if self._stopping:
            raise _StoppedError

    def _check(self) -> None:
        self._check_requested = False  # this check answers all requests so far
        self._pace.began()
        try:
            releases = self._repository.releases(self._check_stop)
        except UpdateError as error:
            self._check_stop()  # the reason, if the client was interrupted
            log.warning("update check failed: %s", error)
            self._error = str(error)
        except Exception as error:
            log.exception("a defect in edge-agent: update check failed")
            self._error = limits.in_words(error)
        else:
            self._error, self._checked_at = "", timestamp(time.time())
        self._host.publish_state(self.document())
        if not self._error:
            for subject in self._subjects:
                of_channel = [one for one in releases if one.channel == subject.channel]
                self._guarded(subject, partial(self._update, of_channel))

    def _guarded(self, subject: Subject, task: Callable[[Subject], None]) -> None:
        """Runs a task for one subject. A failure is published, and does not affect the others."""
        self._check_stop()
        try:
            task(subject)
        except EdgeAgentError as error:
            self._step(subject, "failed", self._steps[subject].get("version", ""), str(error))
        except _StoppedError:
            raise
        except Exception as error:
            log.exception("%s: a defect in edge-agent: the update failed", subject.name)
            self._step(subject, "failed", self._steps[subject].get("version", ""), limits.in_words(error))

    def _step(self, subject: Subject, step: str, version: str, reason: str = "", **facts: Any) -> None:
        """Logs and publishes that a step has been reached."""
        self._check_stop()
        level = logging.WARNING if reason else logging.INFO
        log.log(level, "%s: update to %s: %s%s", subject.name, version, step, reason and f": {reason}")
        self._steps[subject] = {"step": step, "version": version, "reason": reason or None, **facts}
        self._host.publish_state(self.document())

    def _update(self, releases: Sequence[Release], subject: Subject) -> None:
        """One update of one subject, from the choice of a release to its commit."""
        store, progress = subject.store, _Progress(self, subject)
        subject.check_possible()
        if is_revoked(releases, store.state().active):
            self._roll_back(subject, "it has been revoked", revoked=[one.key for one in releases if one.revoked])
        state = store.state()
        if state.pinned:
            return
        usable = subject.usable(releases)
        release = choose(usable, self._device_id, self._options.labels, state.active, state.refused)
        if release is None:
            return
        self._download(subject, release)
        self._step(subject, "trying", release.name)
        store.begin(release.key)
        try:
            trial = subject.test(release, progress)
        except RefusedError as refusal:
            store.refuse(release.key, str(refusal))
            self._step(subject, "refused", release.name, str(refusal))
            return
        except UndecidedError as reason:
            store.undecided(release.key, str(reason))
            self._step(subject, "undecided", release.name, str(reason))
            return
        self._check_stop()
        store.activate(release.key, subject.work_ms())
        subject.adopt(trial, progress)
        self._step(subject, "activated", release.name, **trial.facts)
        gc.collect()  # frees unused models now, not at some later time
        self._see_through_probation(subject)

    def _download(self, subject: Subject, release: Release) -> None:
        """Downloads the archive, unless it is on the disk."""
        store = subject.store
        store.clear_parts(keep=release.key)
        if store.has(release.key):
            return
        store.make_way(release.key)
        size, part = release.size, store.part(release.key)
        if size > self._options.max_size:
            bound = format_size(self._options.max_size)
            raise UpdateError(f"{release.name} has {format_size(size)}, more than update.max_size allows, {bound}")
        self._step(subject, "downloading", release.name)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(part.parent).free
        except OSError as error:
            raise UpdateError(f"{part.parent}: {error.strerror}") from None
        if free < size * ROOM:
            needed = format_size(size * ROOM)
            raise UpdateError(f"{part.parent}: {format_size(free)} are free, {release.name} needs {needed}: make room")
        self._repository.fetch(release, part, self._options.max_rate, self._check_stop)
        self._step(subject, "verified", release.name)
        store.take_in(release)

    def _see_through_probation(self, subject: Subject) -> None:
        """Watches the active version if it is on probation, and commits it or rolls it back."""
        store = subject.store
        state = store.state()
        if state.active is None or not state.on_probation:
            return
        version = state.name(state.active)
        facts = {key: value for key, value in self._steps[subject].items() if key in ("shadow", "trial")}
        self._step(subject, "probation", version, **facts)
        try:
            subject.watch(_Progress(self, subject))
        except RefusedError as refusal:
            self._roll_back(subject, str(refusal))
        else:
            self._check_stop()
            store.commit(state.active)
            self._step(subject, "committed", version)

    def _roll_back(self, subject: Subject, reason: str, revoked: Sequence[str] = ()) -> None:
        """Rolls back to the last good version; if that can't be used, to the one before it."""
        store = subject.store
        state = store.state()
        key = store.roll_back(reason, revoked=revoked)
        subject.go_back(key, partial(store.roll_back, revoked=revoked), _Progress(self, subject))
        self._step(subject, "rolled back", state.name(state.active), reason)


def _last_step(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The step that was reached before this start."""
    if not history:
        return {"step": "idle", "version": None, "reason": None}
    return {"step": history[-1]["step"], "version": history[-1]["version"], "reason": history[-1].get("reason")}
