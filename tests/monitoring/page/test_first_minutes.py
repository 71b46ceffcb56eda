"""From `pip install` to a person in the yard at the broker, as somebody gets there who has a device and a browser.

How long each step took, and what had to be clicked and typed, is printed, and stays in build/page/first-minutes.json.
Reading and thinking are not in it.
"""

import base64
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from edge_agent.setup import found
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber, free_port, wait_until
from tests.browser import Browser
from tests.daemon_process import PROJECT
from tests.installation import PYTHON
from tests.rtsp_server import Clip, RtspServer

pytestmark = [pytest.mark.page, pytest.mark.timeout(1800)]

EXTRAS, DEVICE, MODEL = "tflite,http", "porch-pi", "coco-ssd-mobilenet-v1"
REPORT = PROJECT / "build" / "page" / "first-minutes.json"


class Steps:
    """Takes the time of each step, and counts what somebody does in it.

    Attributes:
        seconds: by step.
        answers: given at the terminal, those that only take what is proposed included.
        clicks: in the browser.
        typed: fields that were filled there.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.answers = self.clicks = self.typed = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


class Hand:
    """Does in the browser what a hand does, and counts it."""

    def __init__(self, browser: Browser, steps: Steps) -> None:
        self._browser, self._steps = browser, steps

    def _on(self, kind: str, says: str) -> str:
        return f"[...document.querySelectorAll({kind!r})].find((one) => one.textContent.includes({says!r}))"

    def click(self, kind: str, says: str) -> None:
        self._browser.wait_for(f"{self._on(kind, says)}.disabled !== true && Boolean({self._on(kind, says)})")
        self._browser.ask(f"{self._on(kind, says)}.click()")
        self._steps.clicks += 1

    def fill(self, label: str, text: str) -> None:
        field = f"{self._on('label.field', label)}.querySelector('input')"
        self._browser.ask(
            f"(() => {{ {field}.value = {text!r}; {field}.dispatchEvent(new Event('input')); }})()",
        )
        self._steps.typed += 1


def succeed(*command: str | Path, cwd: Path, said: str = "", environment: Mapping[str, str] | None = None) -> None:
    """Runs a command that must succeed, as somebody at a terminal would."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_AGENT"))}
    run = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | dict(environment or {}),
        input=said,
        capture_output=True,
        text=True,
        timeout=600 * PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def camera(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RtspServer:
    """A camera on the network that sees people one by one."""
    stream = tmp_path_factory.mktemp("clip") / "yard.ts"
    with av.open(str(data_dir / "video" / "one-by-one-person-detection.mp4")) as clip, av.open(str(stream), "w") as out:
        video = clip.streams.video[0]
        copied = out.add_stream_from_template(video)
        for packet in clip.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return RtspServer({"yard": Clip.read(stream)})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    succeed(PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, PROJECT, cwd=folder)
    return next(folder.glob("edge_agent_runtime-*.whl"))


def test_from_installation_to_a_person_at_the_broker_without_a_line_of_yaml(
    wheel: Path, camera: RtspServer, mosquitto: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    steps, home = Steps(), tmp_path / "home"
    home.mkdir()
    mirror = tmp_path / "mirror" / MODEL
    mirror.mkdir(parents=True)
    [file] = (data_dir / "detect_tflite").glob("coco_ssd_*.tflite")
    (mirror / file.name).write_bytes(file.read_bytes())
    variables = {"HOME": str(home), "EDGE_AGENT_MIRROR": str(mirror.parent)}
    environment = tmp_path / "environment"
    wanted, programs = f"{wheel}[{EXTRAS}]", environment / "bin"
    with steps.step("an environment"):
        succeed(PYTHON, "-m", "venv", environment, cwd=tmp_path)
    pip: list[str | Path] = [programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with steps.step("packages are downloaded"):
        succeed(*pip, "download", "--no-cache-dir", "--dest", tmp_path / "packages", wanted, cwd=tmp_path)
    with steps.step("packages are installed"):
        succeed(*pip, "install", "--no-index", "--find-links", tmp_path / "packages", wanted, cwd=tmp_path)
    with steps.step("edge-agent init"):
        in_the_browser = len(found.cameras()) + len(found.microphones()) + 4
        answers = [DEVICE, mosquitto.url, "", str(in_the_browser), "", "2"]
        steps.answers = len(answers)
        said = "".join(f"{one}\n" for one in answers)
        succeed(programs / "edge-agent", "init", cwd=home, said=said, environment=variables)
    port, config = free_port(), home / "agent.yaml"
    # Another program may use 8080 here.
    config.write_text(config.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    token = (home / "page-token").read_text().strip()
    with (
        (tmp_path / "log").open("wb") as log,
        Browser(tmp_path / "browser") as browser,
        Subscriber(mosquitto.port, f"edge/{DEVICE}/#", "homeassistant/#") as subscriber,
    ):
        with steps.step("the agent starts, and its page"):
            command = [str(programs / "edge-agent"), "run", "-c", str(config)]
            agent = subprocess.Popen(command, cwd=home, env=os.environ | variables, stdout=log, stderr=log)
            wait_until(lambda: is_open(browser, f"http://127.0.0.1:{port}/", token), 60, "the page is there")
        try:
            set_up(browser, steps, camera.url("yard"))
            with steps.step("a person at the broker"):
                subscriber.wait_for(is_of_a_person, timeout=120.0)
                subscriber.wait_for(lambda one: one.topic.startswith("homeassistant/") and b"yard" in one.payload)
        finally:
            agent.terminate()
            agent.wait(30 * PATIENCE)
            print((tmp_path / "log").read_text())
    report(steps, sum(one.stat().st_size for one in (tmp_path / "packages").iterdir()))
    assert sum(steps.seconds.values()) < 300 * PATIENCE


def report(steps: Steps, downloaded: int) -> None:
    """Prints what it took, and writes it down."""
    total = sum(steps.seconds.values())
    facts = {
        "seconds": steps.seconds,
        "total": round(total, 1),
        "without_download": round(total - steps.seconds["packages are downloaded"], 1),
        "downloaded_bytes": downloaded,
        "answers": steps.answers,
        "clicks": steps.clicks,
        "typed": steps.typed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }
    text = json.dumps(facts, indent=1)
    print(text)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text)


def is_open(browser: Browser, address: str, token: str) -> bool:
    """Opens a page with its password; returns whether it is there."""
    credentials = base64.b64encode(f"me:{token}".encode()).decode()
    browser.open(address, {"Authorization": f"Basic {credentials}"})
    return browser.ask("document.querySelector('#views') !== null") is True


def set_up(browser: Browser, steps: Steps, url: str) -> None:
    hand = Hand(browser, steps)
    with steps.step("a picture of the camera"):
        hand.click(".choice", "A network camera")
        hand.fill("Address", url)
        hand.click("button", "Look")
        browser.wait_for("document.querySelector('.stage.small img').naturalWidth > 0")
    with steps.step("the model is downloaded"):
        hand.click("button", "Download")
        browser.wait_for(
            f"document.querySelector('.choice input[value=\"{MODEL}\"]').closest('label').textContent"
            ".includes('on this device')"
        )
    with steps.step("tried and kept"):
        hand.click("button", "Try it")
        browser.wait_for("document.body.textContent.includes('yard runs')", 120.0)
    with steps.step("a live picture"):
        hand.click("a", "Look")
        browser.wait_for("document.querySelector('.stage img').naturalWidth > 0")


def is_of_a_person(message: Message) -> bool:
    """Whether it is a result in which a person was found."""
    if not message.topic.endswith("/yard/result"):
        return False
    return any(one.get("label") == "person" for one in json.loads(message.payload)["predictions"])
