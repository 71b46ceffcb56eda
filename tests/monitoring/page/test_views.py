"""Each view of the page in a real browser: what it shows, what is changed there, and whether everybody can use it.

Screenshots stay in build/page, to be looked at.
"""

import base64
import importlib.metadata
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.keeping.recording import open_recording
from edge_agent.models.shipped import shipped
from tests.broker import PATIENCE, Mosquitto, Subscriber, free_port, wait_until
from tests.browser import Browser
from tests.daemon_process import PROJECT, Daemon, configuration
from tests.language.model_files import Shape, write_model
from tests.monitoring.page.kit import TOKEN
from tests.sources.stream_server import StreamServer

pytestmark = [pytest.mark.page, pytest.mark.timeout(300 * PATIENCE)]

CLIP = shipped("clips") / "meter.mp4"
SCREENSHOTS = PROJECT / "build" / "page"
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(f"ann:{TOKEN}".encode()).decode()}
# What each view shows once it is there.
VIEWS = {
    "live/meter": "document.querySelector('.stage img').naturalWidth > 0",
    "live/pump": "document.querySelectorAll('.plot').length > 1",
    "events": "document.querySelectorAll('.thumb').length > 0",
    "samples/meter": "[...document.querySelectorAll('.thumb img')].slice(0, 6).every((one) => one.naturalWidth > 0)",
    "numbers": "document.querySelectorAll('.curve').length > 3",
    "numbers/counters": "document.querySelectorAll('.counters').length > 1",
    "draw/camera": "document.querySelector('.stage img').naturalWidth > 0",
    "setup": "document.querySelectorAll('.choice').length > 2",
}
# Where the picture is; when its first frame was there, and how much has moved since.
PLACE = "document.querySelector('.shapes').getBoundingClientRect().toJSON()"
WATCH = """
window.shift = 0;
new PerformanceObserver((list) => list.getEntries().forEach((one) => { if (!one.hadRecentInput) shift += one.value; }))
  .observe({ type: "layout-shift", buffered: true });
document.addEventListener("load", (event) => {
  if (event.target.matches?.(".stage img")) window.first ??= performance.now();
}, true);
"""
# The sample of the address is the one that is shown.
SHOWN = "document.querySelector('.stage img').src.includes(location.hash.split('/')[2])"
WRITE = """
(() => {
  const field = document.querySelector(".controls input");
  field.value = "smudge";
  field.dispatchEvent(new Event("input"));
  field.focus();
})()
"""
LOOKS = {"phone": (390, 844, True, "light"), "desktop": (1280, 800, False, "dark")}


class Site:
    """A daemon with its page, and a browser that looks at it."""

    def __init__(self, browser: Browser, daemon: Daemon, port: int) -> None:
        self.browser, self.daemon, self._port = browser, daemon, port
        self._visits = 0

    def visit(self, view: str, shown: str) -> None:
        """Opens a view, as a page of its own, and waits for what it shows."""
        self._visits += 1
        self.browser.open(f"http://127.0.0.1:{self._port}/?{self._visits}#{view}", AUTHORIZATION)
        self.browser.wait_for(shown)

    def look(self, name: str) -> None:
        width, height, phone, scheme = LOOKS[name]
        self.browser.resize(width, height, phone=phone)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.do("Emulation.setEmulatedMedia", features=features)

    def press(self, button: str) -> None:
        found = f"[...document.querySelectorAll('button')].find((one) => one.textContent === {button!r})"
        self.browser.ask(f"{found}.click()")

    def fill(self, label: str, text: str) -> None:
        """Writes into the field of a label, as somebody who types does."""
        self.browser.ask(
            f"(() => {{ const field = {self._field(label)}; field.value = {text!r};"
            " field.dispatchEvent(new Event('input')); })()"
        )

    def attach(self, label: str, file: Path) -> None:
        """Chooses a file for the field of a label."""
        found = self.browser.do("Runtime.evaluate", expression=self._field(label))["result"]["objectId"]
        self.browser.do("DOM.setFileInputFiles", files=[str(file)], objectId=found)

    @staticmethod
    def _field(label: str) -> str:
        labels = "[...document.querySelectorAll('label.field')]"
        return f"{labels}.find((one) => one.querySelector('span').textContent === {label!r}).querySelector('input')"

    def barriers(self, axe: str) -> Any:
        """The serious barriers that axe-core finds in what is shown, with some of the elements."""
        self.browser.do("Runtime.evaluate", expression=axe)
        return self.browser.ask(
            "axe.run().then(({violations}) => violations.filter(({impact}) => ['serious', 'critical'].includes(impact))"
            ".map(({id, nodes}) => [id, ...nodes.slice(0, 3).map((one) => one.html.slice(0, 160))]))"
        )

    def pointer(self, kind: str, x: float, y: float) -> None:
        self.browser.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags between two places of the picture, in fractions of it."""
        box = self.browser.ask(PLACE)
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.pointer("mousePressed", *points[0])
        self.pointer("mouseMoved", *points[1])
        self.pointer("mouseReleased", *points[1])

    def key(self, name: str, *, shift: bool = False) -> None:
        text = {"text": "\r"} if name == "Enter" else {"text": name} if len(name) == 1 else {}
        self.browser.do("Input.dispatchKeyEvent", type="keyDown", key=name, modifiers=8 if shift else 0, **text)
        self.browser.do("Input.dispatchKeyEvent", type="keyUp", key=name)


@pytest.fixture(scope="module")
def site(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A clip of digits, of which every frame is kept; and a pump that vibrates."""
    port, folder = free_port(), tmp_path_factory.mktemp("daemon")
    (folder / "token").write_text(TOKEN)
    clip = {"type": "video", "url": str(CLIP), "loop": True, "fps": 2}
    regions = yaml.safe_load((CLIP.parent / "meter.yaml").read_text())["regions"]
    keep = {"when": {"random": 1}, "per_hour": 3600, "encoding": "jpeg"}
    record = {"when": ["command"], "before": "60s", "after": "1s"}
    config = configuration(
        broker,
        "looked-at",
        models={name: {"path": str(shipped(name))} for name in ("digits", "vibration")},
        pipelines={
            "meter": {"source": clip, "model": "digits", "top_k": 1, "keep": keep, "regions": regions},
            "camera": {"source": clip | {"fps": 1}, "model": "digits", "top_k": 1, "record": record},
            "pump": {"source": {"type": "mqtt", "topic": "pump"}, "model": "vibration", "record": record},
        },
        http={"listen": f"127.0.0.1:{port}", "token_file": "token", "edit": True},
    )
    readings = [0.1 * math.sin(number) for number in range(32)]
    with Daemon(folder, config) as daemon, Browser(tmp_path_factory.mktemp("browser")) as browser:
        with Subscriber(broker.port, "edge/looked-at/+/result") as client:
            client.wait_for(lambda message: message.topic.endswith("camera/result"), 3)
            for _ in range(5):
                client.publish("pump", json.dumps(readings).encode())
            client.wait_for(lambda message: message.topic.endswith("pump/result"))
            keep_now = {"command": "keep", "pipeline": "meter", "last": 5}
            client.publish("edge/looked-at/cmd", json.dumps(keep_now).encode())
            for name in ("camera", "pump"):
                client.publish("edge/looked-at/cmd", json.dumps({"command": "record", "pipeline": name}).encode())
        yield Site(browser, daemon, port)


@pytest.fixture(scope="module")
def axe() -> str:
    """Deque's axe-core, which looks for barriers: https://github.com/dequelabs/axe-core."""
    files = importlib.metadata.files("axe-core-python") or []
    return next(Path(str(file.locate())).read_text() for file in files if file.name == "axe.min.js")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_no_serious_barrier_and_fits_its_screen(
    view: str, look: str, site: Site, axe: str, broker: Mosquitto
) -> None:
    site.look(look)
    with Subscriber(broker.port) as sender:
        site.visit(view, VIEWS[view] if view != "live/pump" else "document.querySelector('.moving') !== null")
        if view == "live/pump":
            wait_until(lambda: _beat(sender, site), 30, "curves")
    assert site.browser.complaints() == []
    assert site.browser.ask("document.documentElement.scrollWidth <= window.innerWidth") is True
    site.browser.screenshot(SCREENSHOTS / f"{view.replace('/', '-')}-{look}.png")
    assert site.barriers(axe) == []


def _beat(sender: Subscriber, site: Site) -> bool:
    sender.publish("pump", json.dumps([0.1 * math.sin(number) for number in range(32)]).encode())
    return site.browser.ask(VIEWS["live/pump"]) is True


def test_the_first_picture_is_there_soon_and_nothing_moves_once_it_is(site: Site) -> None:
    site.look("desktop")
    script = site.browser.do("Page.addScriptToEvaluateOnNewDocument", source=WATCH)["identifier"]
    site.visit("live/meter", "window.first > 0")
    first, shift = site.browser.ask("window.first"), site.browser.ask("window.shift")
    site.browser.do("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    print(f"first picture after {first:.0f} ms, layout shift {shift:.3f}")
    assert first < 5000  # a second where nothing else runs
    assert shift < 0.1


def test_a_sample_is_confirmed_and_the_next_one_corrected_with_the_keyboard(site: Site) -> None:
    site.look("desktop")
    site.visit("samples/meter", "document.querySelectorAll('.thumb').length > 2")
    labels = site.daemon.config_file.parent / "samples" / "meter" / "labels.jsonl"
    site.browser.ask("document.querySelector('.thumb').click()")
    site.browser.wait_for("document.querySelector('.stage img').naturalWidth > 0")
    first = site.browser.ask("location.hash")
    site.key("Enter")
    site.browser.wait_for(f"location.hash !== '{first}' && {SHOWN}")
    assert [json.loads(line)["by"] for line in labels.read_text().splitlines()] == ["ann"]
    second = site.browser.ask("location.hash")
    site.browser.ask(WRITE)
    site.key("Enter")
    site.browser.wait_for(f"location.hash !== '{second}' && {SHOWN}")
    third = site.browser.ask("location.hash")
    site.browser.ask("document.activeElement.blur()")
    site.key("x")
    site.browser.wait_for(f"location.hash !== '{third}'")
    said = [json.loads(line) for line in labels.read_text().splitlines()]
    assert (said[1]["label"], said[2]["discard"]) == ("smudge", True)


def test_a_region_is_drawn_moved_with_the_keyboard_and_written(site: Site) -> None:
    site.look("desktop")
    site.visit("draw/camera", VIEWS["draw/camera"])
    site.press("Regions")
    site.drag((0.2, 0.2), (0.6, 0.7))
    assert site.browser.ask("document.querySelectorAll('.shape').length") == 1
    before = site.browser.ask("document.querySelector('textarea').value")
    assert "region 1: [0.2, 0.2, 0.6, 0.7]" in before
    site.browser.ask("document.querySelector('.shape').focus()")
    site.key("ArrowRight")
    site.browser.wait_for("document.querySelector('textarea').value.includes('[0.21, 0.2, 0.61, 0.7]')")
    site.browser.ask("document.querySelector('.primary').click()")
    site.browser.wait_for("document.querySelector('.controls [role=status]').className === 'good'")
    regions = yaml.safe_load(site.daemon.config_file.read_text())["pipelines"]["camera"]["regions"]
    assert regions == {"region 1": [0.21, 0.2, 0.61, 0.7]}


def test_a_zone_is_drawn_corner_by_corner(site: Site) -> None:
    site.look("desktop")
    site.visit("draw/camera", VIEWS["draw/camera"])
    for corner in ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8)):
        site.drag(corner, corner)
    site.press("Close the shape")
    shown = site.browser.ask("document.querySelector('textarea').value")
    zones = yaml.safe_load(shown)["pipelines"]["camera"]["filters"]["zones"]
    assert zones == {"zone 1": [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8]]}


def test_an_event_opens_its_recording_at_that_moment(site: Site, axe: str) -> None:
    site.look("phone")
    recorded = site.daemon.config_file.parent / "recordings" / "camera"
    wait_until(lambda: list(recorded.glob("*.recording")), 60, "the recording has ended")
    seen = "[...document.querySelectorAll('.thumb')].filter((one) => one.textContent.includes('camera ·'))"
    site.visit("events", f"{seen}.length > 0")
    site.browser.ask(f"{seen}.at(-1).click()")
    site.browser.wait_for("document.querySelector('dialog .stage img').naturalWidth > 0")
    assert site.barriers(axe) == []
    site.browser.screenshot(SCREENSHOTS / "event-recording-phone.png")
    site.browser.ask("document.querySelector('dialog input[type=range]').focus()")
    site.key("Home")  # the event may be at the end
    first = site.browser.ask("document.querySelector('dialog .stage img').src")
    site.press("Play")
    site.browser.wait_for(f"document.querySelector('dialog .stage img').src !== {first!r}")
    site.press("Pause")


def test_recorded_readings_are_played_as_a_curve_with_a_cursor(site: Site, axe: str) -> None:
    recorded = site.daemon.config_file.parent / "recordings" / "pump"
    wait_until(lambda: list(recorded.glob("*.recording")), 60, "the recording has ended")
    at = open_recording(next(recorded.glob("*.recording"))).head["started_at"]
    for look in LOOKS:
        site.look(look)
        site.visit(f"recordings/pump/{at}", "document.querySelectorAll('.moving .plot polygon').length > 0")
        assert site.browser.complaints() == []
        assert site.barriers(axe) == []
        site.browser.screenshot(SCREENSHOTS / f"recordings-pump-{look}.png")
    site.browser.ask("document.querySelector('input[type=range]').focus()")
    site.key("Home")
    site.press("Play")
    site.browser.wait_for("Number(document.querySelector('.cursor').getAttribute('x1')) > 0")


def test_an_answer_grows_token_by_token_while_somebody_looks(
    site: Site, mosquitto: Mosquitto, tmp_path: Path, axe: str
) -> None:
    port, browser = free_port(), site.browser
    write_model(tmp_path / "model", Shape(context=16_384))
    config = configuration(
        mosquitto,
        "talks",
        models={"model": {"path": "model", "language": {"context": 16_384}}},
        pipelines={"talk": {"source": {"type": "mqtt", "topic": "talk"}, "model": "model"}},
        http={"listen": f"127.0.0.1:{port}"},
    )
    site.look("phone")
    with Daemon(tmp_path, config), Subscriber(mosquitto.port, "edge/talks/#") as client:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for("document.querySelector('.talk') !== null")
        client.publish("talk", json.dumps({"id": "first", "prompt": "Hello?", "max_tokens": 3}).encode())
        browser.wait_for("document.querySelectorAll('.talk .answer:not(.writing)').length === 1")
        client.publish("talk", json.dumps({"id": "second", "prompt": "And?", "max_tokens": 16_000}).encode())
        browser.wait_for("document.querySelector('.talk .writing').textContent.length > 0")
        length = browser.ask("document.querySelector('.talk .writing').textContent.length")
        browser.wait_for(f"document.querySelector('.talk .writing').textContent.length > {length}")
        assert browser.ask("[...document.querySelectorAll('.question')].map((one) => one.textContent)") == [
            "Hello?",
            "And?",
        ]
        assert site.barriers(axe) == []
        browser.screenshot(SCREENSHOTS / "live-talk-phone.png")
        client.publish("edge/talks/talk/cancel", b"second")
        browser.wait_for("document.querySelector('.talk .writing') === null")
        assert browser.complaints() == []


def test_an_agent_without_pipelines_leads_through_its_first_one(
    site: Site, mosquitto: Mosquitto, tmp_path: Path, axe: str
) -> None:
    port, browser = free_port(), site.browser
    (tmp_path / "token").write_text(TOKEN)
    page = {"listen": f"127.0.0.1:{port}", "token_file": "token", "edit": True}
    (tmp_path / "My model.tflite").write_bytes((shipped("digits") / "digits.tflite").read_bytes())
    config, models = configuration(mosquitto, "new", http=page), {"EDGE_AGENT_MODELS": str(tmp_path / "models")}
    camera = StreamServer()
    camera.start()
    site.look("phone")
    with Daemon(tmp_path, config, environment=models) as daemon:
        browser.open(f"http://127.0.0.1:{port}/", AUTHORIZATION)
        browser.wait_for("location.hash === '#setup' && document.querySelectorAll('.choice').length > 2")
        choose = "[...document.querySelectorAll('.choice input')].find((one) => one.value === '{}').click()"
        browser.ask(choose.format("address"))
        site.fill("Address, rtsp:// or http://", camera.url)
        site.press("Look")
        browser.wait_for("document.querySelector('.stage.small img').naturalWidth > 0")
        browser.ask("document.querySelector('summary').click()")
        site.attach("file: .tflite, .onnx, or .zip of a bundle", tmp_path / "My model.tflite")
        site.attach("labels, one a line, if the file has none in it", shipped("digits") / "labels.txt")
        assert site.barriers(axe) == []
        browser.screenshot(SCREENSHOTS / "setup-first.png")
        site.press("Send it to this device")
        browser.wait_for("document.querySelector('.choice input:checked').value === 'address'")
        browser.wait_for("[...document.querySelectorAll('.choice input:checked')].at(-1).value === 'my-model'")
        assert browser.complaints() == []
        site.press("Try it")
        browser.wait_for("document.body.textContent.includes('yard runs')")
        found: Any = yaml.safe_load(daemon.config_file.read_text())
        assert found["pipelines"]["yard"]["model"] == "my-model"
        assert found["pipelines"]["yard"]["source"]["url"] == camera.url
        browser.wait_for("document.getElementById('state').textContent === 'online'")
    camera.die()
