"""The daemon: builds pipelines from settings, starts and stops them, reloads, reports on itself."""

import contextlib
import gc
import json
import logging
import queue
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import __version__, settings
from edge_agent.config import loader
from edge_agent.config.loader import Config
from edge_agent.daemon import status as self_report
from edge_agent.daemon.battery import Battery
from edge_agent.daemon.remote_commands import RemoteCommands
from edge_agent.daemon.thermal import LOOK_EVERY, Thermal
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.models.loading import AnyModel, ModelKey, key_of, load_models
from edge_agent.models.model import Model
from edge_agent.monitoring.monitoring import Monitoring
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Will
from edge_agent.mqtt.outbox import Notice, Outbox
from edge_agent.pipeline import compatibility
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.pipeline.registry import DELIVER_TIMEOUT, HUNG_AFTER, Broker, Pipelines
from edge_agent.publish.publisher import Device
from edge_agent.samples import Result
from edge_agent.sources.observer import Follower
from edge_agent.system import heap, systemd
from edge_agent.system.clock import Clock
from edge_agent.update.active import load_at_start, stores_of, version_of, with_active, with_version
from edge_agent.update.control import Updates

if TYPE_CHECKING:
    from edge_agent.home_assistant.discovery import Discovery
    from edge_agent.mqtt.embedded import EmbeddedBroker

log = logging.getLogger(__name__)

FIRST_CONNECT_TIMEOUT = 15.0
# A signal that comes while something else is waited for waits so long.
SIGNAL_PATIENCE = 0.2


class _AskedToStopError(Exception):
    """SIGTERM or SIGINT has come while models were on trial."""


class Agent:
    """Everything that runs for one configuration file.

    Args:
        loaded: the configuration.
    """

    def __init__(self, loaded: Config) -> None:
        self._boot_id = uuid.uuid4().hex[:8]
        self._loaded = loaded
        self._config = loaded  # with the versions of models that are active in the place of those that it names
        self._started = time.monotonic()
        self._clock = Clock()
        self._thermal = Thermal(loaded.settings.thermal)
        self._battery = Battery(loaded.settings.battery)
        self._paused = False
        self._models: dict[ModelKey, AnyModel] = {}
        self._monitoring = Monitoring(self)
        self._pipelines = Pipelines(lambda: self._thermal.factor, self._monitoring.observe)
        self._performance = self_report.Performance()
        self._updates = Updates(self, self._adopt, self._ping_watchdog)
        # Signals, and what other threads want the main thread to do.
        self._events: queue.SimpleQueue[signal.Signals | Callable[[], None]] = queue.SimpleQueue()
        self._asked_to_stop = False
        self._online = False
        self._embedded: EmbeddedBroker | None = None
        self._discovery: Discovery | None = None

    def run(self, *, once: bool = False) -> int:
        """Runs until SIGTERM or SIGINT; returns the exit code.

        Args:
            once: end as soon as every source has ended and every result is delivered.

        Raises:
            ConfigError: a model can't be used.
            EdgeAgentError: the embedded broker can't be started.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signalled(signal.Signals(received)))
        try:
            self.start()
        except _AskedToStopError:
            return 0
        finally:
            gc.enable()  # see `cli`
        systemd.notify_ready()
        systemd.notify_status(self.summary())
        heap.trim()
        self._serve(once=once)
        systemd.notify_stopping()
        self.stop()
        failed = [publisher for publisher in self._pipelines.publishers.values() if publisher.record.failed]
        return 1 if once and failed else 0

    def _signalled(self, received: signal.Signals) -> None:
        self._asked_to_stop |= received != signal.SIGHUP
        self._events.put(received)

    def start(self) -> None:
        """Loads the models, connects, and starts the pipelines."""
        self._monitoring.open(self._loaded)
        self._config, self._models = load_at_start(self._loaded, self._load_models)
        self._connect(restore=True)
        self._start_pipelines()
        self._monitoring.start()
        self._battery.start()
        self._come_online()
        self._updates.start(self._loaded)

    def stop(self) -> None:
        """Stops taking input, finishes and delivers what is in progress, and says goodbye."""
        self._battery.stop()
        self._updates.stop()
        for store in stores_of(self._loaded).values():
            with contextlib.suppress(UpdateError):  # of a disk that takes nothing
                store.ended()
        self._monitoring.stop()
        self._stop_pipelines(list(self._pipelines.running))
        if self._discovery is not None:
            self._discovery.stop()
        self._disconnect()
        for name, counts in self.counters().items():
            log.info("%s: %s", name, self_report.in_words(counts), extra={"pipeline": name})

    def _serve(self, *, once: bool) -> None:
        next_stats = time.monotonic() + self._config.settings.stats_interval
        ping_every = systemd.watchdog_interval()
        next_ping = next_look = time.monotonic()
        while True:
            now = time.monotonic()
            moments = [next_stats, next_look, *([next_ping] if ping_every else []), *([now + 0.1] if once else [])]
            try:
                received = self._events.get(timeout=max(0.0, min(moments) - now))
            except queue.Empty:
                pass
            else:
                if not isinstance(received, signal.Signals):
                    received()
                elif received == signal.SIGHUP:
                    self.reload()
                else:
                    log.info("%s: stopping", received.name)
                    return
            now = time.monotonic()
            if now >= next_look:
                next_look = now + min(LOOK_EVERY, self._config.settings.stats_interval)
                self._thermal.look(now)
                self._heed_the_battery()
            if now >= next_stats:
                self._publish_stats()
                systemd.notify_status(self.summary())
                next_stats = now + self._config.settings.stats_interval
            if ping_every and now >= next_ping:
                next_ping = now + ping_every
                self._ping_watchdog()
            if once and not self._paused and self._pipelines.ended and not self._pipelines.queued():
                return

    def reload(self) -> None:
        """Reads the configuration again. If it is not valid, or a model can't be loaded, everything stays as it is."""
        systemd.notify_reloading()
        self._updates.stop()
        try:
            loaded = loader.load(self._config.path)
            fresh = with_active(loaded)
            fresh_models = self._load_models(fresh)
        except ConfigError as error:
            for problem in error.problems:
                log.error("%s", problem)
            log.error("the new configuration is refused, the old one goes on")
        except _AskedToStopError:
            return
        else:
            self._loaded = loaded
            self._change_to(fresh, fresh_models)
            gc.collect()  # frees the models that nothing uses any more, now rather than some time
            log.info("the configuration has been reloaded")
        self._updates.start(self._loaded)
        systemd.notify_ready()

    def _change_to(self, fresh: Config, fresh_models: dict[ModelKey, AnyModel]) -> None:
        old = self._config
        same_broker = all(
            getattr(old.settings, key) == getattr(fresh.settings, key) for key in ("device_id", "mqtt", "outbox")
        ) and (old.settings.update is None) == (fresh.settings.update is None)
        changed = [
            name
            for name, pipeline in self._pipelines.running.items()
            if not same_broker
            or fresh.settings.pipelines.get(name) != pipeline.options
            or not self._pipelines.can_switch(name, fresh_models[key_of(pipeline.options)])
        ]
        self._stop_pipelines(changed)
        for key, model in self._models.items():
            if fresh_models.get(key) is not model:
                model.retire()
        if self._discovery is not None and not (same_broker and _seen_at(old) == _seen_at(fresh)):
            self._discovery.stop(withdraw=_seen_at(old) != _seen_at(fresh))
            self._discovery = None
        if not same_broker:
            self._disconnect()
        if old.settings.battery != fresh.settings.battery:
            self._battery.stop()
            self._battery = Battery(fresh.settings.battery)
            self._battery.start()
        self._config, self._models = fresh, fresh_models
        self._thermal.options = fresh.settings.thermal
        if not same_broker:
            self._connect(restore=False)
        self._pipelines.switch(fresh_models)
        self._start_pipelines()
        self._monitoring.change(old, fresh)
        self._come_online()

    def _load_models(self, wanted: Config) -> dict[ModelKey, AnyModel]:
        """The models of a configuration."""
        loaded = load_models(wanted, self._models, waiting=self._while_on_trial)
        compatibility.check(wanted, loaded)
        self._present(loaded)
        return loaded

    def _present(self, loaded: Mapping[ModelKey, AnyModel]) -> None:
        """Says which models are new."""
        for key, model in loaded.items():
            if self._models.get(key) is not model:
                log.info("%s: %s", key[0], model.describe())
                model.when_moved(self._accelerator_moved)
                if model.fallback:
                    log.warning("%s: runs on %s, since %s", key[0], model.engine.accelerator, model.fallback)

    def _accelerator_moved(self) -> None:
        if self._online:
            self._announce()

    def _while_on_trial(self) -> None:
        """A model may take its time to show that it is sound; systemd and whoever sends signals need not."""
        if self._asked_to_stop:
            raise _AskedToStopError
        self._ping_watchdog()

    def _connect(self, *, restore: bool) -> None:
        options = self._config.settings
        self._mqtt = options.mqtt
        if options.mqtt.url == "embedded":
            from edge_agent.mqtt.embedded import EmbeddedBroker

            self._embedded = EmbeddedBroker()
            # 3.1.1 is the only version that it speaks.
            self._mqtt = options.mqtt.model_copy(update={"url": self._embedded.start(), "protocol": "3.1.1"})
        self._endpoint = Endpoint.from_settings(self._mqtt, self._config.path.parent)
        self._outbox = Outbox(options.outbox, self._config.outbox_path(), self._pipelines.counters_of)
        self._outbox.start(restore=restore)
        commands = RemoteCommands(
            self._device().prefix,
            f"{options.mqtt.topic_prefix}/all/cmd",
            options.device_id,
            {"update": self._updates.look, "rollback": self._updates.roll_back},
            self._events.put,
        )
        session = Session(
            client_id=f"edge-agent-{options.device_id}",
            protocol=self._mqtt.protocol,
            keepalive=self._mqtt.keepalive,
            will=Will(self._topic("status"), b"offline"),
            subscriptions=commands.subscriptions if options.update else (),
        )
        self._connection = Connection(
            self._endpoint,
            session,
            on_up=self._link_up,
            on_down=self._outbox.link_down,
            on_message=commands.received,
            on_acknowledged=self._outbox.acknowledged,
        )
        self._connection.start()
        if not self._wait(self._connection.wait_until_tried, FIRST_CONNECT_TIMEOUT):
            log.warning("%s: not reached yet: trying on", self._endpoint.address)

    def _disconnect(self) -> None:
        self._outbox.stop(DELIVER_TIMEOUT)
        if self._connection.link is not None:
            self._publish_stats()
            self._connection.link.publish(self._topic("status"), "offline", 1, retain=True)
        self._connection.stop()
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    def _heed_the_battery(self) -> None:
        """Pauses everything while the battery is low."""
        if self._battery.low == self._paused:
            return
        self._paused = self._battery.low
        if self._paused:
            log.warning("the battery is low: all pipelines are paused until it is being charged")
            self._stop_pipelines(list(self._pipelines.running))
        else:
            log.info("the battery is well again: the pipelines go on")
            self._start_pipelines()

    def _start_pipelines(self) -> None:
        if not self._paused:
            broker = Broker(self._endpoint, self._mqtt, self._outbox)
            self._pipelines.start(self._config, self._models, self._device(), broker)

    def _stop_pipelines(self, names: list[str]) -> None:
        self._pipelines.stop(names, self._outbox)

    def _link_up(self, link: Link) -> None:
        self._outbox.link_up(link, self._announcements() if self._online else [])

    def _come_online(self) -> None:
        """Says that the agent is there, once whoever hears it can send input that will be answered."""
        deadline = time.monotonic() + FIRST_CONNECT_TIMEOUT
        for pipeline in self._pipelines.running.values():
            if self._connection.link is not None:
                self._wait(pipeline.wait_ready, deadline - time.monotonic())
        self._online = True
        self._announce()
        self._tell_home_assistant()

    def _tell_home_assistant(self) -> None:
        options = self._config.settings
        if not options.home_assistant.enabled:
            return
        from edge_agent.home_assistant.discovery import Discovery
        from edge_agent.home_assistant.entities import document

        if self._discovery is None:
            self._discovery = Discovery(self._endpoint, self._mqtt, options.home_assistant.prefix, options.device_id)
            self._discovery.start()
        self._discovery.tell(document(self._device().prefix, options, self._models))

    def _wait(self, condition: Callable[[float], bool], timeout: float) -> bool:
        """Waits for something that waits so many seconds for itself, unless a signal wants to be answered."""
        deadline = time.monotonic() + timeout
        while self._events.empty() and time.monotonic() < deadline:
            if condition(SIGNAL_PATIENCE):
                return True
        return False

    def _announce(self) -> None:
        for notice in self._announcements():
            self._outbox.notify(notice.topic, notice.payload, retain=notice.retain)

    def _announcements(self) -> list[Notice]:
        device, update = self._device(), self._updates.document()
        info = self_report.info(device, self._config.settings, self._models)
        accelerators = self_report.accelerators(device, self._models)
        return [
            Notice(device.topic("status"), "online", retain=True),
            Notice(device.topic("info"), json.dumps(info), retain=True),
            Notice(device.topic("accelerator"), json.dumps(accelerators), retain=True),
            *([] if update is None else [self._update_notice(update)]),
        ]

    def _publish_stats(self) -> None:
        document = {
            "device_id": self._config.settings.device_id,
            "boot_id": self._boot_id,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "thermal": self._thermal.as_dict(),
            "pipelines": self.counters(),
            "performance": self._performance(self._pipelines),
            "models": self_report.model_stats(self._models),
        }
        if facts := self._battery.facts:
            document["battery"] = {**facts, "paused": self._paused}
        if (link := self._connection.link) is not None:
            link.publish(self._topic("stats"), json.dumps(document))

    def _ping_watchdog(self) -> None:
        if hung := self._pipelines.hung():
            log.error(
                "%s: one sample has taken more than %g s: no sign of life to systemd",
                ", ".join(hung),
                HUNG_AFTER,
            )
        else:
            systemd.notify_watchdog()

    # What the updater wants, `update.host.Host`: called from its thread.

    def serving(self, name: str) -> dict[ModelKey, Model]:
        """The models that serve under a name."""
        return {key: model for key, model in self._models.items() if key[0] == name and isinstance(model, Model)}

    def pipelines(self, name: str) -> list[Pipeline]:
        """The pipelines that a model serves."""
        pipelines = [pipeline for pipeline in list(self._pipelines.running.values()) if pipeline.options.model == name]
        return [pipeline for pipeline in pipelines if isinstance(pipeline, Pipeline)]

    def load_version(self, name: str, path: Path | None, go_on: Callable[[], None]) -> dict[ModelKey, Model]:
        """Loads a version of a model, beside those that serve; see `Host.load_version`."""
        options = self._loaded.settings.models[name]
        wanted = with_version(self._config, name, options if path is None else version_of(options, path))
        try:
            loaded = load_models(wanted, self._models, waiting=go_on)
            compatibility.check(wanted, loaded)
        except ConfigError as error:
            about = [f": models.{name}: ", *(f": pipelines.{pipeline.name}." for pipeline in self.pipelines(name))]
            if any(part in problem for problem in error.problems for part in about):
                raise
            raise UpdateError(f"{name}: no version is tried as long as {error.problems[0]}") from None
        return {key: model for key, model in loaded.items() if key[0] == name and isinstance(model, Model)}

    def adopt(self, models: Mapping[ModelKey, Model]) -> threading.Event:
        """Has the version of a model that is active serve from the next sample on; see `Host.adopt`."""
        done = threading.Event()

        def adopt() -> None:
            self._adopt(models)
            done.set()

        self._events.put(adopt)
        return done

    def _adopt(self, models: Mapping[ModelKey, Model]) -> None:
        self._present(models)
        self._change_to(with_active(self._loaded), self._models | dict(models))

    def tell(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        notice = self._update_notice(document)
        self._outbox.notify(notice.topic, notice.payload, retain=True)

    def _update_notice(self, document: Mapping[str, Any]) -> Notice:
        who = {"device_id": self._config.settings.device_id, "boot_id": self._boot_id}
        return Notice(self._topic("update"), json.dumps(who | dict(document)), retain=True)

    def status(self) -> dict[str, Any]:
        """The state of everything, for metrics and the status page; from any thread."""
        options, link = self._config.settings, self._connection.link
        return {
            "device_id": options.device_id,
            "boot_id": self._boot_id,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "online": self._online,
            "paused": self._paused,
            "hung": self._pipelines.hung(),
            "broker": {
                "address": self._endpoint.address,
                "connected": link is not None,
                "problem": "" if link is not None else self._connection.problem,
            },
            "outbox": {**self._outbox.facts(), "max_size": options.outbox.max_size},
            "thermal": self._thermal.as_dict(),
            "battery": self._battery.facts,
            "pipelines": self_report.pipeline_facts(self._pipelines),
            "counters": self.counters(),
            "models": self_report.model_facts(self._models),
        }

    def latest(self, pipeline: str) -> Result | None:
        """The last result of a pipeline that was published."""
        publisher = self._pipelines.publishers.get(pipeline)
        return None if publisher is None else publisher.record.latest

    def options_of(self, pipeline: str) -> settings.Pipeline:
        """The settings of a pipeline.

        Raises:
            KeyError: there is none of that name.
        """
        return self._config.settings.pipelines[pipeline]

    def summary(self) -> str:
        """The state of everything in one line a person can read."""
        broker = self._endpoint.address if self._connection.link else f"no broker ({self._connection.problem})"
        counts = {name: self._pipelines.counters_of(name).as_dict() for name in self._pipelines.running}
        results = ", ".join(f"{name} {count['produced']} results" for name, count in counts.items()) or "no pipelines"
        return f"{results}; {self._pipelines.queued()} waiting; {broker}"

    def counters(self) -> dict[str, dict[str, Any]]:
        """The counters of each pipeline, as published in `stats`."""
        return self._pipelines.counters()

    def followers_of(self, pipeline: str) -> list[Follower]:
        """Who follows a pipeline; the list may be changed, from any thread."""
        return self._pipelines.followers_of(pipeline)

    def _device(self) -> Device:
        options = self._config.settings
        prefix = f"{options.mqtt.topic_prefix}/{options.device_id}"
        return Device(options.device_id, prefix, self._boot_id, self._clock)

    def _topic(self, *levels: str) -> str:
        return self._device().topic(*levels)


def _seen_at(loaded: Config) -> tuple[object, ...]:
    """Where Home Assistant sees the device, if at all."""
    options = loaded.settings
    return options.home_assistant, options.device_id, options.mqtt.url
