"""Streams that can't be opened say why, and cameras with ways of their own can be opened."""

import base64
import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.errors import SourceError
from edge_agent.settings import VideoSource
from edge_agent.sources import rtsp
from edge_agent.sources.stream_server import Address
from edge_agent.sources.video import Video
from tests.broker import PATIENCE, free_port
from tests.certificates import Authority

Reply = Callable[[str], bytes]


@contextmanager
def server(reply: Reply | bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers each request, or without its head whatever comes, as `reply` says; yields its port.

    A request over HTTP is the last one of its connection.
    """

    def serve(link: socket.socket) -> None:
        try:
            with tls.wrap_socket(link, server_side=True) if tls else link as connection:
                connection.settimeout(5)
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head and (callable(reply) or not head):
                        if not (more := connection.recv(4096)):
                            return
                        head += more
                    connection.sendall(reply(head.decode()) if callable(reply) else reply)
                    if not head.startswith((b"DESCRIBE", b"OPTIONS")):
                        return
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(link,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def read(url: str, count: int = 1) -> list[object]:
    """The first frames of a stream."""
    video = Video(url, "name", "source", 5, loop=False, live=True)
    samples = video.samples(threading.Event())
    return [sample.data for sample in (next(samples) for _ in range(count)) if sample]


def cause(url: str) -> str:
    """Why a stream can't be opened."""
    with pytest.raises(SourceError) as caught:
        read(url)
    message = str(caught.value)
    assert message.startswith("name: ")
    assert "hidden" not in message
    assert "\n" not in message
    return message.removeprefix("name: ")


def rtsp_answer(status: str, *headers: str, body: str = "") -> Reply:
    def reply(head: str) -> bytes:
        number = head.partition("CSeq: ")[2].partition("\r\n")[0]
        lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, f"Content-Length: {len(body)}", "", body]
        return "\r\n".join(lines).encode()

    return reply


def http_answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode() + body


REFUSED = {
    "401 Unauthorized": ("asks for user name and password (401)", ()),
    "403 Forbidden": ("403 Forbidden", ()),
    "404 Not Found": ("404 Not Found: is the path", ()),
    "503 Service Unavailable": ("503 Service Unavailable", ()),
    "500 Oops": ("500 Internal Server Error", ()),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_status_code_is_said_over_http(status: str) -> None:
    with server(http_answer(status)) as port:
        assert REFUSED[status][0] in cause(f"http://127.0.0.1:{port}/a?key=hidden")


@pytest.mark.parametrize("status", [*REFUSED, "454 Session Not Found"])
def test_a_status_code_is_said_over_rtsp(status: str) -> None:
    expected = REFUSED.get(status, (status, ()))[0]
    with server(rtsp_answer(status)) as port:
        assert expected in cause(f"rtsp://127.0.0.1:{port}/a?key=hidden")


BASIC = "Basic " + base64.b64encode(b"us:er:hidden").decode()


def wants_basic(head: str) -> bool:
    return f"Authorization: {BASIC}\r\n" in head


def wants_digest(head: str) -> bool:
    """Whether the response is that of https://www.rfc-editor.org/rfc/rfc7616#section-3.4.1."""
    fields: dict[str, str] = dict(re.findall(r'(\w+)="?([^",\r]*)"?', head.partition("Authorization: Digest ")[2]))
    if not fields:
        return False
    method, uri = head.split(" ")[:2]

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    first, second = md5("us:er:realm:hidden"), md5(f"{method}:{uri}")
    if "qop" in fields:
        return fields["response"] == md5(f"{first}:n0nce:{fields['nc']}:{fields['cnonce']}:auth:{second}")
    return fields["response"] == md5(f"{first}:n0nce:{second}")


LOGINS: dict[str, tuple[Callable[[str], bool], str]] = {
    "basic": (wants_basic, 'WWW-Authenticate: Basic realm="realm"'),
    "digest": (wants_digest, 'WWW-Authenticate: Digest realm="realm", nonce="n0nce", qop="auth,auth-int"'),
    "digest without qop": (wants_digest, 'WWW-Authenticate: Digest realm="realm", nonce="n0nce"'),
}


def credentials(scheme: str, port: int, password: str) -> str:
    return f"{scheme}://us%3Aer:{password}@127.0.0.1:{port}/a"


@pytest.mark.parametrize("login", LOGINS)
def test_wrong_credentials_are_said_and_right_ones_are_used(login: str) -> None:
    accepts, challenge = LOGINS[login]

    def over_http(head: str) -> bytes:
        return mjpeg(WITH_PREAMBLE) if accepts(head) else http_answer("401 Unauthorized", challenge)

    def over_rtsp(head: str) -> bytes:
        return rtsp_answer(*(("404 Not Found",) if accepts(head) else ("401 Unauthorized", challenge)))(head)

    with server(over_http) as port:
        assert "does not accept the user name" in cause(credentials("http", port, "hidden2"))
        assert len(read(credentials("http", port, "hidden"))) == 1
    with server(over_rtsp) as port:
        assert "does not accept the user name" in cause(credentials("rtsp", port, "hidden2"))
        assert "404" in cause(credentials("rtsp", port, "hidden"))


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtmp"])
def test_a_refused_port_and_an_unknown_host_are_said(scheme: str) -> None:
    port = free_port()
    assert f"nothing listens at port {port} of 127.0.0.1" in cause(f"{scheme}://user:hidden@127.0.0.1:{port}/a")
    assert "the name no-such-host.invalid is not known" in cause(f"{scheme}://user:hidden@no-such-host.invalid/a")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (http_answer("400 Bad Request"), "speaks HTTP, not RTSP"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak RTSP"),
    ],
)
def test_another_kind_of_server_behind_the_port_of_rtsp_is_said(reply: bytes, expected: str) -> None:
    with server(reply) as port:
        assert expected in rtsp.why_no_stream(f"rtsp://127.0.0.1:{port}/a", "name")


def test_a_server_that_does_not_answer_is_said_within_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp, "PATIENCE", 0.3)
    with server(b"") as port:
        began = time.monotonic()
        assert "does not answer" in rtsp.why_no_stream(f"rtsp://127.0.0.1:{port}/a", "name")
        assert time.monotonic() - began < 2 * PATIENCE


def test_an_answer_that_trickles_ends_with_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp, "PATIENCE", 0.3)
    over = threading.Event()

    def trickle(link: socket.socket) -> None:
        while not over.wait(0.02):
            link.sendall(b"R")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=trickle, args=(theirs,))
        thread.start()
        began = time.monotonic()
        rtsp._received(ours)
        assert time.monotonic() - began < 2 * PATIENCE
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v=0\r\nm=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n", "offers no video"),
        ("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 SOMETHING/90000\r\n", "offers a video (SOMETHING)"),
    ],
)
def test_what_a_server_offers_is_said_when_that_is_the_cause(body: str, expected: str) -> None:
    with server(rtsp_answer("200 OK", "Content-Type: application/sdp", body=body)) as port:
        assert expected in rtsp.why_no_stream(f"rtsp://127.0.0.1:{port}/a", "name")


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_a_port_without_tls_is_said(scheme: str) -> None:
    with server(b"no TLS here\r\n") as port:
        assert f"TLS with port {port} of 127.0.0.1 fails" in cause(f"{scheme}://127.0.0.1:{port}/a")


def test_a_web_page_is_said_to_be_one() -> None:
    with server(http_answer("200 OK", "Content-Type: text/html; charset=utf-8", body=b"<html>" * 100)) as port:
        assert "text/html: a web page" in cause(f"http://127.0.0.1:{port}/")


def snapshots(head: str) -> bytes:
    """A camera that answers with one picture, a new one each time."""
    fetched.append(head)
    return http_answer("200 OK", "Content-Type: image/jpeg", body=picture(len(fetched)))


fetched: list[str] = []


def test_a_single_picture_is_used_and_said_to_be_one() -> None:
    fetched.clear()
    with server(snapshots) as port, pytest.raises(SourceError, match=r"a single picture, .*: set fps to a number"):
        read(f"http://127.0.0.1:{port}/snapshot.jpg", 2)
    assert len(fetched) == 1


def test_a_snapshot_is_fetched_as_often_as_is_stated() -> None:
    fetched.clear()
    with server(snapshots) as port:
        video = Video(f"http://127.0.0.1:{port}/snapshot.jpg", "name", 5.0, 0.1, loop=False, live=True)
        samples = video.samples(threading.Event())
        began = time.monotonic()
        found = [next(samples)]
        while sum(sample is not None for sample in found) < 3:
            found.append(next(samples))
        assert 0.35 < time.monotonic() - began < 3 * PATIENCE
    taken = [sample for sample in found if sample]
    assert [sample.data for sample in taken] == [picture(n) for n in (1, 2, 3)]
    assert [sample.origin["frame"] for sample in taken] == [1, 2, 3]
    assert None in found  # a sign of life while it waits


def test_a_stream_that_ends_after_a_picture_is_no_snapshot() -> None:
    with server(mjpeg(WITH_PREAMBLE[:1])) as port:
        video = Video(f"http://127.0.0.1:{port}/", "name", 5.0, 0.1, loop=False, live=True)
        with pytest.raises(SourceError, match="no frame can be read any more"):
            list(video.samples(threading.Event()))


@pytest.mark.parametrize("scheme", ["rstp", "htp", "RTSP", "rtsp2", "gibberish"])
def test_a_misspelt_kind_of_address_is_refused_by_the_configuration(scheme: str) -> None:
    with pytest.raises(ValidationError, match=f"unknown kind, {scheme}://"):
        VideoSource(type="video", url=f"{scheme}://127.0.0.1/a")


@pytest.mark.parametrize(
    "url",
    [
        *("rtsp://", "rtsp:///path", "http://[::1", "http://:80/", "rtsp://camera:99999/", "http://camera:-1/"),
        *("http://camera:port/", "http://the camera/", "ftp://:21/a.mp4", "rtmp:///a", "rtsp://camera:0/"),
        "http://user:secret#word@camera/",
    ],
)
def test_an_address_that_names_no_server_is_refused_by_the_configuration_and_in_a_redirect(url: str) -> None:
    with pytest.raises(ValidationError, match="not an address with a host and a port"):
        VideoSource(type="video", url=url)
    with pytest.raises(SourceError, match="not an address with a host and a port"):
        Address.of(url, "name")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "udp://:5000",
            "udp://@239.0.0.1:1234",
            "srt://:9000?mode=listener",
            "unix:///run/video",
            "rtsp://[fe80::1]/a",
        ),
        *("rtsp://u:p%40ss@camera:554/a?b=c d", "http://kamera.größe.example/", "clip 1.mp4", "file:///srv/a.mp4"),
    ],
)
def test_an_address_without_a_host_is_accepted_where_its_kind_needs_none(url: str) -> None:
    assert VideoSource(type="video", url=url).url == url


def test_a_misspelt_rtsp_is_recognized() -> None:
    with pytest.raises(ValidationError, match="did you mean rtsp://"):
        VideoSource(type="video", url="rstp://127.0.0.1/a")


def picture(number: int) -> bytes:
    frame = np.full((48, 64, 3), 20 * number, np.uint8)
    frame[:, : 2 * number] ^= 255
    return cv2.imencode(".jpg", frame)[1].tobytes()


PART = b"Content-Type: image/jpeg\r\n"
WITH_PREAMBLE = [b"--frame\r\n" + PART + b"\r\n" + picture(n) + b"\r\n" for n in (1, 2, 3)]
# ESP32's sample of a camera sends the boundary behind each picture, Tasmota another one than it has announced.
STREAMS = {
    "boundary first": WITH_PREAMBLE,
    "boundary last": [PART + b"\r\n" + picture(n) + b"\r\n--frame\r\n" for n in (1, 2, 3)],
    "boundary with a line end before it": [b"\r\n--frame\r\n" + PART + b"\r\n" + picture(n) for n in (1, 2, 3)],
    "boundary without dashes": [b"frame\r\n" + PART + b"\r\n" + picture(n) + b"\r\n" for n in (1, 2, 3)],
    "another boundary": [b"--other\r\n" + PART + b"\r\n" + picture(n) + b"\r\n" for n in (1, 2, 3)],
    "lengths": [b"--frame\r\nContent-Length: %d\r\n\r\n" % len(picture(n)) + picture(n) for n in (1, 2, 3)],
    "wrong lengths": [b"--frame\r\nContent-Length: 17\r\n\r\n" + picture(n) for n in (1, 2, 3)],
    "no boundary": [picture(n) for n in (1, 2, 3)],
}


def mjpeg(parts: list[bytes], kind: str = "multipart/x-mixed-replace;boundary=frame") -> bytes:
    return http_answer("200 OK", f"Content-Type: {kind}", body=b"".join(parts))


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("boundary", ["; boundary=frame", "; boundary=--frame", '; boundary="frame"', ""])
def test_pictures_over_http_are_read_wherever_the_boundary_stands(kind: str, boundary: str) -> None:
    with server(mjpeg(STREAMS[kind], f"multipart/x-mixed-replace{boundary}")) as port:
        assert read(f"http://127.0.0.1:{port}/", 3) == [picture(n) for n in (1, 2, 3)]


def test_a_damaged_picture_is_an_error_of_its_own_and_the_next_one_is_read() -> None:
    parts = [b"--frame\r\n\r\n" + picture(1)[:-80] + b"\r\n", *WITH_PREAMBLE[1:]]
    with server(mjpeg(parts)) as port:
        first, second = read(f"http://127.0.0.1:{port}/", 2)
    assert not isinstance(first, bytes)
    assert second == picture(2)


def test_redirects_are_followed_and_credentials_stay_with_their_server() -> None:
    seen: list[str] = []

    def other(head: str) -> bytes:
        seen.append(head)
        return http_answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')

    with server(other) as foreign:

        def first(head: str) -> bytes:
            if head.startswith("GET /a"):
                return http_answer("302 Found", "Location: /b")
            if not wants_basic(head):
                return http_answer("401 Unauthorized", LOGINS["basic"][1])
            return http_answer("302 Found", f"Location: http://localhost:{foreign}/c")

        with server(first) as port:
            assert "401" in cause(credentials("http", port, "hidden"))
    assert len(seen) == 1
    assert "Authorization" not in seen[0]


def test_a_certificate_that_the_camera_has_signed_itself_is_accepted(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "ca").issue("camera", host="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    with server(mjpeg(WITH_PREAMBLE), context) as port:
        assert read(f"https://127.0.0.1:{port}/") == [picture(1)]


@pytest.mark.parametrize("location", ["rtsp://localhost/a", "file:///etc/passwd", "http://["])
def test_a_redirect_to_what_is_no_web_address_is_refused(location: str) -> None:
    with server(http_answer("302 Found", f"Location: {location}")) as port:
        assert "the server sends on to" in cause(f"http://127.0.0.1:{port}/a")


@pytest.mark.parametrize("path", ["/a b", "/kamera/küche?x=ü", "/%20?a=%26&b=c", "/a%0d%0aX: y"])
def test_any_path_is_asked_for_in_one_line(path: str) -> None:
    heads: list[str] = []

    def reply(head: str) -> bytes:
        heads.append(head)
        return mjpeg(WITH_PREAMBLE)

    with server(reply) as port:
        read(f"http://127.0.0.1:{port}{path}")
    first = heads[0].split("\r\n")[0]
    assert unquote(first) == f"GET {unquote(path)} HTTP/1.1"
    assert first.isascii()
    assert first.count(" ") == 2


@pytest.mark.parametrize("user", ["k%C3%BCche", "a%22b%5Cc", "a b"])
@pytest.mark.parametrize("login", ["basic", "digest"])
def test_any_user_name_is_sent(user: str, login: str) -> None:
    heads: list[str] = []

    def reply(head: str) -> bytes:
        heads.append(head)
        return http_answer("401 Unauthorized", LOGINS[login][1])

    with server(reply) as port:
        assert "does not accept" in cause(f"http://{user}:hidden@127.0.0.1:{port}/a")
    assert "Authorization: " in heads[1]


NO_ADDRESSES = (
    "http://user:hid#den@cam/a",
    "rtsp://user:hidden@cam:port/a",
    "http://:80/",
    f"http://{'a' * 70}.example/",
    "http://us%0d%0aer:hidden@cam/",
    "http://[",
)


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_an_address_that_is_none_says_how_to_write_one(url: str) -> None:
    assert "%23" in cause(url)
