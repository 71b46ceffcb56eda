"""The daemon: starts what a configuration file states, keeps it running, reloads it, and stops it.

`run` is the whole story. What the agent consists of is in `state`, what it reports in `status`, how others see it in
`presence`, and what a reload changes is decided in `reload`.
"""

import contextlib
import gc
import logging
import queue
import signal
import time
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from edge_agent.config.loader import Config
from edge_agent.daemon import preflight, watchdog
from edge_agent.daemon.battery import Battery
from edge_agent.daemon.controls import Controls
from edge_agent.daemon.main_loop import MainLoop
from edge_agent.daemon.pipeline_health import PipelineHealth
from edge_agent.daemon.presence import Presence
from edge_agent.daemon.reload import Plan, plan
from edge_agent.daemon.state import State
from edge_agent.daemon.status import Reports, in_words
from edge_agent.daemon.thermal import READ_EVERY, Thermal
from edge_agent.daemon.update_host import UpdateHost
from edge_agent.daemon.uplink import Uplink
from edge_agent.errors import ConfigError, EdgeAgentError, UpdateError
from edge_agent.models.loading import AnyModel, load_models
from edge_agent.monitoring.monitoring import Monitoring, Servers
from edge_agent.pipeline import compatibility
from edge_agent.pipeline.poison import PoisonInputs
from edge_agent.pipeline.registry import Pipelines, Prepared
from edge_agent.samples import Timing
from edge_agent.system import heap, limits, systemd
from edge_agent.update.active import give_up_configuration, load_again, load_at_start, with_active
from edge_agent.update.control import UpdateControl
from edge_agent.update.host import Served
from edge_agent.update.stores import all_stores_of

log = logging.getLogger(__name__)

# How often `run(once=True)` looks whether everything is done.
END_CHECK_EVERY = 0.1
# Seconds between two points of the figures that the status page shows.
FIGURES_EVERY = 10.0
# Seconds for which somebody who has changed the configuration on the page waits for its reload.
RELOAD_TIMEOUT = 60.0


class _StopRequestedError(Exception):
    """SIGTERM or SIGINT has come while models were being tested."""


class _Change(NamedTuple):
    """A change to another configuration, or to another version of a model, with all that it needs.

    Attributes:
        fresh: the configuration to change to.
        models: its models.
        todo: what has to be done.
        uplink: the one in use, or one that is to take its place.
        pipelines: those to start.
        servers: those to serve with from then on; None: nothing changes there.
    """

    fresh: Config
    models: dict[str, AnyModel]
    todo: Plan
    uplink: Uplink
    pipelines: list[Prepared]
    servers: Servers | None


class Agent:
    """Everything that runs for one configuration file.

    Args:
        loaded: the configuration.
    """

    def __init__(self, loaded: Config) -> None:
        thermal = Thermal(loaded.settings.thermal)
        self._poison = PoisonInputs(loaded.state_folder() / "poison.json")
        pipelines = Pipelines(lambda: thermal.factor, self._observe, self._poison)
        self._state = State(loaded, loaded, pipelines, thermal, Battery(loaded.settings.battery))
        self._reports = Reports(self._state)
        self._monitoring = Monitoring(self._reports)
        self._loop = MainLoop()
        self._ping = partial(watchdog.ping, pipelines)
        host = UpdateHost(self._state, self._reports, self._loop.call, self._adopt, self._request_reload)
        self._updates = UpdateControl(host, self._adopt, self._ping)
        self._reports.updates, self._reports.reload = self._updates.document, self._reload_now
        self._presence = Presence(self._state, self._reports, self._loop, self._updates, self._request_reload)
        self._controls = Controls(self._state, self._apply_controls, self._presence.announce)
        self._presence.control(self._controls.commands())
        self._stop_signal: signal.Signals | None = None
        self._reload_requested = False
        self._refusal: list[str] = []

    def run(self, *, once: bool = False) -> int:
        """Runs until SIGTERM or SIGINT; returns the exit code.

        Args:
            once: end as soon as every source has ended and every result is delivered.

        Raises:
            ConfigError: a model can't be used.
            EdgeAgentError: the embedded broker can't be started.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGHUP, self._request_reload)
        try:
            self.start()
        except _StopRequestedError:
            self._note_end()
            return 0
        except EdgeAgentError:  # an end in order: no version is to blame for it
            self._note_end()
            raise
        finally:
            gc.enable()  # see `cli`
        systemd.notify_ready()
        systemd.notify_status(self._reports.summary())
        heap.trim()
        self._schedule(once=once)
        self._loop.run()
        if self._stop_signal is not None:
            log.info("%s: stopping", self._stop_signal.name)
        systemd.notify_stopping()
        self.stop()
        failed = [publisher for publisher in self._state.pipelines.publishers.values() if publisher.record.failed]
        return 1 if once and failed else 0

    def _request_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = signal.Signals(number)
        self._loop.stop()

    def _request_reload(self, *_: object) -> None:
        """Any number of signals until the next reload begins make one reload."""
        if not self._reload_requested:
            self._reload_requested = True
            self._loop.call(self.reload)

    def _reload_now(self) -> list[str]:
        """See `AgentStatus.reload`."""
        answer: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

        def reload() -> None:
            self.reload()
            answer.put(self._refusal)

        self._loop.call(reload)
        try:
            return answer.get(timeout=RELOAD_TIMEOUT)
        except queue.Empty:
            return [f"not done within {RELOAD_TIMEOUT:g} s: see the log"]

    def start(self) -> None:
        """Loads the models, connects, and starts the pipelines."""
        state = self._state
        state.loaded, config, state.models = load_at_start(state.loaded, self._load_models, self._while_testing)
        servers = self._monitoring.prepare(state.loaded)
        state.thermal.options, state.battery = config.settings.thermal, Battery(config.settings.battery)
        state.config = self._controls.applied(config)
        self._presence.connect(self._presence.uplink(state.config), restore=True)
        self._monitoring.use(servers)
        self._monitoring.attach()
        state.start_pipelines()
        state.battery.start()
        self._presence.come_online()
        self._updates.start(state.loaded)

    def stop(self) -> None:
        """Stops taking input, finishes and delivers what is in progress, and publishes that the agent is offline."""
        state = self._state
        state.battery.stop()
        self._updates.stop()
        self._note_end()
        self._monitoring.stop()
        state.stop_pipelines(state.pipelines.running)
        self._poison.end()
        self._presence.stop_discovery()
        self._presence.disconnect()
        for name, counts in self.counters().items():
            log.info("%s: %s", name, in_words(counts), extra={"pipeline": name})

    def _note_end(self) -> None:
        for store in all_stores_of(self._state.loaded):
            with contextlib.suppress(UpdateError):  # the disk can't be written
                store.ended()

    def _observe(self, pipeline: str, timing: Timing) -> None:
        self._monitoring.observe(pipeline, timing)

    def counters(self) -> dict[str, dict[str, Any]]:
        """The counters of each pipeline, as published in `stats`."""
        return self._state.pipelines.counters()

    # Periodic actions.

    def _schedule(self, *, once: bool) -> None:
        def stats_interval() -> float:
            return self._state.settings.stats_interval

        def sensor_interval() -> float:
            return min(READ_EVERY, stats_interval())

        self._loop.every(sensor_interval, lambda: self._state.thermal.update(time.monotonic()), "thermal")
        self._loop.every(sensor_interval, self._state.pause_or_resume, "battery")
        health = PipelineHealth(self._state, self._reports)
        self._loop.every(health.interval, health.check, "health")
        self._loop.every(lambda: FIGURES_EVERY, self._monitoring.tick, "figures")
        self._loop.every(stats_interval, self._publish_stats, "stats", at_once=False)
        if (ping_every := systemd.watchdog_interval()) is not None:
            self._loop.every(lambda: ping_every, self._ping, "watchdog")
        if once:
            self._loop.every(lambda: END_CHECK_EVERY, self._end_if_done, "end", at_once=False)

    def _publish_stats(self) -> None:
        if self._reports.stats_are_due():
            self._state.uplink.publish(self._reports.stats())
        systemd.notify_status(self._reports.summary())

    def _end_if_done(self) -> None:
        pipelines = self._state.pipelines
        if not self._state.paused and pipelines.ended and not pipelines.queued():
            self._loop.stop()

    # From one configuration, or one version of a model, to the next.

    def reload(self) -> None:
        """Reads the configuration again. What can fail is tried before anything stops; if it does, nothing changes."""
        self._reload_requested, self._refusal = False, []
        systemd.notify_reloading()
        self._updates.stop()
        loaded: Config | None = None
        try:
            loaded = load_again(self._state.loaded, preflight.check_all)
            change = self._prepare_reload(loaded)
        except _StopRequestedError:
            return
        except Exception as error:
            self._refusal = _refusal(error)
            for problem in self._refusal:
                log.error("%s", problem, exc_info=None if _is_explained(error) else error)
            log.error("the new configuration is invalid: keeping the old one")
            self._give_up_configuration(loaded, error)
        else:
            self._state.loaded = loaded
            self._carry_out(change)
            log.info("configuration reloaded")
        gc.collect()  # frees unused models now, not at some later time
        self._updates.start(self._state.loaded)
        systemd.notify_ready()

    def _prepare_reload(self, loaded: Config) -> "_Change":
        """Everything that the change to a configuration needs and that can fail."""
        fresh = self._controls.applied(with_active(loaded))
        return self._prepare(fresh, self._load_models(fresh))

    def _give_up_configuration(self, loaded: Config | None, error: Exception) -> None:
        """Goes back from a repository's configuration that could not be adopted; the one before goes on running."""
        if loaded is not None and loaded.release != self._state.loaded.release:
            with contextlib.suppress(UpdateError):  # the disk can't be written
                give_up_configuration(loaded, error)

    def _adopt(self, name: str, model: Served | None) -> None:
        """Has the active version of a model serve from the next sample on; it is loaded if a pipeline uses it."""
        loaded: dict[str, AnyModel] = {} if model is None else {name: model}
        self._log_new(loaded)
        self._carry_out(self._prepare(self._fresh(), self._state.models | loaded))

    def _apply_controls(self) -> None:
        """Restarts the pipelines whose threshold has been changed."""
        self._carry_out(self._prepare(self._fresh(), self._state.models))

    def _fresh(self) -> Config:
        """The configuration as it is to be used now."""
        return self._controls.applied(with_active(self._state.loaded))

    def _prepare(self, fresh: Config, models: dict[str, AnyModel]) -> "_Change":
        state = self._state
        todo = plan(state.settings, fresh.settings, state.pipelines.running, state.models, models)
        uplink = self._presence.uplink(fresh) if todo.reconnect else state.uplink
        try:
            pipelines = state.prepare_pipelines(todo.start, fresh, models, uplink)
            servers = self._monitoring.prepare(fresh) if todo.restart_monitoring else None
        except BaseException:
            if todo.reconnect:
                uplink.stop_embedded()
            raise
        return _Change(fresh, models, todo, uplink, pipelines, servers)

    def _carry_out(self, change: "_Change") -> None:
        state, todo, fresh, models = self._state, change.todo, change.fresh, change.models
        log.debug("carrying out %s", todo)
        state.stop_pipelines(todo.stop)
        for name in todo.retire:
            state.models[name].retire(models.get(name))
        if todo.discovery != "keep":
            self._presence.stop_discovery(withdraw=todo.discovery == "withdraw")
        if todo.reconnect:
            self._presence.disconnect(change.uplink)
        state.config, state.models = fresh, models
        state.thermal.options = fresh.settings.thermal
        if todo.restart_battery:
            state.battery.stop()
            state.battery = Battery(fresh.settings.battery)
            state.battery.start()
        if todo.reconnect:
            self._presence.connect(change.uplink, restore=False)
        state.pipelines.switch(todo.switch, models)
        self._monitoring.attach()
        state.pipelines.start(change.pipelines)
        if change.servers is not None:
            self._monitoring.use(change.servers)
        self._presence.come_online()

    def _load_models(self, wanted: Config) -> dict[str, AnyModel]:
        """The models of a configuration; those in use are taken over where they have not changed."""
        loaded = load_models(wanted, self._state.models, waiting=self._while_testing)
        compatibility.check(wanted, loaded)
        self._log_new(loaded)
        return loaded

    def _log_new(self, loaded: Mapping[str, AnyModel]) -> None:
        for name, model in loaded.items():
            if self._state.models.get(name) is not model:
                log.info("%s: %s", name, model.describe())
                model.when_moved(self._presence.announce)
                if model.fallback:
                    log.warning("%s: runs on %s, since %s", name, model.engine.accelerator, model.fallback)

    def _while_testing(self) -> None:
        """Keeps the watchdog and signals served while a model's self-test runs."""
        if self._stop_signal is not None:
            raise _StopRequestedError
        self._ping()


def _refusal(error: Exception) -> list[str]:
    """What is wrong, for the user."""
    if isinstance(error, ConfigError):
        return list(error.problems)
    if why := limits.explained(error):
        return [why]
    return [str(error)] if _is_explained(error) else ["a defect in edge-agent"]


def _is_explained(error: Exception) -> bool:
    """Whether an error says all that a user needs; else it is a defect."""
    return isinstance(error, EdgeAgentError | OSError) or bool(limits.explained(error))
