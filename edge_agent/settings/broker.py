"""The settings of the broker and of the outbox."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, WithJsonSchema, field_validator

from edge_agent.settings.base import Bytes, Frozen, Seconds, TopicPrefix, accepted
from edge_agent.settings.topics import problem_of_text
from edge_agent.system.address import problem_of_server


class Mqtt(Frozen):
    """The broker and how to reach it."""

    url: str = "mqtt://localhost:1883"
    """`mqtt://HOST:PORT`, `mqtts://` (TLS), `ws://`, `wss://`, or `embedded`: a broker inside the agent, for trials."""
    protocol: Annotated[Literal["auto", "5", "3.1.1"], WithJsonSchema({"enum": ["auto", 5, "5", "3.1.1"]})] = "auto"
    """MQTT version: 5, 3.1.1, or `auto`: 5, with fallback to 3.1.1 if the broker refuses it."""
    username: Annotated[str, accepted(problem_of_text)] | None = None
    """User name for the broker."""
    password_file: Annotated[str, Field(min_length=1)] | None = None
    """File with the password in its first line; or `${env:NAME}`, an environment variable that holds the password."""
    ca_file: Path | None = None
    """PEM file of the certificate authority that signed the broker's certificate. Default: the system's authorities."""
    cert_file: Path | None = None
    """PEM file of this device's client certificate, for mutual TLS."""
    key_file: Path | None = Field(None, validate_default=True)
    """PEM file of the private key for cert_file."""
    topic_prefix: TopicPrefix = "edge"
    """First part of every topic: `{topic_prefix}/{device_id}/…`."""
    keepalive: Seconds = Field(30.0, ge=2, le=3600)
    """A broker that has been silent for twice this long counts as disconnected."""
    session_expiry: Seconds = Field(86400.0, ge=0, le=31536000)
    """How long the broker queues inputs for an agent that is offline (MQTT 5)."""
    max_packet_size: Bytes | None = Field(None, ge=1024)
    """Largest packet that the broker may send (MQTT 5). The broker drops larger ones without notice, so they are not
    counted. Default: no limit; the agent receives, refuses and counts inputs that are too large."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value != "embedded" and not re.fullmatch(r"(mqtts?|wss?)://[^\s/]+(/\S*)?", value):
            raise ValueError("must be mqtt://HOST[:PORT], mqtts://, ws://, wss:// or embedded")
        if "@" in value:
            raise ValueError("must not hold user name and password: use username and password_file")
        if value != "embedded" and problem_of_server(value):
            raise ValueError("must be a valid address: a host, brackets around IPv6, a port up to 65535")
        return value

    @field_validator("protocol", mode="before")
    @classmethod
    def _protocol_as_text(cls, value: object) -> object:
        return str(value).removesuffix(".0") if isinstance(value, str | int | float) else value

    # `info.data` holds another key only if that key is valid itself.

    @field_validator("password_file")
    @classmethod
    def _password_belongs_to_a_user(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("username", "") is None:
            raise ValueError("needs a username")
        return value

    @field_validator("ca_file", "cert_file")
    @classmethod
    def _certificates_are_for_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        url = info.data.get("url")
        if value is not None and url is not None and not url.startswith(("mqtts:", "wss:")):
            raise ValueError("needs a url with TLS, mqtts:// or wss://")
        return value

    @field_validator("key_file")
    @classmethod
    def _key_belongs_to_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "cert_file" in info.data and (value is None) != (info.data["cert_file"] is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        return value


class Outbox(Frozen):
    """Results that wait while the broker is away."""

    path: Path | None = None
    """Database file. It is written only while results can't be delivered. Default: `outbox.db` in the service's state
    directory (systemd), or beside the configuration file."""
    max_size: Bytes = Field(64_000_000, ge=100_000)
    """Limit on the waiting results, in bytes of payload."""
    when_full: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    """Which result is dropped when max_size is reached. Each is counted as `outbox_full`."""
    replay_rate: float = Field(100.0, gt=0, le=100_000)
    """Maximum number of waiting results that are sent per second after a reconnect, so that a fleet does not overload
    its broker."""
