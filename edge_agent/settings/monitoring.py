"""The settings of what is served over HTTP: metrics, and a status page."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from edge_agent.settings.base import Bytes, Frozen

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s\[\]:/@]+):(?P<port>\d{1,5})")
HIGHEST_PORT = 65535


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of `HOST:PORT` or `[IPv6]:PORT`.

    Raises:
        ValueError: it is not such an address.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found["port"]) <= HIGHEST_PORT:
        raise ValueError("must be HOST:PORT or [IPv6]:PORT, with a port from 1 to 65535")
    host = found["host"].strip("[]")
    if ":" in host:
        ipaddress.IPv6Address(host)
    return host, int(found["port"])


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address, `HOST:PORT`."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _another_machine(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address") from None
    if address.is_loopback or address.is_unspecified:
        raise ValueError("every program on this machine has that address: for a proxy here, set hosts instead")
    return value


def _asks_for_users(info: ValidationInfo) -> bool:
    """Whether those who ask for the page are known: by the token, or to the proxy."""
    return any(info.data.get(key) is not None for key in ("token_file", "trusted_proxy"))


def _an_address(value: str) -> str:
    split_address(value)
    return value


Listen = Annotated[str, AfterValidator(_an_address)]
Hosts = tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$(?!\n)")], ...]


class Metrics(Frozen):
    """Metrics for Prometheus."""

    listen: Listen = "127.0.0.1:9464"
    """Address and port that serve `/metrics`. Anyone who can reach them can read the metrics."""
    hosts: Hosts = Field((), max_length=16)
    """Further host names by which Prometheus may ask for them. Always accepted: addresses, `localhost`, and this
    machine's name, alone and with `.local`."""


class Http(Frozen):
    """A status page."""

    listen: Listen = "127.0.0.1:8080"
    """Address and port of the page. Any address but a loopback one needs token_file or trusted_proxy."""
    trusted_proxy: Annotated[str, AfterValidator(_another_machine)] | None = None
    """Address of a proxy on another machine or in another container, such as Home Assistant's ingress, that lets in
    only users that it knows. Only it may ask for the page, by any name and without token_file. Health checks may come
    from anywhere."""
    token_file: Annotated[str, Field(min_length=1)] | None = Field(None, validate_default=True)
    """File with the password of the page in its first line (at least 16 characters); or `${env:NAME}`, an environment
    variable that holds the password. Any user name is accepted."""
    hosts: Hosts = Field((), max_length=16)
    """Further host names that browsers may use for the page, such as that of a proxy. Always accepted: addresses,
    `localhost`, and this machine's name, alone and with `.local`."""

    events_memory: Bytes = Field(16_000_000, ge=0, le=1_000_000_000)
    """Memory for the pictures of events that the page shows. The oldest are forgotten first. 0: no pictures."""
    edit: bool = False
    """Whether the page may change things: label kept samples, write zones into the configuration file, set up
    pipelines. Needs token_file or trusted_proxy."""

    @field_validator("edit")
    @classmethod
    def _changes_need_a_password(cls, value: bool, info: ValidationInfo) -> bool:
        if value and {"token_file", "trusted_proxy"} <= info.data.keys() and not _asks_for_users(info):
            raise ValueError("needs token_file: only those who know the token may change something")
        return value

    @field_validator("token_file")
    @classmethod
    def _images_need_a_password(cls, value: str | None, info: ValidationInfo) -> str | None:
        listen = info.data.get("listen")
        may_be_open = listen is None or is_loopback(listen) or "trusted_proxy" not in info.data
        if value is None and not may_be_open and not _asks_for_users(info):
            raise ValueError(f"is needed where listen is more than this machine (got listen: {listen})")
        return value
