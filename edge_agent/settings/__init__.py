"""The typed settings of a configuration file.

The documentation of a field is the string below it; `schema` prints it.
"""

import socket

from pydantic import Field, ValidationInfo, field_validator

from edge_agent.settings.actions import Action, Gpio, When
from edge_agent.settings.base import Bytes, Frozen, Seconds, TopicLevel
from edge_agent.settings.broker import Mqtt, Outbox
from edge_agent.settings.device import Battery, HomeAssistant, RemoteCommands, Thermal
from edge_agent.settings.keep import Keep, KeepRules, Record
from edge_agent.settings.meter import Meter
from edge_agent.settings.models import (
    Accelerator,
    AcceleratorName,
    Chip,
    Delegate,
    Model,
    Output,
    Plugin,
    Preprocess,
    Provider,
)
from edge_agent.settings.monitoring import Http, Metrics
from edge_agent.settings.pipelines import Filters, Gate, Line, Pipeline, Publish, Snapshot, Tracking
from edge_agent.settings.shapes import Region
from edge_agent.settings.sources import (
    AiCameraSource,
    CameraSource,
    ImagesSource,
    MqttSource,
    PipelineSource,
    SecondStream,
    Source,
    VideoSource,
)
from edge_agent.settings.speech import Speech
from edge_agent.settings.statistics import Statistics
from edge_agent.settings.streams import AudioSource, CommandSource, IioSource, MicrophoneSource, SerialSource
from edge_agent.settings.update import Update

__all__ = [
    "Accelerator",
    "AcceleratorName",
    "Action",
    "AiCameraSource",
    "AudioSource",
    "Battery",
    "CameraSource",
    "Chip",
    "CommandSource",
    "Delegate",
    "Filters",
    "Gate",
    "Gpio",
    "HomeAssistant",
    "Http",
    "IioSource",
    "ImagesSource",
    "Keep",
    "KeepRules",
    "Line",
    "Meter",
    "Metrics",
    "MicrophoneSource",
    "Model",
    "Mqtt",
    "MqttSource",
    "Outbox",
    "Output",
    "Pipeline",
    "PipelineSource",
    "Plugin",
    "Preprocess",
    "Provider",
    "Publish",
    "Record",
    "Region",
    "RemoteCommands",
    "SecondStream",
    "SerialSource",
    "Settings",
    "Snapshot",
    "Source",
    "Speech",
    "Statistics",
    "Thermal",
    "Tracking",
    "Update",
    "VideoSource",
    "When",
]


class Settings(Frozen):
    """A whole configuration file."""

    device_id: TopicLevel = Field(default_factory=socket.gethostname, validate_default=True)
    """Name of this device in topics and results. Default: the host name."""
    mqtt: Mqtt = Mqtt()
    """The broker."""
    outbox: Outbox = Outbox()
    """Results that wait while the broker is away."""
    thermal: Thermal = Thermal()
    """What happens when the device gets too hot."""
    stats_interval: Seconds = Field(10.0, ge=0.1, le=86400)
    """How often the counters are published."""
    battery: Battery = Battery()
    """The battery of a phone."""
    remote_commands: RemoteCommands = RemoteCommands()
    """Commands over MQTT that concern the agent as a whole."""
    home_assistant: HomeAssistant = HomeAssistant()
    """Shows the device and the predictions of its pipelines in Home Assistant."""
    metrics: Metrics | None = None
    """Metrics for Prometheus. Default: off; `metrics: {}` turns them on."""
    http: Http | None = None
    """A status page. Default: off; `http: {}` turns it on."""
    model_memory: Bytes | None = Field(None, ge=1_000_000)
    """Approximate limit on the memory of all models together: their weights and the caches of language models. A model
    that does not fit is refused before it is loaded. Default: 80 % of the memory that is free at that time."""
    models: dict[TopicLevel, Model] = Field({}, max_length=64)
    """Models by name."""
    pipelines: dict[TopicLevel, Pipeline] = Field({}, max_length=256)
    """Pipelines by name. The name is part of their topics."""
    update: Update | None = None
    """Where new versions of models come from. Default: no updates."""

    @property
    def serves_chats(self) -> bool:
        """Whether a language model can be asked over HTTP."""
        return self.http is not None and any(pipeline.text.openai for pipeline in self.pipelines.values())

    @field_validator("pipelines")
    @classmethod
    def _names_of_built_in_models(cls, value: dict[str, Pipeline], info: ValidationInfo) -> dict[str, Pipeline]:
        built_in = {one.model_name for one in value.values() if not isinstance(one.model, str)}
        for name in built_in.intersection(info.data.get("models", {})):
            raise ValueError(f"the model called {name} has the name of a built-in one: rename it")
        return value

    @field_validator("http")
    @classmethod
    def _an_address_of_its_own(cls, value: Http | None, info: ValidationInfo) -> Http | None:
        metrics = info.data.get("metrics")
        if value is not None and metrics is not None and value.listen == metrics.listen:
            raise ValueError(f"listen must not be that of metrics, {metrics.listen}: choose another port")
        return value
