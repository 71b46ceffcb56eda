"""What another configuration, or another version of a model, changes in a running agent: decided, not carried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from edge_agent import settings
from edge_agent.models.loading import AnyModel
from edge_agent.models.model import Model
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.settings import Settings

Models = Mapping[str, AnyModel]


class Running(Protocol):
    """A running pipeline."""

    @property
    def options(self) -> settings.Pipeline: ...  # noqa: D102 - as it was started

    @property
    def model(self) -> AnyModel: ...  # noqa: D102 - the one that serves it now


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done to get from one state to the next.

    Attributes:
        stop: running pipelines to stop: removed, changed, or in need of a new session with the broker.
        switch: running pipelines that keep running with another model from their next sample on.
        start: pipelines to start.
        retire: models that are no longer used, by name.
        reconnect: whether to close the session with the broker and to open another one.
        discovery: what to do with the connection for Home Assistant's discovery: `withdraw` closes it and has Home
            Assistant forget the device, `reconnect` only closes it. Where it is configured, it is opened again.
        restart_battery: whether to watch the battery with other options.
        restart_monitoring: whether to serve the metrics or the status page elsewhere, or no longer.
    """

    stop: tuple[str, ...] = ()
    switch: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()
    reconnect: bool = False
    discovery: Literal["keep", "reconnect", "withdraw"] = "keep"
    restart_battery: bool = False
    restart_monitoring: bool = False


def plan(
    old: Settings, fresh: Settings, running: Mapping[str, Running], old_models: Models, fresh_models: Models
) -> Plan:
    """Compares what runs with what should run.

    Args:
        old: the settings in use.
        fresh: the settings to change to.
        running: the pipelines that run now, by name; none while everything is paused.
        old_models: the models in use.
        fresh_models: the models for `fresh`; those that have not changed are the same objects.
    """
    reconnect = _session(old) != _session(fresh)
    goes_on = {
        name: fresh_models[pipeline.options.model_name]
        for name, pipeline in running.items()
        if not reconnect and fresh.pipelines.get(name) == pipeline.options
    }
    goes_on = {name: model for name, model in goes_on.items() if can_switch(running[name].model, model)}
    discovery: Literal["keep", "reconnect", "withdraw"] = "reconnect" if reconnect else "keep"
    return Plan(
        stop=tuple(name for name in running if name not in goes_on),
        switch=tuple(name for name, model in goes_on.items() if model is not running[name].model),
        start=tuple(name for name in fresh.pipelines if name not in goes_on),
        retire=tuple(name for name, model in old_models.items() if fresh_models.get(name) is not model),
        reconnect=reconnect,
        discovery=discovery if _discovery(old) == _discovery(fresh) else "withdraw",
        restart_battery=old.battery != fresh.battery,
        restart_monitoring=_served(old) != _served(fresh),
    )


def can_switch(old: AnyModel, fresh: AnyModel) -> bool:
    """Whether a running pipeline can change to a model: only if nothing in the pipeline depends on the one before."""
    if fresh is old or not isinstance(fresh, Model) or not isinstance(old, Model):
        return fresh is old
    if fresh.source == old.source:  # the same files and settings, with engines for other batch sizes
        return True
    alike = (fresh.decode.task, fresh.together) == (old.decode.task, old.together) and old.decode.task != ANOMALY
    return alike and not fresh.stateful and not old.stateful


def _session(options: Settings) -> tuple[object, ...]:
    """What the session with the broker and the outbox depend on: among others, the commands that it takes."""
    keeps = [any(getattr(one, kind) for one in options.pipelines.values()) for kind in ("keep", "record")]
    controls = options.home_assistant.enabled
    return options.device_id, options.mqtt, options.outbox, options.update is None, controls, *keeps


def _served(options: Settings) -> tuple[object, ...]:
    """What the servers of HTTP depend on."""
    return options.metrics, options.http, options.serves_chats


def _discovery(options: Settings) -> tuple[object, ...]:
    """Where Home Assistant sees the device, if at all."""
    return options.home_assistant, options.device_id, options.mqtt.url
