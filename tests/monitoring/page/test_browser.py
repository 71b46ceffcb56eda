"""The status page in a real browser; the screenshots that it leaves in build/page are to be looked at."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber, free_port
from tests.browser import Browser
from tests.daemon_process import PROJECT, Daemon, configuration

pytestmark = pytest.mark.page

DIGITS = shipped("digits")
CLIP = shipped("clips") / "meter.mp4"
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
HOSTILE = "<img src=x onerror=alert(1)>"
SCREENSHOTS = PROJECT / "build" / "page"
SIZES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}


@pytest.fixture(scope="module")
def port(broker: Mosquitto, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The page of a daemon with a clip, a detector, a hostile name and a broken input."""
    port, folder = free_port(), tmp_path_factory.mktemp("daemon")
    detector = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    labels = data_dir / "labels" / "coral_coco_labels.txt"
    digits = {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits"}
    config = configuration(
        broker,
        "shown",
        models={"digits": {"path": str(DIGITS)}, "objects": {"path": str(detector), "labels": str(labels)}},
        pipelines={
            "meter": {
                "source": {"type": "video", "url": str(CLIP), "loop": True, "fps": 5},
                "model": "digits",
                "top_k": 1,
                "regions": yaml.safe_load((CLIP.parent / "meter.yaml").read_text())["regions"],
            },
            "porch": {"source": {"type": "mqtt", "topic": "porch/images"}, "model": "objects"},
            HOSTILE.replace("/", ""): digits,
        },
        http={"listen": f"127.0.0.1:{port}"},
    )
    with Daemon(folder, config), Subscriber(broker.port, "edge/shown/#") as client:
        client.publish("lab/images", IMAGE)
        client.publish("lab/images", b"no picture")
        client.wait_for(lambda message: message.topic.endswith("/error"))
        yield port


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.mark.parametrize("size", SIZES)
def test_a_pipeline_is_seen_large_and_another_one_is_a_tap_away(
    size: str, browser: Browser, port: int, broker: Mosquitto, data_dir: Path
) -> None:
    width, height, phone = SIZES[size]
    browser.resize(width, height, phone=phone)
    browser.open(f"http://127.0.0.1:{port}/?{size}")
    browser.wait_for("document.querySelector('.stage img').naturalWidth > 0")
    assert browser.ask("document.getElementById('device').textContent") == "shown"
    assert browser.ask("document.getElementById('state').textContent") == "online"
    assert browser.ask("document.querySelectorAll('.tabs a').length") == 3
    first = browser.ask("document.querySelector('.stage img').src")
    browser.wait_for(f"document.querySelector('.stage img').src !== '{first}'")
    browser.ask("document.querySelectorAll('.tabs a')[1].click()")
    browser.wait_for("document.querySelector('article').getAttribute('aria-label') === 'porch'")
    # As long as no picture has come it waits for one, and shows no broken one.
    assert browser.ask("(({hidden, naturalWidth}) => hidden || naturalWidth > 0)(document.querySelector('.stage img'))")
    with Subscriber(broker.port) as sender:
        sender.publish("porch/images", (data_dir / "images" / "bus.jpg").read_bytes())
        browser.wait_for("document.querySelector('.stage img').naturalWidth > 0")
        browser.wait_for("document.querySelector('.results li') !== null")
    # A phone scrolls down, not sideways.
    assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth") is True
    browser.screenshot(SCREENSHOTS / f"live-{size}.png")
    assert browser.complaints() == []
    own = f"http://127.0.0.1:{port}/"
    assert [one for one in browser.asked_for() if not one.startswith((own, f"blob:{own}"))] == []


def test_the_counters_of_all_pipelines_balance(browser: Browser, port: int) -> None:
    browser.open(f"http://127.0.0.1:{port}/?balance#numbers/counters")
    browser.wait_for("document.querySelectorAll('.counters').length === 3")
    assert browser.ask("document.querySelectorAll('.counters .good').length") == 3
    assert browser.ask("document.querySelectorAll('.counters .bad').length") == 0


def test_a_name_is_text_whatever_it_holds(browser: Browser, port: int) -> None:
    browser.open(f"http://127.0.0.1:{port}/?names")
    browser.wait_for("document.querySelectorAll('.tabs a').length === 3")
    browser.ask("document.querySelectorAll('.tabs a')[2].click()")
    browser.wait_for("document.querySelector('article h2').textContent.startsWith('<img')")
    assert browser.ask("document.querySelectorAll('h2 img, .tabs img').length") == 0


def test_another_page_gets_neither_state_nor_pictures(browser: Browser, port: int) -> None:
    browser.open(f"http://localhost:{port}/")
    browser.wait_for("document.querySelectorAll('.tabs a').length === 3")
    other = f"http://127.0.0.1:{port}"
    fetched = browser.ask(f"fetch('{other}/status.json').then(() => 'read', () => 'refused')")
    assert fetched == "refused"
    browser.open("data:text/html,<title>other</title>")
    browser.wait_for("document.title === 'other'")
    shown = browser.ask(
        f"new Promise((done) => {{ const image = new Image(); image.onload = () => done('shown');"
        f" image.onerror = () => done('refused'); image.src = '{other}/pictures/meter'; }})"
    )
    assert shown == "refused"
    opaque = browser.ask(f"fetch('{other}/status.json', {{mode: 'no-cors'}}).then(() => 'read', () => 'refused')")
    assert opaque == "refused"


def test_an_agent_that_is_gone_is_said_and_found_again(browser: Browser, mosquitto: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    config = configuration(
        mosquitto,
        "comes-and-goes",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
        http={"listen": f"127.0.0.1:{port}"},
    )
    daemon = Daemon(tmp_path, config)
    with daemon:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for("document.getElementById('state').textContent === 'online'")
    browser.wait_for("document.getElementById('state').textContent.startsWith('no connection')")
    with daemon:
        browser.wait_for("document.getElementById('state').textContent === 'online'")


def test_why_a_check_for_updates_fails_is_shown_on_the_page_and_in_the_metrics(
    browser: Browser, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "root.json").write_text("no root")
    page, metrics = free_port(), free_port()
    config = configuration(
        mosquitto,
        "not-updated",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
        http={"listen": f"127.0.0.1:{page}"},
        metrics={"listen": f"127.0.0.1:{metrics}"},
        update={"url": "http://127.0.0.1:1", "root": "root.json", "models": {"digits": "birds"}, "interval": "1s"},
    )
    with Daemon(tmp_path, config):
        browser.open(f"http://127.0.0.1:{page}/#numbers")
        browser.wait_for("document.getElementById('models').textContent.includes('update check')")
        assert "update of digits" in browser.ask("document.getElementById('models').textContent")
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    assert "edge_agent_update_check_failed 1.0" in text
    assert 'edge_agent_update_info{channel="birds",model="digits"' in text
