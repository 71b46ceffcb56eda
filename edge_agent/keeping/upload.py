"""Uploads what is kept to a web server or an S3-compatible bucket: closed segments, one after the other.

A segment goes up whole, under a name of its own, and counts as arrived once the server has confirmed it. What an
interruption has cut off is sent again from the start of its segment.
"""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from urllib3 import Timeout

from edge_agent.config.http_identity import HttpIdentity
from edge_agent.errors import EdgeAgentError
from edge_agent.sample_store.labels import NAME as LABELS
from edge_agent.sample_store.segment import MAX_FILE
from edge_agent.settings.keep import Upload
from edge_agent.system.backoff import Backoff
from edge_agent.system.clock import Clock
from edge_agent.system.proxy import NotConfirmedError, proxy_for

log = logging.getLogger(__name__)

TIMEOUT = Timeout(connect=10.0, read=60.0)
BLOCK = 1 << 14
# Seconds between two looks whether it may upload now, after a failure, and at most after many.
LOOK_EVERY, FIRST_RETRY, LAST_RETRY = 30.0, 10.0, 600.0


class UploadFailedError(EdgeAgentError):
    """Something has not arrived; it is tried again later."""


class StoppedError(Exception):
    """The agent stops in the middle of an upload."""


class Source(Protocol):
    """Where segments come from."""

    def closed_segments(self) -> list[Path]:
        """Closes the segment that is written to, and returns those that have not arrived, oldest first."""

    def arrived(self, segment: Path) -> None:
        """Notes that a segment has arrived."""


class Destination:
    """Where segments go.

    Args:
        options: the address, and how this device identifies itself there.
        prefix: of all names: `porch-pi/lab`.
        folder: that files are relative to.
        key: of the configuration, for messages.

    Raises:
        ConfigError: a secret can't be read, or is not as expected.
        MissingExtraError: S3 needs a package that is not installed.
    """

    def __init__(self, options: Upload, prefix: str, folder: Path, key: str) -> None:
        self._base = f"{options.url.rstrip('/')}/{quote(prefix)}/"
        identity = HttpIdentity(options, folder, key)
        identity.check()
        self._connections = identity.connections()

    def put(self, name: str, content: bytes, pace: "Pace") -> None:
        """Sends a file; when this returns, the server has confirmed it.

        Args:
            name: of the file there.
            content: of it.
            pace: how fast.

        Raises:
            UploadFailedError: it has not been confirmed.
            StoppedError: see `Pace`.
        """
        url = self._base + quote(name)
        headers = {"Content-Length": str(len(content)), "Content-Type": "application/octet-stream"}
        try:
            self._connections.put(url, headers, pace.blocks(content), TIMEOUT, content)
        except NotConfirmedError as error:
            hint = ": is this device allowed to write there?" if error.may_not else ""
            raise UploadFailedError(f"{error}{hint}") from None


class Pace:
    """Hands out content at a bounded rate.

    Args:
        max_rate: bytes a second; None: unlimited.
        stopped: ends it.
    """

    def __init__(self, max_rate: int | None, stopped: threading.Event) -> None:
        self._max_rate = max_rate
        self._stopped = stopped

    def blocks(self, content: bytes) -> Iterator[bytes]:
        """The content in blocks.

        Raises:
            StoppedError: the agent stops.
        """
        began = time.monotonic()
        for at in range(0, len(content), BLOCK):
            ahead = at / self._max_rate - (time.monotonic() - began) if self._max_rate else 0.0
            if self._stopped.wait(max(0.0, ahead)):
                raise StoppedError
            yield content[at : at + BLOCK]


class Uploader:
    """Uploads in a thread of its own, when it may.

    Args:
        name: of the pipeline.
        options: where, when and how fast.
        destination: see `Destination`.
        source: of the segments.
        clock: of the device.
    """

    def __init__(
        self, name: str, options: Upload, destination: Destination, source: Source, folder: Path, clock: Clock
    ) -> None:
        self._name = name
        self._options = options
        self._destination = destination
        self._source = source
        self._labels = folder / LABELS
        self._clock = clock
        self._stopped = threading.Event()
        self._pace = Pace(options.max_rate, self._stopped)
        self._sent = self._bytes = 0
        self._sent_labels: bytes | None = None
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name=f"upload {name}", daemon=True)

    def start(self) -> None:
        """Begins to upload."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stops; what is on its way is sent again after the next start."""
        self._stopped.set()
        self._thread.join(timeout)

    def facts(self) -> dict[str, Any]:
        """As published in `stats`; from any thread."""
        return {"segments": self._sent, "bytes": self._bytes, "problem": self._problem}

    def _run(self) -> None:
        backoff, due = Backoff(FIRST_RETRY, LAST_RETRY), time.monotonic()
        while not self._stopped.wait(max(0.0, min(LOOK_EVERY, due - time.monotonic()))):
            if time.monotonic() < due or not self._may_upload():
                due = max(due, time.monotonic() + min(LOOK_EVERY, self._options.every))
                continue
            try:
                self._round()
            except StoppedError:
                return
            except (EdgeAgentError, OSError) as error:
                if str(error) != self._problem:
                    log.warning("%s: kept samples can't be uploaded, trying again: %s", self._name, error)
                self._problem, due = str(error), time.monotonic() + backoff.delay()
            else:
                self._problem, due = "", time.monotonic() + self._options.every
                backoff.reset()

    def _may_upload(self) -> bool:
        return self._is_time() and (not self._options.networks or self._is_in_network())

    def _is_time(self) -> bool:
        hours = self._options.hours
        if hours is None:
            return True
        first, end = hours
        hour = time.localtime().tm_hour
        return self._clock.synced() and (first <= hour < end if first < end else hour >= first or hour < end)

    def _is_in_network(self) -> bool:
        """Whether the device's own address, on the way to the server, is in one of the networks that are stated."""
        own = own_address(self._options.url)
        return own is not None and any(own in ipaddress.ip_network(one) for one in self._options.networks)

    def _round(self) -> None:
        for segment in self._source.closed_segments():
            if not self._may_upload():
                return
            try:
                content = _read(segment)
            except FileNotFoundError:  # deleted in the meantime, and counted
                continue
            self._destination.put(segment.name, content, self._pace)
            self._source.arrived(segment)
            self._sent += 1
            self._bytes += len(content)
        if self._labels.exists() and (content := _read(self._labels)) != self._sent_labels:
            self._destination.put(LABELS, content, self._pace)
            self._sent_labels = content


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE)


def own_address(url: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    """The address from which this device would reach a server, or its proxy; None where there is no way.

    Nothing is sent for that, except to the resolver.
    """
    parts = urlsplit(proxy_for(url) or url)
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM
        ):
            with socket.socket(family, kind) as probe:
                probe.connect(address)
                return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except (OSError, ValueError):
        return None
    return None
