"""Asks a server of streams why OpenCV could not open one: over RTSP, https://www.rfc-editor.org/rfc/rfc2326."""

import socket
import time
from http import HTTPStatus
from typing import NamedTuple

from edge_agent.sources.stream_server import PORTS, Address
from edge_agent.system.terminal import printable

# Seconds in which a server has to answer, after OpenCV has already waited for it; both are within OPEN_PATIENCE.
PATIENCE = 3.0
_MAX_ANSWER = 65536


class _Answer(NamedTuple):
    status: int
    headers: dict[str, list[str]]
    body: str


def why_no_stream(url: str, name: str) -> str:
    """Why OpenCV could not open a stream over RTSP or RTMP: asks its server, within `PATIENCE` a question.

    Args:
        url: the address, with its credentials.
        name: for messages.

    Raises:
        SourceError: it is not an address.
    """
    address = Address.of(url, name)
    if address.scheme not in PORTS:
        return "can't be opened as a video"
    try:
        if not address.scheme.startswith("rtsp"):
            address.connect(PATIENCE).close()
            return "can't be opened as a video, though its server can be reached"
        return _ask(address)
    except OSError as error:
        return address.unreachable(error)


def _ask(address: Address) -> str:
    """What an RTSP server says of a stream."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    uri = f"{address.scheme}://{host}:{address.port}{address.target}"
    with address.connect(PATIENCE) as link:
        answer = _describe(link, address, uri, "")
        if isinstance(answer, _Answer) and answer.status == HTTPStatus.UNAUTHORIZED:
            header = address.authorization(answer.headers.get("www-authenticate", []), "DESCRIBE", uri)
            answer = _describe(link, address, uri, f"Authorization: {header}\r\n") if header else answer
    if isinstance(answer, str):
        return answer
    if answer.status != HTTPStatus.OK:
        return address.refused(answer.status)
    lines = answer.body.splitlines()
    if not any(line.startswith("m=video") for line in lines):
        return "the server offers no video there: is the path in the address right?"
    codecs = {line.split(" ")[1].split("/")[0] for line in lines if line.startswith("a=rtpmap:") and " " in line}
    kinds = printable(", ".join(sorted(codecs)))[:100] or "of an unnamed kind"
    return f"the server offers a video ({kinds}), but OpenCV can't open it: try H.264, and RTP over TCP"


def _describe(link: socket.socket, address: Address, uri: str, authorization: str) -> _Answer | str:
    """The answer; or what is wrong with it."""
    number = 2 if authorization else 1
    head = f"DESCRIBE {uri} RTSP/1.0\r\nCSeq: {number}\r\nUser-Agent: edge-agent\r\nAccept: application/sdp\r\n"
    link.sendall(f"{head}{authorization}\r\n".encode())
    port = f"port {address.port} of {address.host}"
    try:
        data = _received(link)
    except TimeoutError:
        return f"{port} accepts the connection and does not answer: does it speak RTSP?"
    if data.startswith(b"HTTP/"):
        return f"{port} speaks HTTP, not RTSP: is it a port for http://?"
    if not data:
        return f"{port} closes the connection: does it speak RTSP?"
    head, _, body = data.decode("latin-1").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if not (words[0].startswith("RTSP/") and len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3):  # noqa: PLR2004 - digits of a status code
        return f"what answers at {port} does not speak RTSP"
    headers: dict[str, list[str]] = {}
    for key, _, value in (line.partition(":") for line in lines):
        headers.setdefault(key.strip().lower(), []).append(value.strip())
    return _Answer(int(words[1]), headers, body)


def _received(link: socket.socket) -> bytes:
    """An answer with its body, or what has come of it when the server closes the connection.

    Raises:
        OSError: of the connection; `TimeoutError`, if nothing has come.
    """
    until, data = time.monotonic() + PATIENCE, b""
    while len(data) < _MAX_ANSWER and not _whole(data):
        link.settimeout(max(0.01, until - time.monotonic()))
        try:
            more = link.recv(4096)
        except TimeoutError:
            if not data:
                raise
            break
        if not more or time.monotonic() > until:
            break
        data += more
    return data


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return bool(data) and not b"RTSP/".startswith(data[:5])
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    lengths = [value.strip() for key, _, value in fields if key == b"content-length"]
    return not lengths or not lengths[0].isdigit() or len(body) >= int(lengths[0][:6])
