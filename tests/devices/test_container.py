"""The image and the add-on, built and run by an ordinary user, with a real broker and a stand-in of the Supervisor."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import __version__
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.debian_packages import builder
from tests.devices import supervisor
from tests.devices.debian import build_wheel
from tests.devices.podman import Podman
from tests.test_deploy_container import ADDON, CONTAINER, module

pytestmark = [pytest.mark.devices, pytest.mark.timeout(3600)]

IMAGE = f"localhost/edge-agent:{__version__}"
CLIP = "/usr/lib/edge-agent/lib/python3.13/site-packages/edge_agent/shipped/clips/meter.mp4"
RUN = (
    *("podman", "run", "--init", "--read-only", "--cap-drop", "all", "--network", "host"),
    *("-v", "./etc:/etc/edge-agent:ro"),
)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with the image in it."""
    with Podman() as running:
        dpkg = ("dpkg", "--print-architecture")
        architecture = subprocess.run(dpkg, capture_output=True, text=True, check=True).stdout.strip()
        folder = tmp_path_factory.mktemp("package")
        package = builder().build(build_wheel(folder), builder().TARGETS[f"13-{architecture}"], folder)
        shutil.copytree(CONTAINER, running.folder / "container")
        shutil.copy(package, running.folder)
        running.own(running.folder)
        running.do("sh", "container/build.sh", package.name)
        yield running


def configure(podman: Podman, config: dict[str, Any]) -> None:
    (podman.folder / "etc").mkdir(exist_ok=True)
    (podman.folder / "etc" / "agent.yaml").write_text(yaml.safe_dump(config))


def test_the_image_says_whose_it_is_and_what_it_is(podman: Podman) -> None:
    facts = podman.inspect(IMAGE)
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Labels"]["org.opencontainers.image.version"] == __version__
    assert facts["Size"] < 900e6


def test_it_serves_with_a_read_only_root_and_ends_in_order(podman: Podman, mosquitto: Mosquitto) -> None:
    meter = {"source": {"type": "video", "url": CLIP, "loop": True, "fps": 2}, "model": "digits"}
    config = {
        "device_id": "box",
        "mqtt": {"url": mosquitto.url},
        "models": {"digits": {"path": "digits"}},
        "pipelines": {"meter": meter},
    }
    configure(podman, config)
    with Subscriber(mosquitto.port, "edge/box/#") as client:
        podman.do(*RUN, "-d", "--name", "box", "-v", "state:/var/lib/edge-agent", IMAGE)
        client.wait_for(lambda message: message.topic == "edge/box/meter/result", timeout=120)
        refused = podman.run("podman", "exec", "box", "touch", "/usr/x", "/etc/edge-agent/x")
        assert refused.stderr.count("Read-only file system") == 2
        podman.do("podman", "exec", "box", "touch", "/var/lib/edge-agent/x", "/tmp/x")
        podman.do("podman", "kill", "--signal", "HUP", "box")
        wait_until(lambda: "configuration reloaded" in podman.run("podman", "logs", "box").stderr, 60, "it reloads")
        podman.do("podman", "stop", "--time", "40", "box")
        assert podman.inspect("box")["State"]["ExitCode"] == 0
        assert [one.payload for one in client.messages if one.topic == "edge/box/status"][-1] == b"offline"


def test_a_wrong_configuration_and_none_are_named(podman: Podman) -> None:
    configure(podman, {"mqtt": {"url": "mqtt://127.0.0.1"}, "modells": {}})
    wrong = podman.run(*RUN, "--rm", IMAGE)
    assert (wrong.returncode, "modells: unknown key" in wrong.stderr) == (2, True)
    none = podman.run("podman", "run", "--rm", "--read-only", IMAGE)
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert none.stderr.startswith("/etc/edge-agent/agent.yaml: ")


def test_systemd_can_make_a_service_of_the_example(podman: Podman) -> None:
    generate = (
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends podman >/dev/null 2>&1 && "
        "QUADLET_UNIT_DIRS=/units /usr/lib/systemd/system-generators/podman-system-generator --dryrun"
    )
    options = ("--rm", "--network", "host", "--user", "0:0", "--entrypoint", "sh", "-v", "./container:/units:ro")
    made = podman.do("podman", "run", *options, IMAGE, "-c", generate)
    (start,) = [line for line in made.splitlines() if line.startswith("ExecStart=")]
    assert {"--read-only", "--init", "--sdnotify=container", "localhost/edge-agent:latest"} <= set(start.split())


@pytest.fixture
def network(podman: Podman, tmp_path: Path) -> Iterator[Podman]:
    """A network as Home Assistant's, with a broker for users with a password, and the Supervisor."""
    folder = podman.folder / "home"
    folder.mkdir()
    shutil.copy(supervisor.__file__, folder)
    (folder / "passwords").write_text("addons:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", folder / "passwords"], check=True)
    lines = (f"listener 1883 {supervisor.GATEWAY}", f"password_file {folder}/passwords", "user root")
    (folder / "mosquitto.conf").write_text("\n".join(lines))
    podman.own(folder)
    podman.do("podman", "network", "create", "--subnet", "172.30.32.0/23", "--gateway", supervisor.GATEWAY, "hassio")
    # So that the network is there before the add-on asks.
    podman.do("podman", "run", "-d", "--network", "hassio", "--ip", "172.30.33.4", "--entrypoint", "sleep", IMAGE, "1h")
    inside = ("podman", "unshare", "--rootless-netns")
    with (tmp_path / "log").open("wb") as log:
        started = [
            subprocess.Popen(podman.command(*inside, *command), stdout=log, stderr=log, start_new_session=True)
            for command in (
                ("mosquitto", "-c", folder / "mosquitto.conf"),
                ("python3", folder / "supervisor.py", "serve"),
            )
        ]
        try:
            yield podman
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGTERM)  # with podman, which started it
                process.wait(30)


def test_the_addon_finds_the_broker_and_shows_its_page_to_the_supervisor_alone(network: Podman) -> None:
    packages = list(network.folder.glob("edge-agent_*.deb"))
    folder = module(ADDON / "build.py").build(packages, network.folder / "repository")
    network.own(network.folder / "repository")
    (base,) = [
        name
        for image in json.loads(network.do("podman", "images", "--format", "json", "localhost/edge-agent-debian"))
        for name in image["Names"]
    ]
    network.do("podman", "build", "--build-arg", f"BUILD_FROM={base}", "--tag", "localhost/addon", folder)
    for name in ("config", "data"):
        (network.folder / name).mkdir()
    network.own(network.folder / "config", network.folder / "data")
    options = ("--network", "hassio", "--ip", supervisor.ADDON, "--add-host", f"supervisor:{supervisor.SUPERVISOR}")
    volumes = ("-v", "./config:/config", "-v", "./data:/data", "-e", f"SUPERVISOR_TOKEN={supervisor.TOKEN}")
    network.do("podman", "run", "-d", "--init", "--name", "addon", *options, *volumes, "localhost/addon")

    def asked(address: str, *request: str) -> tuple[int, str]:
        inside = ("podman", "unshare", "--rootless-netns", "python3", network.folder / "home" / "supervisor.py")
        done = network.run(*inside, "ask", address, *request)
        if done.returncode:
            return 0, ""
        answer = json.loads(done.stdout)
        return answer["status"], answer["body"]

    def connected() -> bool:
        status, body = asked(supervisor.SUPERVISOR, "GET", "/status.json")
        return status == 200 and json.loads(body)["broker"]["connected"]

    wait_until(connected, 60, "the add-on is connected to the broker that the Supervisor names")
    assert asked(supervisor.GATEWAY, "GET", "/")[0] == 403
    assert asked(supervisor.GATEWAY, "GET", "/healthz")[0] == 200
    new = json.dumps({"name": "lab", "model": "digits", "input": "pictures", "value": "lab/images"})
    assert asked(supervisor.SUPERVISOR, "POST", "/setup/pipeline", new) == (200, '{"changed":true}')
    assert "lab/images" in network.do("podman", "exec", "addon", "cat", "/config/agent.yaml")
    users = network.do("podman", "top", "addon", "user", "args").splitlines()[1:]
    assert {line.split()[0] for line in users if "edge-agent run" in line} == {"edge-agent"}
    network.do("podman", "stop", "--time", "40", "addon")
    assert network.inspect("addon")["State"]["ExitCode"] == 0
