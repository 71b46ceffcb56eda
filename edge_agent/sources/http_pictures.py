"""JPEG pictures that a camera sends over HTTP, one after the other in one response (`multipart/x-mixed-replace`).

FFmpeg refuses some of these streams, as those of ESP32 cameras: it wants a boundary before the first picture. Here each
picture is found by its own structure, and what stands between two of them does not matter.
"""

import http.client
import socket
from collections import deque
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from edge_agent.errors import InputError, SourceError
from edge_agent.sources.mjpeg import Mjpeg
from edge_agent.sources.stream_server import Address
from edge_agent.system.proxy import proxy_for
from edge_agent.system.terminal import printable

_OPEN_TIMEOUT_S = 10.0
_MAX_REDIRECTS = 5
_BLOCK = 65536
_PICTURES = ("multipart/", "image/jpeg", "image/jpg", "video/x-motion-jpeg", "video/x-jpeg")


class SinglePictureError(SourceError):
    """The response was one picture: what is at the address is a snapshot, to be fetched again and again."""


class NotPictures(NamedTuple):
    """What a server sends that are not JPEG pictures: perhaps a video.

    Attributes:
        kind: the media type.
    """

    kind: str

    @property
    def hint(self) -> str:
        """For the message if it is no video either."""
        page = ": a web page; is the path in the address right?" if self.kind == "text/html" else ""
        return f"can't be opened as a video: the server sends {printable(self.kind)[:100] or 'it without a type'}{page}"


class HttpPictures:
    """The pictures of an open response, in the place of a `cv2.VideoCapture`."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, name: str) -> None:
        self._connection = connection
        self._response = response
        self._name = name
        self._format = Mjpeg()
        self._waiting: deque[bytes | InputError] = deque()
        self._count = 0
        self._current: bytes | InputError = b""

    def grab(self) -> bool:
        """Waits for the next picture; False: none comes any more.

        Raises:
            SinglePictureError: the response was one picture, which has been taken.
        """
        while not self._waiting:
            try:
                data = self._response.read1(_BLOCK)
            except (OSError, http.client.HTTPException):
                return False
            if not data:
                if self._count == 1 and not self._response.headers.get_content_type().startswith("multipart/"):
                    hint = "set fps to a number, how often it is fetched"
                    raise SinglePictureError(f"{self._name}: sends a single picture, not a stream: {hint}")
                return False
            self._waiting.extend(self._format.feed(data))
        self._count += 1
        self._current = self._waiting.popleft()
        return True

    def retrieve(self) -> tuple[bool, bytes | None]:
        """The picture, still encoded; (False, None) for one that is damaged."""
        return (False, None) if isinstance(self._current, InputError) else (True, self._current)

    def release(self) -> None:
        """Closes the connection."""
        _close(self._connection, self._response)


_Opened = tuple[http.client.HTTPConnection, socket.socket, http.client.HTTPResponse]


def open_pictures(url: str, name: str, stall_timeout: float) -> HttpPictures | NotPictures:
    """Asks for a stream over HTTP.

    Args:
        url: the address, with its credentials; redirects are followed.
        name: for messages.
        stall_timeout: seconds that the server may be silent later on.

    Raises:
        SourceError: the server can't be reached or refuses, and why.
    """
    target = url
    for _ in range(_MAX_REDIRECTS):
        if proxy_for(target):
            return NotPictures("")  # OpenCV's FFmpeg knows how to use it
        address = Address.of(target, name)
        connection, link, response = _request(address, name)
        location = response.headers.get("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            _close(connection, response)
            target = _next(target, location, name)
            continue
        if response.status != HTTPStatus.OK:
            _close(connection, response)
            raise SourceError(f"{name}: {address.refused(response.status)}")
        kind = response.headers.get_content_type() if response.headers.get("Content-Type") else ""
        if not kind.startswith(_PICTURES):
            _close(connection, response)
            return NotPictures(kind)
        link.settimeout(stall_timeout)
        return HttpPictures(connection, response, name)
    raise SourceError(f"{name}: more than {_MAX_REDIRECTS} redirects in a row")


def _close(connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
    response.close()
    connection.close()  # does not close the response's file


def _request(address: Address, name: str) -> _Opened:
    """The response to a request; to a second one with credentials, where the server asks for them."""
    headers = {"User-Agent": b"edge-agent", "Accept": b"*/*", "Connection": b"close"}
    while True:
        connection = http.client.HTTPConnection(address.host, address.port)
        try:
            link = connection.sock = address.connect(_OPEN_TIMEOUT_S)
            connection.request("GET", address.target, headers=headers)
            response = connection.getresponse()
        except OSError as error:
            connection.close()
            raise SourceError(f"{name}: {address.unreachable(error)}") from None
        except http.client.HTTPException:
            connection.close()
            raise SourceError(f"{name}: what answers at port {address.port} of {address.host} is no HTTP") from None
        if response.status != HTTPStatus.UNAUTHORIZED or "Authorization" in headers:
            return connection, link, response
        challenges = response.headers.get_all("WWW-Authenticate", [])
        authorization = address.authorization(challenges, "GET", address.target)
        if authorization is None:
            return connection, link, response
        _close(connection, response)
        headers["Authorization"] = authorization.encode()


def _next(target: str, location: str, name: str) -> str:
    """The address that a server sends on to; the credentials are for the same server only."""
    try:
        joined = urljoin(target, location)
        old, new = urlsplit(target), urlsplit(joined)
        same = (old.scheme, old.hostname) == (new.scheme, new.hostname)
    except ValueError:
        raise SourceError(f"{name}: the server sends on to something that is no address") from None
    if new.scheme not in ("http", "https"):
        raise SourceError(f"{name}: the server sends on to an address of another kind, {printable(new.scheme)[:20]}://")
    if not same or "@" in new.netloc or "@" not in old.netloc:
        return joined
    return new._replace(netloc=f"{old.netloc.rpartition('@')[0]}@{new.netloc}").geturl()
