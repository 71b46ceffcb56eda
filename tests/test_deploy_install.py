"""The installation as a service, below a temporary root: first, again, newer, broken, interrupted, removed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from edge_agent.config import loader
from tests.installation import SCRIPT, UNIT, Device, make_wheel
from tests.pages import ROOT


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_first_installation_leaves_the_start_to_who_writes_the_configuration(device: Device) -> None:
    wheel = make_wheel(device.root, "1.0")
    done = device.run(wheel)
    assert done.returncode == 0, done.stderr
    assert f"Write {device.etc}/agent.yaml" in done.stdout
    assert loader.load(device.etc / "agent.yaml").settings.pipelines.keys() == {"lab"}
    assert (device.version, mode(device.etc / "agent.yaml")) == ("1.0", 0o644)
    assert (mode(device.state), mode(device.etc / "credentials")) == (0o700, 0o700)
    assert "--system --user-group" in device.calls("useradd")[0]
    assert "edge-agent:edge-agent" in device.calls("chown")[0]
    assert device.calls("systemctl") == ["daemon-reload"]
    done = device.run(wheel)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "edge-agent 1.0 is running")
    assert {"enable --quiet edge-agent.service", "restart edge-agent.service"} <= set(device.calls("systemctl"))


def test_everything_that_the_example_shows_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broker-password").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    example = (ROOT / "deploy" / "agent.yaml").read_text()
    file = tmp_path / "agent.yaml"
    file.write_text(re.sub(r"^( *)#( *[a-z_]+:)", r"\1\2", example, flags=re.MULTILINE))
    settings = loader.load(file).settings
    assert settings.device_id == "porch-pi"
    assert settings.mqtt.password_file
    assert settings.pipelines.keys() == {"lab", "door"}
    assert yaml.safe_load(example)["pipelines"].keys() == {"lab"}


def test_a_second_run_changes_nothing(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    before = {path: path.lstat().st_mtime_ns for path in device.opt.rglob("*")}
    restarts = device.calls("systemctl").count("restart edge-agent.service")
    done = device.install("1.0")
    assert done.returncode == 0
    assert done.stdout == "edge-agent 1.0 is there already\nedge-agent 1.0 is running already\n"
    assert device.calls("systemctl").count("restart edge-agent.service") == restarts
    assert {path: path.lstat().st_mtime_ns for path in device.opt.rglob("*")} == before
    assert len(device.calls("useradd")) == 1


def test_a_newer_version_takes_over_and_the_one_before_it_stays(device: Device) -> None:
    for version in ("1.0", "1.1", "1.2"):
        done = device.install(version)
        assert done.returncode == 0, done.stderr
        assert device.version == version
    assert device.versions() == ["1.1", "1.2"]
    assert (device.etc / "agent.yaml").read_text().startswith("# mine\n")


@pytest.mark.parametrize(
    ("before", "after"), [("edge_agent", "edge_agent_runtime"), ("edge_agent_runtime", "edge_agent")]
)
def test_a_wheel_from_before_the_change_of_the_name_is_replaced_and_gone_back_to(
    before: str, after: str, device: Device
) -> None:
    device.install("0.9")  # with a configuration
    for name, version in ((before, "1.0"), (after, "1.1")):
        wheel = make_wheel(device.root, version)
        done = device.run(wheel.rename(wheel.with_name(f"{name}-{version}-py3-none-any.whl")))
        assert done.returncode == 0, done.stderr
        assert device.version == version
    assert device.versions() == ["1.0", "1.1"]
    (device.root / "broken").write_text("1.2\n")
    assert device.install("1.2").returncode == 3
    assert device.version == "1.1"


def test_another_wheel_of_the_same_version_is_another_environment(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    first = (device.opt / "current").readlink()
    assert device.run(make_wheel(device.root, "1.0", note="again")).returncode == 0
    assert (device.opt / "current").readlink() != first
    assert (device.opt / "previous").readlink() == first


def test_a_version_that_was_installed_by_hand_is_the_way_back_and_never_removed(device: Device) -> None:
    by_hand = device.opt / "0.9"
    (by_hand / "bin").mkdir(parents=True)
    (by_hand / "bin" / "edge-agent").write_text("#!/bin/sh\n")
    (by_hand / "bin" / "edge-agent").chmod(0o755)
    (device.opt / "current").symlink_to("0.9")
    for version in ("1.0", "1.1"):
        assert device.install(version).returncode == 0
        assert by_hand.exists()


def test_the_version_before_is_taken_back_by_hand_once(device: Device) -> None:
    for version in ("1.0", "1.1"):
        assert device.install(version).returncode == 0
    (device.root / "broken").write_text("1.2\n")
    assert device.install("1.2").returncode == 3  # which leaves the way back from 1.1
    done = device.run("--back")
    assert (done.returncode, device.version) == (0, "1.0"), done.stderr
    assert (device.root / "active").exists()
    assert device.run("--back").returncode == 1
    assert device.version == "1.0"


def test_a_version_is_watched_for_as_long_as_it_is_said(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    (device.root / "short-lived").write_text("1.1\n")  # it ends after 25 seconds
    assert device.run("--watch", "20", make_wheel(device.root, "1.1")).returncode == 0
    (device.root / "short-lived").write_text("1.2\n")
    assert device.run("--watch", "600", make_wheel(device.root, "1.2")).returncode == 3
    assert device.version == "1.1"


@pytest.mark.parametrize("how", ["broken", "unsteady", "short-lived"])
def test_a_version_that_does_not_become_ready_is_replaced_by_the_one_before(how: str, device: Device) -> None:
    assert device.install("1.0").returncode == 0
    (device.root / how).write_text("1.1\n")
    done = device.install("1.1")
    assert done.returncode == 3
    assert "the log of the service" in done.stderr
    assert "edge-agent 1.1 did not become ready within 300 s; 1.0-" in done.stderr
    assert (device.version, device.versions()) == ("1.0", ["1.0"])
    assert (device.root / "active").exists()


def test_where_no_version_becomes_ready_it_says_so(device: Device) -> None:
    broken = device.root / "broken"
    broken.write_text("1.0\n")
    done = device.install("1.0")
    assert done.returncode == 4
    assert "there is no older version to go back to" in done.stderr
    broken.unlink()
    assert device.install("1.0").returncode == 0
    broken.write_text("1.0\n1.1\n")
    done = device.install("1.1")
    assert done.returncode == 4
    assert "neither edge-agent 1.1 nor 1.0-" in done.stderr


@pytest.mark.parametrize("then", ["1.1", "1.2"])
def test_after_a_power_cut_before_the_proof_the_next_run_still_knows_the_way_back(then: str, device: Device) -> None:
    assert device.install("1.0").returncode == 0
    systemctl = device.root / "bin" / "systemctl"
    text = systemctl.read_text()
    systemctl.write_text(text.replace("restart)", "restart) kill -9 $(ps -o ppid= $(ps -o ppid= $$));"))
    assert device.install("1.1").returncode == -9
    assert device.version == "1.1"
    systemctl.write_text(text)
    (device.root / "active").unlink(missing_ok=True)
    (device.root / "broken").write_text("1.1\n1.2\n")
    assert device.install(then).returncode == 3
    assert device.version == "1.0"


def test_a_configuration_that_the_new_version_refuses_keeps_the_old_one_running(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    (device.etc / "agent.yaml").write_text("models: {digits: {path: gone}}\n")
    before = device.calls("systemctl")
    done = device.install("1.1", REAL="yes")
    assert done.returncode == 1
    assert "agent.yaml:1: models.digits" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("install.sh: edge-agent 1.1 refuses")
    assert (device.version, device.calls("systemctl")) == ("1.0", before)


def test_an_installation_that_fails_or_is_cut_off_leaves_the_one_in_use(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    done = device.install("1.1", PIP_FAILS="yes")
    assert done.returncode == 1
    assert done.stderr == "install.sh: edge-agent 1.1 can't be installed: see above\n"
    assert (device.version, device.versions()) == ("1.0", ["1.0"])
    # As a power cut leaves it.
    complete = (device.opt / "current" / ".installed").resolve()
    assert complete.read_text() == "ready\n"
    complete.write_text("")
    assert device.install("1.0").stdout.startswith("Installing edge-agent 1.0 ")
    assert complete.read_text() == "ready\n"  # the service has been started with it


@pytest.mark.parametrize("how", [{"PIP_FAILS": "yes"}, {"PIP_HANGS": "yes"}])
def test_a_first_installation_that_fails_or_is_stopped_leaves_nothing(how: dict[str, str], device: Device) -> None:
    if "PIP_HANGS" in how:
        (device.root / "bin" / "pip").write_text("#!/bin/sh\nkill -INT $PPID\n")
    done = device.run(make_wheel(device.root, "1.0"), **how)
    assert done.returncode == (130 if "PIP_HANGS" in how else 1), done.stderr
    assert not device.opt.exists()
    assert not device.etc.exists()


def test_a_package_prepares_the_service_with_the_same_code(device: Device) -> None:
    package = device.root / "usr" / "lib" / "edge-agent"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "edge-agent").symlink_to(device.root / "bin" / "edge-agent")
    shutil.unpack_archive(make_wheel(device.root, "1.0"), package / "lib/python3.11/site-packages", "zip")
    (device.etc / "credentials").mkdir(parents=True)
    (device.etc / "credentials" / "broker-password").write_text("secret\n")
    done = device.run("--prepare", package, REAL="yes")
    assert done.returncode == 0, done.stderr
    assert (device.etc / "agent.yaml").read_text() == (ROOT / "deploy" / "agent.yaml").read_text()
    assert (mode(device.state), mode(device.etc / "credentials" / "broker-password")) == (0o700, 0o600)
    assert "LoadCredential=broker-password:" in device.drop_in.read_text()
    assert len(device.calls("useradd")) == 1
    assert not device.opt.exists()
    assert not device.unit.exists()
    assert not device.calls("systemctl")

    (device.etc / "agent.yaml").write_text("models: {digits: {path: gone}}\n")
    done = device.run("--prepare", package, REAL="yes")
    assert done.returncode == 1
    assert "agent.yaml:1: models.digits" in done.stderr
    assert not list((device.root / "run").glob("edge-agent-check.*"))


def test_beside_a_package_it_installs_nothing(device: Device) -> None:
    (device.root / "usr" / "lib" / "edge-agent").mkdir(parents=True)
    (device.root / "usr" / "lib" / "edge-agent" / "pyvenv.cfg").touch()
    done = device.install("1.0")
    assert (done.returncode, device.opt.exists()) == (1, False)
    assert "apt-get remove edge-agent" in done.stderr


def test_what_is_no_wheel_is_refused_before_anything_is_changed(device: Device) -> None:
    wheel = make_wheel(device.root, "1.0")
    wheel.write_bytes(wheel.read_bytes()[:200])
    done = device.run(wheel)
    assert (done.returncode, device.opt.exists()) == (1, False)
    assert f"{wheel} can't be read as a wheel" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_the_head_of_the_file(device: Device) -> None:
    done = device.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"--extras", "--wheelhouse", "--ready-within", "--uninstall", "--purge", "--help"} <= set(
        re.findall(r"--[a-z-]+", done.stdout)
    )
    assert "#" not in done.stdout


@pytest.mark.parametrize("has_systemctl", [True, False])
def test_where_systemd_does_not_run_everything_is_installed_and_nothing_started(
    has_systemctl: bool, device: Device
) -> None:
    shutil.rmtree(device.root / "run" / "systemd")
    if not has_systemctl:
        (device.root / "bin" / "systemctl").unlink()
        tools = device.root / "tools"  # this machine may have one
        tools.mkdir()
        for folder in ("/usr/bin", "/bin"):
            for tool in Path(folder).iterdir():
                if tool.name not in ("systemctl", *(path.name for path in tools.iterdir())):
                    (tools / tool.name).symlink_to(tool)
        device.environment["PATH"] = f"{device.root / 'bin'}:{tools}"
    done = device.install("1.0")
    assert done.returncode == 0, done.stderr
    assert device.version == "1.0"
    assert device.calls("systemctl") == (["enable --quiet edge-agent.service"] if has_systemctl else [])
    assert "is installed, and not started" in done.stdout
    assert f"run -c {device.etc}/agent.yaml" in done.stdout
    assert device.install("1.1").returncode == 0
    assert device.version == "1.1"
    done = device.run("--uninstall")
    assert done.returncode == 0, done.stderr
    assert not device.opt.exists()


def test_credentials_are_for_root_and_reach_the_service_and_the_check(device: Device) -> None:
    device.etc.mkdir(parents=True)
    (device.etc / "credentials").mkdir()
    password = device.etc / "credentials" / "broker-password"
    password.write_text("hunter2\n")
    (device.etc / "agent.yaml").write_text(
        "models: {digits: {path: digits}}\n"
        "pipelines: {meter: {source: {type: images, path: /tmp}, model: digits}}\n"
        "mqtt: {url: mqtt://broker.lan, username: pi, password_file: '${env:CREDENTIALS_DIRECTORY}/broker-password'}\n"
    )
    done = device.install("1.0", REAL="yes")
    assert done.returncode == 0, done.stderr
    assert mode(password) == 0o600
    assert f"-R root:root {device.etc}/credentials" in device.calls("chown")
    drop_in = device.drop_in.read_text()
    assert "\nLoadCredential=broker-password:/etc/edge-agent/credentials/broker-password\n" in drop_in
    assert [path.name for path in (device.root / "run").iterdir()] == ["systemd"]  # no copy for the check
    assert "hunter2" not in done.stdout + done.stderr + drop_in + (device.root / "calls").read_text()


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ("video plugdev apex", "SupplementaryGroups=video plugdev apex\n"),
        ("video", "SupplementaryGroups=video\n"),
        ("none", ""),
    ],
)
def test_the_service_has_the_groups_that_exist(there: str, line: str, device: Device) -> None:
    assert device.install("1.0", GROUPS_THERE=there).returncode == 0
    assert device.drop_in.read_text().split("[Service]\n")[1] == f"SupplementaryGroups=\n{line}"


USB = "DeviceAllow=char-usb_device rw\n"


@pytest.mark.parametrize(
    ("product", "yaml_line", "granted"),
    [
        ("", "", False),
        ("", "# accelerators: [edgetpu, cpu]", False),
        ("", "accelerators: [edgetpu, cpu]", True),
        ("1a6e/89a/100", "", True),
        ("18d1/9302/200", "", True),
        ("46d/825/12", "", False),
    ],
)
def test_usb_devices_are_open_to_the_service_only_for_an_edge_tpu(
    product: str, yaml_line: str, granted: bool, device: Device
) -> None:
    if product:
        place = device.root / "sys" / "bus" / "usb" / "devices" / "1-1"
        place.mkdir(parents=True)
        (place / "uevent").write_text(f"DEVTYPE=usb_device\nPRODUCT={product}\n")
    device.etc.mkdir(parents=True)
    (device.etc / "agent.yaml").write_text(f"models: {{digits: {{path: digits}}}}\n{yaml_line}\n")
    assert device.install("1.0").returncode == 0
    assert (USB in device.drop_in.read_text()) == granted
    assert f"\n{USB}" not in (device.root / "etc" / "systemd" / "system" / "edge-agent.service").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze: apt-get install systemd")
def test_systemd_finds_no_mistake_in_what_is_installed(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    program = "/opt/edge-agent/current/bin/edge-agent"
    device.unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(device.unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_internet_everything_comes_from_the_folder(device: Device, tmp_path: Path) -> None:
    wheelhouse = tmp_path / "wheel house"
    wheelhouse.mkdir()
    device.etc.mkdir(parents=True)
    done = device.run("--wheelhouse", wheelhouse, "--extras", "tflite,onnx", make_wheel(device.root, "1.0"))
    assert done.returncode == 0, done.stderr
    (call,) = device.calls("pip")
    assert call.endswith(
        f"--no-index --find-links {wheelhouse} {device.root}/edge_agent_runtime-1.0-py3-none-any.whl[tflite,onnx]"
    )
    assert device.calls("apt-get") == []
    done = device.run("--wheelhouse", wheelhouse, make_wheel(device.root, "1.1"), VENV_MISSING="yes")
    assert done.returncode == 1
    assert done.stderr == "install.sh: missing packages of the system: apt-get install python3-venv\n"


def test_a_32_bit_system_takes_opencv_numpy_and_yaml_from_debian_whatever_its_kernel(device: Device) -> None:
    requirements = (
        "numpy>=1.24",
        "amqtt>=0.12; platform_machine != 'armv7l' and platform_machine != 'armv6l'",
        "ai-edge-litert>=2.0; (platform_machine != 'armv7l' and platform_machine != 'armv6l') and extra == 'tflite'",
        "tflite-runtime>=2.14; (platform_machine == 'armv7l' or platform_machine == 'armv6l') and extra == 'tflite'",
        "onnxruntime>=1.20; extra == 'onnx'",
    )
    done = device.run(make_wheel(device.root, "1.0", requirements), PYTHON_IS="3 11 32")
    assert done.returncode == 0, done.stderr
    assert device.calls("apt-get")[-1].endswith("--no-install-recommends python3-opencv python3-numpy python3-yaml")
    assert any(call.startswith("-m venv --system-site-packages ") for call in device.calls("python3"))
    assert (device.root / "required").read_text().split() == ["numpy>=1.24", "tflite-runtime>=2.14"]
    assert device.calls("pip")[-1].endswith(f"--no-deps {device.root}/edge_agent_runtime-1.0-py3-none-any.whl")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        ((), {}, 2, "expected the path of edge_agent_runtime-*.whl"),
        (("a.whl", "b.whl"), {}, 2, "expected one wheel, found a.whl and b.whl"),
        (("--force", "a.whl"), {}, 2, "there is no option --force; see --help"),
        (("--extras",), {}, 2, "--extras needs a value"),
        (
            ("--extras", "tflit,onnx", "WHEEL"),
            {},
            2,
            "--extras: there is no extra 'tflit'; there are: tflite onnx update metrics",
        ),
        (
            ("--extras", "tflite onnx", "WHEEL"),
            {},
            2,
            "--extras: expected names with commas between them, found 'tflite onnx'",
        ),
        (("--purge", "a.whl"), {}, 2, "--purge goes with --uninstall"),
        (("--ready-within", "1m", "a.whl"), {}, 2, "--ready-within: expected seconds, found '1m'"),
        (("gone.whl",), {}, 1, "there is no file gone.whl"),
        (("/etc/hostname",), {}, 1, "/etc/hostname is no wheel of edge-agent: expected edge_agent_runtime-*.whl"),
        (("WHEEL",), {"PYTHON_IS": "3 10 64"}, 1, "Python is Python of the test: 3.11 to 3.13 are supported"),
        (("--wheelhouse", "/gone", "WHEEL"), {}, 1, "there is no folder /gone"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_anything_is_changed(
    arguments: tuple[str, ...], environment: dict[str, str], code: int, message: str, device: Device
) -> None:
    wheel = str(make_wheel(device.root, "1.0"))
    done = device.run(*(wheel if argument == "WHEEL" else argument for argument in arguments), **environment)
    assert (done.returncode, done.stderr) == (code, f"install.sh: {message}\n")
    assert not device.opt.exists()
    assert not device.etc.exists()


def test_two_at_a_time_are_refused(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    with subprocess.Popen(["flock", str(device.opt / ".lock"), "cat"], stdin=subprocess.PIPE) as holder:
        while subprocess.run(["flock", "-n", str(device.opt / ".lock"), "true"], check=False).returncode == 0:
            pass
        done = device.install("1.1")
        holder.communicate()
    assert (done.returncode, done.stderr) == (1, "install.sh: another installation is under way\n")


def test_removal_leaves_the_configuration_and_what_the_user_added_to_the_unit(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    own = device.drop_in.with_name("override.conf")
    own.write_text("[Service]\nNice=5\n")
    done = device.run("--uninstall")
    assert done.returncode == 0, done.stderr
    assert f"its configuration is still in {device.etc}" in done.stdout
    assert not device.opt.exists()
    assert not device.state.exists()
    assert not device.unit.exists()
    assert not (device.root / "user").exists()
    assert list(device.drop_in.parent.iterdir()) == [own]
    assert (device.etc / "agent.yaml").exists()
    assert device.calls("systemctl")[-2:] == ["disable --now --quiet edge-agent.service", "daemon-reload"]


def test_a_purge_leaves_nothing_and_can_be_said_twice(device: Device) -> None:
    assert device.install("1.0").returncode == 0
    for _ in range(2):
        done = device.run("--uninstall", "--purge")
        assert done.returncode == 0, done.stderr
        assert list(device.root.rglob("edge-agent*")) == [device.root / "bin" / "edge-agent"]  # the stand-in


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    scripts = [SCRIPT, *(ROOT / "deploy" / "debian").glob("p*")]
    done = subprocess.run(["shellcheck", "-s", "sh", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
