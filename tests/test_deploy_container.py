"""The image and Home Assistant's add-on without building them: their files agree, and the add-on starts the agent."""

import importlib.util
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from edge_agent import __version__
from edge_agent.config import loader
from tests.broker import free_port
from tests.installation import UNIT
from tests.pages import ROOT

CONTAINER = ROOT / "deploy" / "container"
ADDON = ROOT / "deploy" / "home-assistant" / "addon"
USER = "10001"
# What the Supervisor takes in an add-on's config.yaml, as far as this one states it; other keys it would drop silently.
# https://developers.home-assistant.io/docs/apps/configuration and supervisor/apps/validate.py, August 2026.
KEYS: dict[str, str] = {
    "name": r".+",
    "version": r"\d+\.\d+\.\d+.*",
    "slug": r"[-_.A-Za-z0-9]+",
    "description": r".+",
    "arch": r"aarch64|amd64",
    "stage": r"stable|experimental|deprecated",
    "timeout": r"\d+",
    "tmpfs": r"True|False",
    "services": r"(mqtt|mysql):(provide|want|need)",
    "ingress": r"True|False",
    "ingress_port": r"\d+",
    "watchdog": r"(?:https?|\[PROTO:\w+\]|tcp)://\[HOST\]:(\[PORT:\d+\]|\d+).*",
    "panel_title": r".+",
    "panel_icon": r"mdi:[a-z-]+",
    "video": r"True|False",
    "uart": r"True|False",
    "usb": r"True|False",
    "gpio": r"True|False",
    "devices": r"/dev/\w+",
}
MAP = {
    *("data", "ssl", "addons", "backup", "share", "media", "homeassistant_config", "all_addon_configs", "addon_config"),
}
REQUIRED = {"name", "version", "slug", "description", "arch"}


def instructions(file: Path) -> dict[str, str]:
    """The instructions of a recipe, the last of each kind, in one line each."""
    lines = file.read_text().replace("\\\n", " ").splitlines()
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line and line[0] not in "# "}


def addon() -> Any:
    return yaml.safe_load((ADDON / "config.yaml").read_text())


def module(path: Path) -> ModuleType:
    """A script of the add-on."""
    spec = importlib.util.spec_from_file_location(f"addon_{path.stem}", path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def start() -> ModuleType:
    return module(ADDON / "start.py")


def test_the_image_is_started_as_the_service_is() -> None:
    found = instructions(CONTAINER / "Containerfile")
    run = f"{json.loads(found['ENTRYPOINT'])[0]} {' '.join(json.loads(found['CMD']))}"
    unit = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert [run.replace("/usr/bin/", "/opt/edge-agent/current/bin/")] == unit
    assert found["USER"] == f"{USER}:{USER}"
    assert f"--uid {USER} " in found["RUN"]
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert found["VOLUME"] == found["WORKDIR"] == "/var/lib/edge-agent"
    assert "STATE_DIRECTORY=/var/lib/edge-agent" in found["ENV"]


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    subprocess.run(["shellcheck", "-s", "sh", CONTAINER / "build.sh"], check=True)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["missing.deb"], [__file__]])
def test_what_is_no_package_is_refused(arguments: list[str]) -> None:
    done = subprocess.run(["sh", CONTAINER / "build.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("build.sh: ")


def test_the_examples_hold_the_image_its_folders_and_nothing_else() -> None:
    (service,) = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"].values()
    assert service["read_only"]
    quadlet = re.findall(r"^(\w+)=(.*)$", (CONTAINER / "edge-agent.container").read_text(), re.MULTILINE)
    assert ("ReadOnly", "true") in quadlet
    assert [service["image"]] == [value for key, value in quadlet if key == "Image"]
    volumes = {volume.split(":")[1] for volume in service["volumes"]}
    assert volumes == {value.split(":")[1] for key, value in quadlet if key == "Volume"}
    assert volumes == {"/etc/edge-agent", "/var/lib/edge-agent"}


def test_the_addon_states_what_the_supervisor_knows() -> None:
    stated = addon()
    assert stated.keys() >= REQUIRED
    for key, value in stated.items():
        if key != "map":
            for one in value if isinstance(value, list) else [value]:
                assert re.fullmatch(KEYS[key], str(one)), f"{key}: {one}"
    for folder in stated["map"]:
        assert folder.keys() <= {"type", "read_only", "path"}
        assert folder["type"] in MAP


def test_the_addon_is_of_this_version_and_its_port_is_that_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated, labels = addon(), instructions(ADDON / "Containerfile")["LABEL"]
    assert stated["version"] == __version__
    assert f'io.hass.version="{__version__}"' in labels
    assert f'io.hass.arch="{"|".join(stated["arch"])}"' in labels
    for name, value in {"URL": "mqtt://core-mosquitto:1883", "USERNAME": "addons", "PASSWORD": "secret"}.items():
        monkeypatch.setenv(f"MQTT_{name}", value)
    shutil.copy(ADDON / "agent.yaml", tmp_path)
    settings = loader.load(tmp_path / "agent.yaml").settings
    assert settings.http is not None
    assert settings.http.listen == f"0.0.0.0:{stated['ingress_port']}"
    assert settings.http.trusted_proxy == "172.30.32.2"
    assert stated["watchdog"].endswith(f"[PORT:{stated['ingress_port']}]/healthz")
    assert settings.mqtt.url == "mqtt://core-mosquitto:1883"


def test_the_addon_is_put_together_with_the_recipe_of_the_image(tmp_path: Path) -> None:
    package = tmp_path / f"edge-agent_{__version__}+deb13_amd64.deb"
    package.touch()
    folder = module(ADDON / "build.py").build([package], tmp_path / "made")
    recipe = (folder / "Dockerfile").read_text()
    assert recipe.startswith((CONTAINER / "Containerfile").read_text())
    assert [line for line in recipe.splitlines() if line.startswith("FROM")][1:] == ["FROM edge-agent"]
    copied = re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE)
    for name in (*copied[0].split(), package.name, "config.yaml", "DOCS.md"):
        assert (folder / name).is_file()
    assert yaml.safe_load((folder.parent / "repository.yaml").read_text())["name"]


@pytest.fixture
def supervisor() -> Iterator[tuple[str, list[tuple[int, bytes]], list[str]]]:
    """The Supervisor's answer about MQTT: its address, answers to be given, and the tokens that it was asked with."""
    answers: list[tuple[int, bytes]] = []
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            status, body = answers.pop()
            self.send_response_only(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/services/mqtt", answers, tokens
        server.shutdown()


SERVICE = {"host": "core-mosquitto", "port": 1883, "ssl": False, "protocol": "3.1.1", "addon": "core_mosquitto"}


def test_the_broker_is_the_one_that_the_supervisor_names(
    start: ModuleType, supervisor: tuple[str, list[tuple[int, bytes]], list[str]]
) -> None:
    address, answers, tokens = supervisor
    login = {"username": "addons", "password": "secret"}
    answers += [
        (200, json.dumps({"result": "ok", "data": SERVICE | {"ssl": True, "port": 8883}}).encode()),
        (200, json.dumps({"result": "ok", "data": SERVICE | login}).encode()),
    ]
    assert start.broker(address, "abc") == {
        "MQTT_URL": "mqtt://core-mosquitto:1883",
        "MQTT_USERNAME": "addons",
        "MQTT_PASSWORD": "secret",
    }
    assert tokens == ["Bearer abc"]
    assert start.broker(address, "abc")["MQTT_URL"] == "mqtts://core-mosquitto:8883"


@pytest.mark.parametrize(
    "answer",
    [
        (400, b'{"result": "error", "message": "Service not enabled"}'),
        (403, b""),
        (200, b"no JSON"),
        (200, b"[]"),
        (200, b'{"data": null}'),
        (200, b'{"data": {"host": "x"}}'),
    ],
)
def test_without_a_broker_of_home_assistant_there_is_a_warning_and_the_configuration_decides(
    answer: tuple[int, bytes],
    start: ModuleType,
    supervisor: tuple[str, list[tuple[int, bytes]], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, answers, _ = supervisor
    answers.append(answer)
    assert start.broker(address, "abc") == {}
    assert capsys.readouterr().err.startswith("Home Assistant's MQTT broker: ")


def test_a_supervisor_that_is_not_there_ends_nothing(start: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.broker(f"http://127.0.0.1:{free_port()}/services/mqtt", "") == {}
    assert "does not answer" in capsys.readouterr().err


def test_the_first_start_writes_a_configuration_and_later_ones_leave_it(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []
    monkeypatch.setattr(start.os, "chown", lambda path, *_: given.append(path))
    config, state = tmp_path / "config", tmp_path / "data" / "edge-agent"
    start.prepare(config, state, (1, 1))
    assert (config / "agent.yaml").read_text() == (ADDON / "agent.yaml").read_text()
    (config / "agent.yaml").write_text("mine")
    start.prepare(config, state, (1, 1))
    assert (config / "agent.yaml").read_text() == "mine"
    assert set(given) == {config, config / "agent.yaml", state}


def test_groups_are_those_of_the_devices_that_are_there(start: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    own = (tmp_path / "video0").stat().st_gid
    assert start.device_groups(tmp_path) == ([own] if own else [])
    assert start.device_groups(tmp_path / "nowhere") == []
