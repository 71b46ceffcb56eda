"""The parts of a running agent, for the modules that need to see them."""

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge_agent.config.loader import Config
from edge_agent.daemon.battery import Battery
from edge_agent.daemon.thermal import Thermal
from edge_agent.daemon.uplink import Uplink
from edge_agent.models.loading import AnyModel
from edge_agent.pipeline.registry import Pipelines, Prepared
from edge_agent.publish.publisher import Device
from edge_agent.settings import Settings
from edge_agent.system.clock import Clock

log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """The parts of a running agent. The main thread alone changes it; other threads read it.

    Attributes:
        loaded: the configuration as its file states it.
        config: the same, with the active versions of updated models in place of the configured ones.
        pipelines: the running pipelines, with their counters and observers.
        thermal: the temperature, and how far live sources are slowed down.
        battery: replaced when its options change.
        uplink: the session with the broker; there is none before the start.
        models: those in use, by name.
        online: whether the agent has published that it is there.
        paused: whether all pipelines are stopped because the battery is low.
        paused_pipelines: those that are paused by command.
        boot_id: of this run, as published.
        clock: the time, as results carry it.
        started: on the monotonic clock.
    """

    loaded: Config
    config: Config
    pipelines: Pipelines
    thermal: Thermal
    battery: Battery
    uplink: Uplink = field(init=False)
    models: dict[str, AnyModel] = field(default_factory=dict)
    online: bool = False
    paused: bool = False
    paused_pipelines: set[str] = field(default_factory=set)
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    clock: Clock = field(default_factory=Clock)
    started: float = field(default_factory=time.monotonic)

    @property
    def settings(self) -> Settings:
        """The settings in use."""
        return self.config.settings

    @property
    def device(self) -> Device:
        """This device, as its topics and documents name it."""
        return self.device_of(self.config)

    def device_of(self, config: Config) -> Device:
        """This device, as the topics and documents of a configuration name it."""
        options = config.settings
        prefix = f"{options.mqtt.topic_prefix}/{options.device_id}"
        return Device(options.device_id, prefix, self.boot_id, self.clock)

    def prepare_pipelines(
        self, names: Iterable[str], config: Config, models: Mapping[str, AnyModel], uplink: Uplink
    ) -> list[Prepared]:
        """Makes pipelines that are to be started; none while everything is paused, nor those that are by themselves."""
        if self.paused:
            return []
        names = [name for name in names if name not in self.paused_pipelines]
        return self.pipelines.prepare(names, config, models, self.device_of(config), uplink.broker)

    def start_pipelines(self) -> None:
        """Starts all pipelines of the configuration, unless everything is paused."""
        self.pipelines.start(self.prepare_pipelines(self.settings.pipelines, self.config, self.models, self.uplink))

    def stop_pipelines(self, names: Iterable[str]) -> None:
        """Stops running pipelines."""
        self.pipelines.stop(list(names), self.uplink.outbox)

    def pause_or_resume(self) -> None:
        """Stops all pipelines when the battery gets low, and starts them when it has recovered."""
        if self.battery.low == self.paused:
            return
        self.paused = self.battery.low
        if self.paused:
            log.warning("battery low: pausing all pipelines until it is charged")
            self.stop_pipelines(self.pipelines.running)
        else:
            log.info("battery recovered: resuming pipelines")
            self.start_pipelines()
