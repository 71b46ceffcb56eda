"""The status page over plain HTTP, from a daemon at work."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.shipped import shipped
from edge_agent.monitoring.page.app import FILES
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import PROJECT, Daemon, configuration
from tests.images import decode_image

DIGITS = shipped("digits")
CLIP = shipped("clips") / "meter.mp4"
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
TOKEN = "correct horse battery"
NAME = "lab & <b>"


@pytest.fixture(scope="module")
def daemon(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Daemon]]:
    """A daemon with its page, and the port of that."""
    port = free_port()
    config = configuration(
        broker,
        "shown",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={
            NAME: {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits", "top_k": 3},
            "meter": {"source": {"type": "video", "url": str(CLIP), "loop": True, "fps": 10}, "model": "digits"},
        },
        http={"listen": f"127.0.0.1:{port}"},
    )
    with Daemon(tmp_path_factory.mktemp("daemon"), config) as running:
        yield port, running


@pytest.fixture
def port(daemon: tuple[int, Daemon]) -> int:
    return daemon[0]


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """An answer and its body; `headers` with `_` for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def status(port: int) -> dict[str, Any]:
    answer, body = get(port, "/status.json")
    assert answer.status == 200
    document: dict[str, Any] = json.loads(body)
    return document


def test_health_and_readiness_are_told_in_a_word(port: int) -> None:
    assert get(port, "/healthz")[1] == b"ok\n"
    assert get(port, "/readyz")[1] == b"ready\n"


def test_nothing_is_asked_of_elsewhere_and_nothing_is_for_elsewhere(port: int) -> None:
    for path in *FILES, "/status.json", "/nowhere":
        answer, body = get(port, path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert set(re.findall(rb"https?://[^\"'\s]+", body)) <= {b"http://www.w3.org/2000/svg"}


def test_the_page_needs_nothing_that_its_policy_forbids(port: int) -> None:
    _, body = get(port, "/")
    assert re.findall(rb"<script[^>]*>([^<]*)</script>", body) == [b""]
    assert not re.search(rb"\son\w+=|\sstyle=|<style", body)
    for path in FILES:
        script = get(port, path)[1]
        assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_every_file_of_the_page_is_served_and_every_module_that_one_imports() -> None:
    served = set(FILES.values())
    folder = PROJECT / "edge_agent" / "monitoring" / "page" / "static"
    assert served == {file.name for file in folder.iterdir()}
    for file in folder.glob("*.js"):
        assert {*re.findall(r'from "\./([^"]+)"', file.read_text())} <= served


def test_the_state_of_everything_is_told_with_sums_that_balance(port: int, broker: Mosquitto) -> None:
    with Subscriber(broker.port, "edge/shown/#") as client:
        client.publish("lab/images", IMAGE)
        client.wait_for(lambda message: message.topic == f"edge/shown/{NAME}/result")
    document = status(port)
    latest = document["pipelines"][NAME]["latest"]
    assert len(latest["predictions"]) == 3
    assert latest["predictions"][0]["label"] == "5"
    assert document["pipelines"][NAME]["pictures"] is True
    assert set(document["imbalance"].values()) == {""}
    assert document["broker"]["connected"] is True
    assert document["models"]["digits"]["accelerator"]["in_use"] == "cpu"


def test_pictures_come_one_after_the_other_and_keep_within_their_size(port: int) -> None:
    number, jpeg = picture(port, 0)
    assert len(jpeg) <= 120_000
    assert max(decode_image(jpeg).shape) <= 960
    assert picture(port, number)[0] > number


def picture(port: int, after: int) -> tuple[int, bytes]:
    """The number and bytes of a picture that is not the one of number `after`."""
    found: list[tuple[HTTPResponse, bytes]] = []

    def came() -> bool:
        found.append(get(port, f"/pictures/meter?after={after}"))
        return found[-1][0].status == 200

    wait_until(came, 20, "a picture")
    answer, body = found[-1]
    assert answer.headers["Content-Type"] == "image/jpeg"
    return int(answer.headers["X-Number"]), body


@pytest.mark.parametrize(
    "path", ["/pictures/", "/pictures/nobody", "/pictures/..%2fpage.js", "/../main.js", "/page.py"]
)
def test_what_is_not_there_is_not_found(path: str, port: int) -> None:
    assert get(port, path)[0].status == 404


def test_it_can_only_be_looked_at(port: int) -> None:
    for method in "POST", "PUT", "DELETE", "OPTIONS":
        assert get(port, "/", method)[0].status == 405
    answer, body = get(port, "/", "HEAD")
    assert (answer.status, body) == (200, b"")


def test_another_name_than_its_own_is_refused(port: int) -> None:
    for path in "/", "/status.json", "/healthz", "/pictures/meter":
        assert get(port, path, Host="evil.example")[0].status == 403


def test_what_another_site_wants_to_take_in_is_refused(port: int) -> None:
    foreign = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    for path in "/status.json", "/pictures/meter", "/main.js":
        assert get(port, path, **foreign)[0].status == 403


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, b"\0" * 1000, b"GET /\xff\xfe HTTP/1.1\r\n\r\n"]
)
def test_nonsense_is_refused_and_the_daemon_goes_on(request_: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request_ + b"\r\n\r\n")
        head = client.recv(100)
    assert re.match(rb"HTTP/1\.\d 4\d\d ", head)
    assert get(port, "/healthz")[0].status == 200


def test_clients_that_say_nothing_or_read_nothing_hold_nobody_up(port: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(20)]
    for client in idle[:10]:
        client.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n")
    for client in idle[10:]:
        client.sendall(b"GET /main.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    before = status(port)["counters"]["meter"]["inferred"]
    wait_until(lambda: status(port)["counters"]["meter"]["inferred"] > before + 10, 20, "the road goes on")
    for client in idle:
        client.close()


def test_with_a_token_nothing_but_health_is_told_without_it(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    port = free_port()
    config = configuration(
        mosquitto,
        "guarded",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
        http={"listen": f"0.0.0.0:{port}", "token_file": "token"},
    )
    with Daemon(tmp_path, config) as daemon:
        assert get(port, "/healthz")[0].status == 200
        for path in "/", "/status.json", "/pictures/lab", "/main.js", "/nowhere":
            answer, body = get(port, path)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert len(body) < 100
        assert get(port, "/status.json", Authorization="Bearer wrong")[0].status == 401
        assert get(port, "/status.json", Authorization=f"Bearer {TOKEN}")[0].status == 200
        mosquitto.stop()
        wait_until(lambda: get(port, "/readyz")[0].status == 503, 20, "not ready without a broker")
        assert get(port, "/healthz")[0].status == 200
        assert TOKEN not in daemon.log()
