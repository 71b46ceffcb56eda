"""What is kept goes to a bucket or a web server: signed, resumed, at a bounded rate, and only where it may."""

import hashlib
import hmac
import http.server
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from pydantic import ValidationError

from edge_agent.errors import ConfigError
from edge_agent.keeping import upload
from edge_agent.keeping.upload import Destination, own_address
from edge_agent.preprocess.opencv import cv2
from edge_agent.sample_store.segment import Entry
from edge_agent.sample_store.store import Bounds, SampleStore, read_store
from edge_agent.samples import Prediction
from edge_agent.settings.keep import Upload
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.certificates import Authority
from tests.daemon_process import Daemon, configuration
from tests.keeping.kit import DEVICE, keeper
from tests.keeping.test_keep import seen

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


class Bucket(http.server.ThreadingHTTPServer):
    """Takes PUT requests whose signature is right, as S3 does; over TLS, with a certificate of the authority.

    Attributes:
        files: what has arrived, by path.
        refused: number of requests that it has refused.
        wrongly: answers a request in another way if it returns True.
    """

    def __init__(self, authority: Authority) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.files: dict[str, bytes] = {}
        self.refused = 0
        self.wrongly: Callable[[_Request], bool] = lambda _: False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = authority.issue("bucket", host="localhost")
        context.load_cert_chain(certificate.cert, certificate.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what some tests are about."""


class _Request(http.server.BaseHTTPRequestHandler):
    server: Bucket

    def do_HEAD(self) -> None:
        allowed = self._is_signed(b"") or self.headers.get("Authorization") == "Bearer let-me-in"
        found = self.server.files.get(self.path)
        self.send_response(403 if not allowed else 404 if found is None else 200)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()

    def do_PUT(self) -> None:
        if self.server.wrongly(self):
            return
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            return
        allowed = self._is_signed(content) or self.headers.get("Authorization") == "Bearer let-me-in"
        if allowed:
            self.server.files[self.path] = content
        else:
            self.server.refused += 1
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_signed(self, content: bytes) -> bool:
        """Computes the signature again: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
        stated = self.headers.get("Authorization", "")
        if not stated.startswith("AWS4-HMAC-SHA256 "):
            return False
        parts = dict(part.strip().split("=", 1) for part in stated.removeprefix("AWS4-HMAC-SHA256 ").split(","))
        identity, day, region, service, _ = parts["Credential"].split("/")
        names = parts["SignedHeaders"].split(";")
        digest = hashlib.sha256(content).hexdigest()
        headers = "".join(f"{name}:{self.headers[name].strip()}\n" for name in names)
        path, _, query = self.path.partition("?")
        canonical = "\n".join((self.command, path, query, headers, parts["SignedHeaders"], digest))
        scope = f"{day}/{region}/{service}/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(("AWS4-HMAC-SHA256", self.headers["X-Amz-Date"], scope, hashed))
        key = f"AWS4{SECRET}".encode()
        for step in (day, region, service, "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        right = hmac.new(key, text.encode(), "sha256").hexdigest()
        return identity == KEY and parts["Signature"] == right and self.headers["X-Amz-Content-SHA256"] == digest

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def bucket(authority: Authority) -> Iterator[Bucket]:
    with Bucket(authority) as bucket:
        yield bucket


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(upload, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(upload, "LAST_RETRY", 0.1)


@pytest.fixture
def options(bucket: Bucket, authority: Authority, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "key").write_text(f"{KEY}:{SECRET}\n")
    to = {"url": f"{bucket.url}/kept", "access_key_file": str(tmp_path / "key"), "ca_file": str(authority.cert)}
    return {"when": {"random": 1}, "max_share": 1, "per_hour": 1000, "upload": to | {"every": 1}}


def of_pipeline(bucket: Bucket) -> dict[str, bytes]:
    prefix = f"/kept/{DEVICE.device_id}/stage/"
    return {path.removeprefix(prefix): content for path, content in bucket.files.items() if path.startswith(prefix)}


def test_what_is_kept_arrives_signed_and_is_a_store_again(
    bucket: Bucket, options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("botocore")
    with keeper(tmp_path / "store", **options) as keeps:
        for number in range(3):
            keeps.on_result(seen(bytes([number]) * 100, Prediction("cat", 0, 0.5)))
        wait_until(lambda: of_pipeline(bucket), 10, f"it arrives: {keeps.facts()}")
        wait_until(lambda: keeps.facts()["upload"]["waiting"] == 0, 10, "and is counted")
        assert keeps.facts()["upload"]["problem"] == ""
    there = tmp_path / "there"
    there.mkdir()
    for name, content in of_pipeline(bucket).items():
        (there / name).write_bytes(content)
    assert [one.read().data[:1] for one in read_store(there)] == [b"\0", b"\1", b"\2"]


def test_a_wrong_key_a_redirect_and_a_server_that_fails_are_problems_and_nothing_is_taken_for_arrived(
    bucket: Bucket, options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("botocore")
    (tmp_path / "key").write_text(f"{KEY}:guessed\n")
    with keeper(tmp_path / "store", **options) as keeps:
        keeps.on_result(seen(b"x", Prediction("cat", 0, 0.5)))
        wait_until(lambda: bucket.refused, 10, "it is refused")
        wait_until(lambda: "403" in keeps.facts()["upload"]["problem"], 10, "that is said")
        assert "guessed" not in keeps.facts()["upload"]["problem"]
        assert keeps.facts()["upload"]["waiting"] == 1


def test_an_interruption_in_the_middle_is_made_good(bucket: Bucket, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("let-me-in\n")
    options["upload"] = {key: value for key, value in options["upload"].items() if key != "access_key_file"} | {
        "token_file": str(tmp_path / "token")
    }
    cut = threading.Event()

    def hang_up(request: _Request) -> bool:
        if cut.is_set():
            return False
        cut.set()
        request.rfile.read(1000)
        request.connection.close()
        return True

    bucket.wrongly = hang_up
    content = os.urandom(200_000)
    with keeper(tmp_path / "store", **options) as keeps:
        keeps.on_result(seen(content, Prediction("cat", 0, 0.5)))
        wait_until(lambda: of_pipeline(bucket), 10, f"it arrives: {keeps.facts()}")
    assert cut.is_set()
    assert content in next(iter(of_pipeline(bucket).values()))


def test_an_agent_that_is_killed_in_the_middle_of_an_upload_sends_it_whole_after_its_start(
    bucket: Bucket, options: dict[str, Any], broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("let-me-in\n")
    to = {"url": f"{bucket.url}/kept", "ca_file": options["upload"]["ca_file"], "token_file": str(tmp_path / "token")}
    keep: dict[str, Any] = {"when": {"random": 1}, "max_share": 1, "flush_every": "100ms"}
    keep |= {"path": str(tmp_path / "store"), "upload": to | {"every": 1}}
    pipelines = {"lab": {"source": {"type": "mqtt", "topic": "in"}, "model": "digits", "keep": keep}}
    models = {"digits": {"path": "digits"}}
    daemon = Daemon(tmp_path, configuration(broker, "killed", models=models, pipelines=pipelines))
    reached = threading.Event()

    def kill(request: _Request) -> bool:
        if reached.is_set():
            return False
        reached.set()
        request.rfile.read(1000)
        daemon.signal(signal.SIGKILL)
        return True

    bucket.wrongly = kill
    picture = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))[1].tobytes()
    with daemon, Subscriber(broker.port, "edge/killed/#") as client:
        client.publish("in", picture)
        assert reached.wait(20)
        daemon.wait()
        daemon.start()
        wait_until(lambda: bucket.files, 20, "it arrives")
    assert [sample.read().data for sample in read_store(tmp_path / "store")] == [picture]
    assert picture in next(iter(bucket.files.values()))


def test_it_uploads_at_its_hours_and_in_its_networks_only(
    bucket: Bucket, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = time.localtime().tm_hour
    for further in ({"hours": [(hour + 2) % 24, (hour + 3) % 24]}, {"networks": ["10.1.0.0/16"]}):
        with keeper(tmp_path / str(len(further)), **options | {"upload": options["upload"] | further}) as keeps:
            looks = threading.Semaphore(0)
            uploader = keeps._uploader
            assert uploader is not None
            monkeypatch.setattr(uploader, "_round", lambda: pytest.fail("it uploads"))
            may = uploader._may_upload
            monkeypatch.setattr(uploader, "_may_upload", lambda may=may, looks=looks: (looks.release(), may())[1])
            assert looks.acquire(timeout=10)
            assert looks.acquire(timeout=10)
    assert str(own_address(bucket.url)) in ("127.0.0.1", "::1")
    assert not bucket.files


def test_the_rate_is_bounded_and_a_stop_does_not_wait_for_the_end() -> None:
    stopped = threading.Event()
    began = time.monotonic()
    assert b"".join(upload.Pace(400_000, stopped).blocks(bytes(100_000))) == bytes(100_000)
    assert time.monotonic() - began > 0.2
    blocks = upload.Pace(1000, stopped).blocks(bytes(100_000))
    next(blocks)
    stopped.set()
    with pytest.raises(upload.StoppedError):
        next(blocks)


def entry(number: int, size: int) -> Entry:
    return Entry({"id": f"{number:016x}", "captured_at": 1000.0 + number}, bytes(size))


def test_what_has_arrived_makes_room_first_and_what_has_not_is_counted(tmp_path: Path) -> None:
    bounds = Bounds(1_000_000, uploads=True)
    store = SampleStore(tmp_path / "store", bounds)
    for number in range(7):
        store.append([entry(number, 130_000)])
    first, second, third, *_ = store.closed()
    store.arrived(second)
    store.arrived(third)
    store.close()
    store = SampleStore(tmp_path / "store", bounds)  # as after SIGKILL: what has arrived is known
    store.open()
    assert store.closed()[:1] == [first]
    store.append([entry(7, 130_000)])
    store.append([entry(8, 130_000)])
    assert (store.deleted, store.unsent) == (2, 0)
    assert [int(one.id, 16) for one in read_store(store.folder)] == [0, 3, 4, 5, 6, 7, 8]
    store.append([entry(9, 130_000)])
    assert (store.deleted, store.unsent) == (3, 1)
    assert len(list(store.folder.glob("*.arrived"))) == 0


def test_a_store_that_is_begun_again_overwrites_nothing_that_was_uploaded(tmp_path: Path) -> None:
    names = set()
    for number in range(2):
        store = SampleStore(tmp_path / str(number), Bounds(1_000_000, uploads=True))
        store.append([entry(number, 10)])
        store.close_segment()
        names |= {path.name for path in store.closed()}
    assert len(names) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://example.org/kept"},
        {"url": "https://user:password@example.org/kept"},
        {"url": "https://example.org/kept?sig=secret"},
        {"url": "https://example.org", "networks": ["home"]},
        {"url": "https://example.org", "token_file": "a", "query_file": "b"},
    ],
)
def test_what_would_be_unsafe_or_unclear_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Upload.model_validate(options)


def test_a_key_file_without_a_secret_is_refused_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("only-an-id\n")
    options = Upload.model_validate({"url": "https://example.org", "access_key_file": "key"})
    with pytest.raises(ConfigError) as error:
        Destination(options, "a/b", tmp_path, "pipelines.lab.keep.upload")
    assert "access_key_file" in str(error.value)
    assert "only-an-id" not in str(error.value)
