"""A signed repository on a real web server, bundles to release, and a daemon that takes its models from there."""

import hashlib
import http.server
import json
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import yaml
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.models.shipped import shipped
from edge_agent.release.repository import SignedRepository
from edge_agent.release.rollout import Rollout
from edge_agent.update.store import Store
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
DEVICE = "updated"
PASSPHRASE = b"correct horse"


def ask(_name: str, _new: bool) -> bytes:
    return PASSPHRASE


def bundle(folder: Path, version: str, change: Callable[[Path, dict[str, Any]], None] | None = None) -> Path:
    """The digit reader as an archive, as another version; made only once, so that it has its trial only once.

    Args:
        folder: where it goes.
        version: which.
        change: may change the unpacked bundle and its manifest.
    """
    archive = folder / f"digits-{version}.zip"
    if archive.exists():
        return archive
    scratch = folder / f"bundle-{version}"
    shutil.copytree(DIGITS, scratch)
    manifest = yaml.safe_load((scratch / "model.yaml").read_text()) | {"version": version}
    if change is not None:
        change(scratch, manifest)
    (scratch / "model.yaml").write_text(yaml.safe_dump(manifest))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(scratch.rglob("*")):
            out.write(path, path.relative_to(scratch))
    return archive


def wrong_answers(_folder: Path, manifest: dict[str, Any]) -> None:
    """Golden samples that the model does not answer so."""
    manifest["golden"][0]["label"] = "7" if manifest["golden"][0]["label"] != "7" else "1"


def not_right_enough(folder: Path, manifest: dict[str, Any]) -> None:
    """Labelled data of which the model gets a half wrong, where the bundle requires more."""
    (folder / "evaluation").mkdir()
    shutil.copy(folder / "golden" / "5_printed.png", folder / "evaluation")
    shutil.copy(folder / "golden" / "7_printed.png", folder / "evaluation")
    (folder / "evaluation" / "labels.csv").write_text("file,label\n5_printed.png,5\n7_printed.png,1\n")
    manifest["evaluation"] = {"data": "evaluation", "require": {"top1": 0.85}}


def mixed_up_labels(folder: Path, manifest: dict[str, Any]) -> None:
    """A model that calls everything by the name of something else."""
    labels = (folder / "labels.txt").read_text().split()
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in [*labels[1:], labels[0]]))
    manifest["golden"] = []


def assert_whole(store: Store) -> None:
    """What a store says of itself is so."""
    state = store.state()
    for key in {state.active, *state.good} - {None}:
        content = store.archive(str(key)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == state.versions[str(key)]["sha256"]


class WebServer(http.server.ThreadingHTTPServer):
    """Serves a folder on loopback, in ranges where that is asked for.

    Attributes:
        requests: path and first byte of each request.
        sent: bytes of content, by path.
        wrongly: answers a request in another way than from the folder if it returns True.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.folder = folder
        self.requests: list[tuple[str, int]] = []
        self.sent: Counter[str] = Counter()
        self.wrongly: Callable[[_Request], bool] = lambda _: False
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


class _Request(http.server.BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.requests.append((self.path, start))
        if self.server.wrongly(self):
            return
        file = self.server.folder / unquote(self.path).lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])
        self.server.sent[self.path] += len(content) - start

    def log_message(self, *args: Any) -> None:
        pass


class Scene:
    """A daemon whose model `digits` follows the channel `digits`, somebody who sends pictures, and who releases.

    Args:
        broker: between them.
        folder: for everything.
        cache: may be that of others: what has passed its trial there needs no other one.
        server: serves `repository`.
        repository: what is released.
        update: further settings of the section `update`.
    """

    def __init__(
        self,
        broker: Mosquitto,
        folder: Path,
        cache: Path,
        server: WebServer,
        repository: SignedRepository,
        **update: Any,
    ) -> None:
        self.broker, self.folder, self.server, self.repository = broker, folder, server, repository
        self.cache = cache
        self.update = {
            "url": server.url,
            "root": str(shutil.copy(repository.first_root, folder / "root.json")),
            "models": {"digits": "digits"},
            "interval": "1s",
            "shadow": {"samples": 3, "max_slowdown": 1000},
            "probation": {"duration": "300ms", "max_slowdown": 1000},
            **update,
        }
        self.daemon = Daemon(
            folder / "device", self.config(), environment={"XDG_CACHE_HOME": str(cache)}, module="tests.update.faulty"
        )
        self.client = Subscriber(broker.port, f"edge/{DEVICE}/#")
        self._sent = 0

    def config(self) -> dict[str, Any]:
        return configuration(
            self.broker,
            DEVICE,
            models={"digits": {"path": str(DIGITS)}},
            pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
            update=self.update,
        )

    @property
    def store(self) -> Store:
        """The device's versions of the model."""
        return Store(self.folder / "device" / "updates" / "models" / "digits")

    def release(self, version: str, archive: Path | None = None, share: int = 10_000) -> None:
        self.repository.add(archive or bundle(self.cache, version), "digits", version, share, [])

    def install(self, version: str) -> None:
        """Puts a version on the device, as an update does that has gone well."""
        self.release(version)
        [release] = self.repository.find(f"digits/{version}")
        part = self.store.part(release.key)
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle(self.cache, version), part)
        self.store.take_in(release)
        self.store.activate(release.key, 0.0)
        self.store.commit(release.key)
        self.store.ended()

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(m.payload) for m in list(self.client.messages) if m.topic == f"edge/{DEVICE}/lab/result"]

    def states(self) -> list[dict[str, Any]]:
        """What `P/update` has said of the model, in order."""
        documents = [json.loads(m.payload) for m in list(self.client.messages) if _is_update(m)]
        return [document["models"]["digits"] | {"error": document["error"]} for document in documents]

    def rollout(self, version: str) -> Rollout:
        """How whoever watches a release sees this device."""
        rollout = Rollout(self.repository.find(f"digits/{version}"), "edge")
        for message in list(self.client.messages):
            if message.topic in (f"edge/{DEVICE}/update", f"edge/{DEVICE}/status"):
                assert rollout.received(message.topic, message.payload)
        return rollout

    def wait_for(self, step: str, version: str | None = None, timeout: float = 40.0) -> dict[str, Any]:
        """What `P/update` says at a step; waits for it, with pictures coming in all the time."""

        def reached() -> list[dict[str, Any]]:
            self.serving()
            return [state for state in self.states() if state["step"] == step and version in (None, state["version"])]

        try:
            return wait_until(reached, timeout, f"{step} {version or ''}")[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.states()[-3:]}\n{self.daemon.log()}") from None

    def send(self) -> bytes:
        """Sends a picture that asks for an answer; returns what tells that answer from others."""
        self._sent += 1
        mark = str(self._sent).encode()
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        properties.ResponseTopic, properties.CorrelationData = f"edge/{DEVICE}/answer", mark
        self.client.publish("lab", IMAGE, properties=properties)
        return mark

    def serving(self) -> str:
        """Version of the model that answers now."""
        mark = self.send()
        (answer, *_) = self.client.wait_for(lambda m: _mark(m) == mark, timeout=30)
        return str(json.loads(answer.payload)["model"]["version"])

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Sends pictures all the time, answered or not."""
        stopped = threading.Event()

        def send() -> None:
            while not stopped.wait(0.1):
                self.send()

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def keep_sending_until(self, step: str) -> None:
        """Sends pictures, answered or not, until a step is published."""

        def reached() -> bool:
            self.send()
            return any(state["step"] == step for state in self.states())

        wait_until(reached, 60, f"{step}; {self.states()[-3:]}")

    def close(self) -> None:
        self.client.close()


def _mark(message: Message) -> bytes | None:
    return getattr(message.properties, "CorrelationData", None)


def _is_update(message: Message) -> bool:
    return message.topic == f"edge/{DEVICE}/update"


@contextmanager
def scene(broker: Mosquitto, folder: Path, cache: Path, **update: Any) -> Iterator[Scene]:
    """A scene with an empty repository; the daemon is not started yet."""
    repository = SignedRepository(folder / "repository", ask)
    repository.init()
    with WebServer(folder / "repository") as server:
        stage = Scene(broker, folder, cache, server, repository, **update)
        try:
            yield stage
        finally:
            stage.close()
