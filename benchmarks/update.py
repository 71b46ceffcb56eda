"""`python -m benchmarks.update`: what an update of a 4 MB model costs: seconds, bytes, and frames meanwhile.

A video runs through MobileNet v2 as fast as it goes. A release of the same model under another version is then brought
into service, from a web server on loopback. Needs the test data.
"""

import json
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.inputs import DATA
from benchmarks.processes import Broker
from edge_agent import settings
from edge_agent.models.pack import About, pack
from edge_agent.release.repository import SignedRepository
from tests.broker import Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.update.kit import WebServer, ask

DEVICE = "measured"
SETTLE_S = 15.0
SHADOW_SAMPLES = 500


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {version: _bundle(folder, version) for version in ("1", "2")}
        repository = SignedRepository(folder / "repository", ask)
        repository.init()
        root = folder / "root.json"
        root.write_bytes(repository.first_root.read_bytes())
        with (
            Broker(folder) as broker,
            WebServer(folder / "repository") as server,
            Subscriber(broker.port, f"edge/{DEVICE}/stats", f"edge/{DEVICE}/update") as client,
            Daemon(
                folder / "device",
                _config(broker, files["1"], server.url, root),
                environment={"XDG_CACHE_HOME": str(folder / "cache")},
            ),
        ):
            threading.Event().wait(SETTLE_S)
            server.sent.clear()
            repository.add(files["2"], "photos", "2", 10_000, [])
            client.publish(f"edge/{DEVICE}/cmd", '{"command": "update"}')
            wait_until(lambda: _steps(client)[-1:] and _steps(client)[-1][1] == "committed", 300, "committed")
            threading.Event().wait(SETTLE_S)
            _report(client, server, files["2"])


def _bundle(folder: Path, version: str) -> Path:
    model = DATA / "classify_tflite" / "mobilenet_v2_1.0_224_quant.tflite"
    labels = DATA / "labels" / "coral_imagenet_labels.txt"
    out = folder / f"{version}.zip"
    options = settings.Model(path=model, labels=labels)
    pack(options, folder, About("photos", version, ""), [DATA / "images" / "parrot.jpg"], out)
    return out


def _config(broker: Broker, archive: Path, url: str, root: Path) -> dict[str, Any]:
    video = DATA / "video" / "one-by-one-person-detection.mp4"
    return configuration(
        f"mqtt://127.0.0.1:{broker.port}",
        DEVICE,
        models={"photos": {"path": str(archive)}},
        pipelines={
            "hall": {"source": {"type": "video", "url": str(video), "fps": "max", "loop": True}, "model": "photos"}
        },
        update={
            "url": url,
            "root": str(root),
            "models": {"photos": "photos"},
            "interval": "30d",
            "shadow": {"samples": SHADOW_SAMPLES},
            "probation": {"duration": "15s"},
        },
    )


def _steps(client: Subscriber) -> list[tuple[float, str, dict[str, Any]]]:
    """When which step was published."""
    messages = [message for message in list(client.messages) if message.topic.endswith("/update")]
    return [(m.arrived_at, model["step"], model) for m in messages for model in _models(m.payload)]


def _models(payload: bytes) -> list[dict[str, Any]]:
    return list(json.loads(payload)["models"].values())


def _report(client: Subscriber, server: WebServer, archive: Path) -> None:
    steps = [(at, step, model) for at, step, model in _steps(client) if step != "idle"]
    stats = [
        (message.arrived_at, json.loads(message.payload)["pipelines"]["hall"]["inferred"])
        for message in list(client.messages)
        if message.topic.endswith("/stats")
    ]
    print(f"archive: {archive.stat().st_size} bytes; sent by the server: {sum(server.sent.values())} bytes")
    for path, size in server.sent.items():
        print(f"  {size:9} {path}")
    began, ended = steps[0][0], steps[-1][0]
    print(f"before: {_rate(stats, began - SETTLE_S + 5, began):.1f} frames/s")
    for (at, step, _), (until, _, _) in pairwise(steps):
        print(f"{step:12} {until - at:6.2f} s  {_rate(stats, at, until):6.1f} frames/s")
    print(f"after: {_rate(stats, ended, ended + SETTLE_S):.1f} frames/s; all in all {ended - began:.1f} s")
    print(next(model["shadow"] for _, step, model in steps if step == "activated"))


def _rate(stats: list[tuple[float, int]], start: float, end: float) -> float:
    """Frames a second between two moments, from the nearest counts."""
    (t1, n1), (t2, n2) = (min(stats, key=lambda one: abs(one[0] - moment)) for moment in (start, end))
    return (n2 - n1) / (t2 - t1) if t2 > t1 else float("nan")


if __name__ == "__main__":
    main()
