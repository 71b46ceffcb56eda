"""Updates the models of a device, step by step. Each step is published, and may be interrupted by a power cut.

    check → download → verify → try → shadow → activate → probation → commit

`Updater._update` shows all of it. Progress is kept on the disk (`store`): after a stop, a reload or a power cut, an
update starts at the top again, and skips the steps that are done.
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
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError, UpdateError
from edge_agent.models.model import Model
from edge_agent.models.variants import wanted
from edge_agent.samples import timestamp
from edge_agent.system import limits
from edge_agent.system.units import format_size
from edge_agent.update import probation
from edge_agent.update.active import stores_of
from edge_agent.update.check_pace import CheckPace
from edge_agent.update.host import Host, RefusedError, UndecidedError, inference_ms, resident_mb, work_of
from edge_agent.update.releases import Release, choose, is_revoked, of_machine
from edge_agent.update.repository import Repository
from edge_agent.update.shadow import run_beside

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


class Updater:
    """Checks for releases, and puts them into service, in a thread of its own.

    Args:
        config: as its file states it; it has an `update` section.
        host: the agent.
        pace: of the checks, also of those of earlier updaters.
    """

    def __init__(self, config: Config, host: Host, pace: CheckPace) -> None:
        assert config.settings.update is not None  # noqa: S101 - for the type checker
        self._options = config.settings.update
        self._device_id = config.settings.device_id
        self._host = host
        self._pace = pace
        self._stores = stores_of(config)
        self._accelerators = {name: config.settings.models[name].accelerators for name in self._stores}
        root = config.resolve(self._options.root)
        self._repository = Repository(self._options.url, root, config.updates_path() / "metadata")
        self._changed = threading.Condition()
        self._stopping = self._check_requested = False
        self._steps = {name: _last_step(store.state().history) for name, store in self._stores.items()}
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
            "models": {name: self._facts(name) for name in self._stores},
        }

    def _facts(self, name: str) -> dict[str, Any]:
        state = self._stores[name].state()
        active = state.versions.get(state.active or "")
        return {
            "channel": self._options.models[name],
            "active": active and {key: active[key] for key in ("version", "number", "sha256")},
            "on_probation": state.on_probation,
            "pinned": state.pinned,
            "refused": {
                facts["version"]: facts["reason"] for facts in list(state.refused.values())[-MAX_REFUSED_PUBLISHED:]
            },
            **self._steps[name],
        }

    # Everything below runs in the updater's thread.

    def _run(self) -> None:
        try:
            self._host.publish_state(self.document())
            for name in self._stores:
                self._guarded(name, self._see_through_probation)
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
            for name, channel in self._options.models.items():
                self._guarded(name, partial(self._update, [one for one in releases if one.channel == channel]))

    def _guarded(self, name: str, task: Callable[[str], None]) -> None:
        """Runs a task for one model. A failure is published, and does not affect the other models."""
        self._check_stop()
        try:
            task(name)
        except EdgeAgentError as error:
            self._step(name, "failed", self._steps[name].get("version", ""), str(error))
        except _StoppedError:
            raise
        except Exception as error:
            log.exception("%s: a defect in edge-agent: the update failed", name)
            self._step(name, "failed", self._steps[name].get("version", ""), limits.in_words(error))

    def _step(self, name: str, step: str, version: str, reason: str = "", **facts: Any) -> None:
        """Logs and publishes that a step has been reached."""
        self._check_stop()
        (log.warning if reason else log.info)("%s: update to %s: %s%s", name, version, step, reason and f": {reason}")
        self._steps[name] = {"step": step, "version": version, "reason": reason or None, **facts}
        self._host.publish_state(self.document())

    def _update(self, releases: Sequence[Release], name: str) -> None:
        """One update of one model, from the choice of a release to its commit."""
        store = self._stores[name]
        if self._host.serving(name) is None:
            raise UpdateError(f"{name}: no pipeline uses it, or it is a language model: it is not updated")
        if is_revoked(releases, store.state().active):
            self._roll_back(name, "it has been revoked", revoked=[one.key for one in releases if one.revoked])
        state = store.state()
        if state.pinned:
            return
        here = of_machine(releases, wanted(self._accelerators[name]))
        release = choose(here, self._device_id, self._options.labels, state.active, state.refused)
        if release is None:
            return
        self._download(name, release)
        model: Model | None = None
        memory = resident_mb()
        try:
            model = self._try(name, release)
            memory = resident_mb() - memory
            shown = self._run_shadow(name, release, model)
        except RefusedError as refusal:
            if model is not None:
                model.retire()
            store.refuse(release.key, str(refusal))
            self._step(name, "refused", release.name, str(refusal))
            return
        except UndecidedError as reason:
            if model is not None:
                model.retire()
            store.undecided(release.key, str(reason))
            self._step(name, "undecided", release.name, str(reason))
            return
        self._check_stop()
        store.activate(release.key, inference_ms(work_of(self._host.serving(name))))
        self._adopt(name, model)
        self._step(name, "activated", release.name, shadow=shown and shown | {"memory_mb": round(memory, 1)})
        gc.collect()  # frees unused models now, not at some later time
        self._see_through_probation(name)

    def _download(self, name: str, release: Release) -> None:
        """Downloads the archive, unless it is on the disk."""
        store = self._stores[name]
        store.clear_parts(keep=release.key)
        if store.has(release.key):
            return
        store.make_way(release.key)
        size, part = release.size, store.part(release.key)
        if size > self._options.max_size:
            bound = format_size(self._options.max_size)
            raise UpdateError(f"{release.name} has {format_size(size)}, more than update.max_size allows, {bound}")
        self._step(name, "downloading", release.name)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(part.parent).free
        except OSError as error:
            raise UpdateError(f"{part.parent}: {error.strerror}") from None
        if free < size * ROOM:
            needed = format_size(size * ROOM)
            raise UpdateError(f"{part.parent}: {format_size(free)} are free, {release.name} needs {needed}: make room")
        self._repository.fetch(release, part, self._options.max_rate, self._check_stop)
        self._step(name, "verified", release.name)
        store.take_in(release)

    def _try(self, name: str, release: Release) -> Model:
        """Loads the new version, which must have the same task as the active one."""
        store = self._stores[name]
        self._step(name, "trying", release.name)
        store.begin(release.key)
        try:
            model = self._host.load_version(name, store.archive(release.key), self._check_stop)
        except ConfigError as error:
            raise RefusedError("; ".join(error.problems)) from None
        active = self._host.serving(name)
        if active is None:
            raise UpdateError(f"{name}: no pipeline uses it any more")
        if model is None or model.task != active.task:
            task = "text" if model is None else model.task
            raise RefusedError(f"its task is {task}, that of the active version {active.task}")
        try:
            self._evaluate(model)
        except RefusedError:
            model.retire()
            raise
        return model

    def _evaluate(self, model: Model) -> None:
        """Has the new version prove how right it is, on the labelled data in its bundle, if it has some."""
        if model.source.evaluation is None:
            return
        from edge_agent.evaluation import packed

        try:
            found = packed.check(model, model.source.evaluation, self._check_stop)
        except ModelError as error:
            raise RefusedError(str(error)) from None
        if refusal := packed.refusal(found):
            raise RefusedError(refusal)

    def _run_shadow(self, name: str, release: Release, model: Model) -> dict[str, Any] | None:
        options, max_error_rate = self._options.shadow, self._options.probation.max_error_rate
        if not options.samples:
            return None
        self._step(name, "shadow", release.name)
        return run_beside(self._host, name, model, options, max_error_rate, self._check_stop)

    def _see_through_probation(self, name: str) -> None:
        """Watches the active version if it is on probation, and commits it or rolls it back."""
        store = self._stores[name]
        state = store.state()
        if state.active is None or not state.on_probation:
            return
        version = state.name(state.active)
        self._step(name, "probation", version, **{k: v for k, v in self._steps[name].items() if k == "shadow"})
        try:
            probation.watch(self._host, name, state.inference_ms, self._options.probation, self._pause)
        except RefusedError as refusal:
            self._roll_back(name, str(refusal))
        else:
            self._check_stop()
            store.commit(state.active)
            self._step(name, "committed", version)

    def _roll_back(self, name: str, reason: str, revoked: Sequence[str] = ()) -> None:
        """Rolls back to the last good version; if that can't be loaded, to the one before it."""
        store = self._stores[name]
        state = store.state()
        key = store.roll_back(reason, revoked=revoked)
        while True:
            try:
                model = self._host.load_version(name, store.archive(key) if key else None, self._check_stop)
                break
            except ConfigError as error:
                if key is None:
                    raise
                key = store.roll_back("; ".join(error.problems), revoked=revoked)
        self._adopt(name, model)
        self._step(name, "rolled back", state.name(state.active), reason)

    def _adopt(self, name: str, model: Model | None) -> None:
        done = self._host.adopt(name, model)
        while not done.wait(0.1):
            self._check_stop()


def _last_step(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The step that was reached before this start."""
    if not history:
        return {"step": "idle", "version": None, "reason": None}
    return {"step": history[-1]["step"], "version": history[-1]["version"], "reason": history[-1].get("reason")}
