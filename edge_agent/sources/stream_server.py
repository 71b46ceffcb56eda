"""Servers of streams over HTTP and RTSP: their addresses, how to log in there, and why one gives no stream.

Certificates of cameras are not verified: nearly all of them are signed by the camera itself, and OpenCV's FFmpeg does
not verify them either.
"""

import hashlib
import secrets
import socket
import ssl
from http import HTTPStatus
from typing import NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from edge_agent.errors import SourceError
from edge_agent.system.address import problem_of_server

# Of a plain connection over TCP, the address itself states the port.
PORTS = {"tcp": 0, "http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}
# What stands for itself in the path and query of an address: https://www.rfc-editor.org/rfc/rfc3986#section-2
_IN_TARGET = "%:/?#[]@!$&'()*+,;=-._~"
_TLS = ("https", "rtsps", "rtmps")
# What RTSP adds to HTTP's status codes, https://www.rfc-editor.org/rfc/rfc2326#section-7.1.1
_RTSP_STATUS = {453: "Not Enough Bandwidth", 454: "Session Not Found", 461: "Unsupported Transport"}
_HINTS = {
    403: "may this user watch it?",
    404: "is the path in the address right?",
    503: "does it have as many viewers as it allows?",
}


class Address(NamedTuple):
    """Where a stream is. User name and password are None where the address has none."""

    scheme: str
    host: str
    port: int
    target: str
    user: str | None
    password: str | None

    @classmethod
    def of(cls, url: str, name: str) -> Self:
        """The parts of an address.

        Args:
            url: the address.
            name: for messages.

        Raises:
            SourceError: see `problem_of_server`.
        """
        if problem := problem_of_server(url):
            raise SourceError(f"{name}: {problem}")
        parts = urlsplit(url)
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_IN_TARGET)
        return cls(parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0), target, user, password)

    def connect(self, timeout: float) -> socket.socket:
        """An open connection, encrypted where the scheme says so.

        Raises:
            OSError: see `unreachable`.
        """
        plain = socket.create_connection((self.host, self.port), timeout)
        if self.scheme not in _TLS:
            return plain
        try:
            return _unverified().wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def unreachable(self, error: OSError) -> str:
        """Why there is no connection, and what to check."""
        match error:
            case ssl.SSLError():
                what = (error.reason or "no TLS").replace("_", " ").lower()
                return f"TLS with port {self.port} of {self.host} fails ({what}): is it a port for {self.scheme}://?"
            case socket.gaierror():
                return f"the name {self.host} is not known to the network"
            case TimeoutError():
                return f"no answer from port {self.port} of {self.host}: is the device on, is a firewall between?"
            case ConnectionRefusedError():
                return f"nothing listens at port {self.port} of {self.host}: is the port right, does the server run?"
            case ConnectionError():
                return f"port {self.port} of {self.host} closes the connection: is it a port for {self.scheme}://?"
            case _:
                return f"{self.host} can't be reached: {(error.strerror or str(error)).lower()}"

    def refused(self, status: int) -> str:
        """What a status code that is no success means, and what to check."""
        if status == HTTPStatus.UNAUTHORIZED:
            if self.user is None:
                return f"asks for user name and password (401): {self.scheme}://USER:PASSWORD@{self.host}"
            return "does not accept the user name and password in the address (401)"
        phrases = {one.value: one.phrase for one in HTTPStatus} | _RTSP_STATUS
        hint = f": {_HINTS[status]}" if status in _HINTS else ""
        return f"the server answers {status} {phrases.get(status, '')}".rstrip() + hint

    def authorization(self, challenges: list[str], method: str, uri: str) -> str | None:
        """The `Authorization` header for what a server has asked for; None if there is none.

        Basic, https://www.rfc-editor.org/rfc/rfc7617, and Digest with MD5 or SHA-256,
        https://www.rfc-editor.org/rfc/rfc7616.

        Args:
            challenges: values of `WWW-Authenticate`.
            method: of the request.
            uri: what the request is for, as its first line states it.
        """
        if self.user is None:
            return None
        password = self.password or ""
        known = {kind.lower(): rest for kind, _, rest in (challenge.strip().partition(" ") for challenge in challenges)}
        if "digest" in known:
            return _digest(known["digest"], self.user, password, method, uri)
        if "basic" in known:
            import base64

            return "Basic " + base64.b64encode(f"{self.user}:{password}".encode()).decode()
        return None


def _unverified() -> ssl.SSLContext:
    """TLS without verification of the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _digest(challenge: str, user: str, password: str, method: str, uri: str) -> str | None:
    fields = {key.lower(): value for key, value in parse_keqv_list(_pairs(challenge)).items()}
    realm, nonce, algorithm = fields.get("realm", ""), fields.get("nonce", ""), fields.get("algorithm", "MD5")
    name = {"MD5": "md5", "SHA-256": "sha256"}.get(algorithm.upper())
    if name is None:
        return None

    def hashed(*parts: str) -> str:
        return hashlib.new(name, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    secret, request = hashed(user, realm, password), hashed(method, uri)
    found = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    if "auth" in fields.get("qop", "").replace(" ", "").split(","):
        once = secrets.token_hex(8)
        found["response"] = hashed(secret, nonce, "00000001", once, "auth", request)
        bare = f', qop=auth, nc=00000001, cnonce="{once}"'
    else:
        found["response"], bare = hashed(secret, nonce, request), ""
    if "opaque" in fields:
        found["opaque"] = fields["opaque"]
    if "algorithm" in fields:
        bare += f", algorithm={algorithm}"
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in found.items()}
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in quoted.items()) + bare


def _pairs(challenge: str) -> list[str]:
    return [pair for pair in parse_http_list(challenge) if "=" in pair]
