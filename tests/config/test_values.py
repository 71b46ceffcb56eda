import os
from pathlib import Path

import pytest

from edge_agent.config import loader
from edge_agent.settings import CameraSource, ImagesSource, MqttSource, VideoSource
from tests.config.settings_files import load, pipeline, problems, write


@pytest.mark.parametrize(
    "name",
    ["no", "on", "yes", "off", "true", "null-device", "12", "007", "1e3", "1:30", "2026-11-22", "0x1f", "=", "~x"],
)
def test_a_text_is_what_stands_in_the_file_whatever_yaml_would_make_of_it(name: str, tmp_path: Path) -> None:
    text = f"device_id: {name}\nmqtt: {{username: {name}}}\n"
    settings = load(tmp_path, text).settings
    assert (settings.device_id, settings.mqtt.username) == (name, name)


def test_names_that_yaml_takes_for_numbers_or_truth_values_are_names(tmp_path: Path) -> None:
    text = """\
models: {12: {path: x}, on: {path: x}, 1.10: {path: x}}
pipelines:
  no: {source: {type: images, path: .}, model: 12}
  007: {source: {type: images, path: .}, model: on}
  2026-11-22: {source: {type: images, path: .}, model: 1.10}
"""
    pipelines = load(tmp_path, text).settings.pipelines
    assert {name: pipeline.model for name, pipeline in pipelines.items()} == {
        "no": "12",
        "007": "on",
        "2026-11-22": "1.10",
    }


@pytest.mark.parametrize(
    ("written", "protocol"),
    [("5", "5"), ("5.0", "5"), ("'5'", "5"), ("3.1.1", "3.1.1"), ('"3.1.1"', "3.1.1"), ("auto", "auto")],
)
def test_a_protocol_version_may_look_like_a_number(written: str, protocol: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"mqtt: {{protocol: {written}}}").settings.mqtt.protocol == protocol


@pytest.mark.parametrize("written", ["3.1", "4", "yes", "5.1", "[5]"])
def test_another_protocol_version_is_refused(written: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f"mqtt: {{protocol: {written}}}")
    assert found.startswith("1: mqtt.protocol: must be auto, 5 or 3.1.1 (got ")


@pytest.mark.parametrize("qos", [0, 1])
def test_a_quality_of_service_is_read_in_sources_and_in_what_is_published(qos: int, tmp_path: Path) -> None:
    text = pipeline(f"{{type: mqtt, topic: t, qos: {qos}}}, publish: {{qos: {qos}}}")
    read = load(tmp_path, text).settings.pipelines["p"]
    assert isinstance(read.source, MqttSource)
    assert (read.source.qos, read.publish.qos) == (qos, qos)


def test_numbers_and_truth_values_are_read_as_such(tmp_path: Path) -> None:
    source = load(tmp_path, pipeline("{type: camera, device: 1, fps: 2.5, width: 640}")).settings.pipelines["p"].source
    assert source == CameraSource(type="camera", device=1, fps=2.5, width=640)
    named = load(tmp_path, pipeline("{type: camera, device: /dev/video1}")).settings.pipelines["p"].source
    assert isinstance(named, CameraSource)
    assert named.device == "/dev/video1"
    (tmp_path / "clip.mp4").touch()
    video = load(tmp_path, pipeline("{type: video, url: clip.mp4, loop: yes, fps: 5}")).settings.pipelines["p"].source
    assert isinstance(video, VideoSource)
    assert (video.loop, video.fps) == (True, 5.0)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("fps", "yes", "must be a number (got yes)"),
        ("fps", ".inf", "must be a number (got .inf)"),
        ("fps", "inf", "must be a finite number (got inf)"),
        ("fps", "'nan'", "must be a finite number (got nan)"),
        ("fps", "1e9", "must be <= 1000 (got 1e9)"),
        ("fps", "[1]", "must be a number (got a list)"),
        ("fps", "{}", "must be a number (got `key: value` lines)"),
        ("width", "on", "must be a whole number (got on)"),
        ("width", "640.5", "must be a whole number (got 640.5)"),
        ("width", "9" * 5000, "must be a whole number (got 9999"),
        ("width", "2026-11-22", "must be a whole number (got 2026-11-22)"),
        ("width", "99999", "must be <= 16384 (got 99999)"),
        ("stall_timeout", "10 minutes", "must be a duration such as 500ms, 2s or 5m (got 10 minutes)"),
        ("stall_timeout", "-1", "must be a duration such as 500ms, 2s or 5m (got -1)"),
        ("stall_timeout", "1d", "must be <= 600 s (got 1d)"),
        ("stall_timeout", "9999", "must be <= 600 (got 9999)"),
        ("stall_timeout", "[2s]", "must be a duration such as 500ms, 2s or 5m (got a list)"),
        ("device", "[0]", "must be a whole number, or be text (got a list)"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_fits(key: str, value: str, problem: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, pipeline(f"{{type: camera, {key}: {value}}}"))
    assert found.startswith(f"2: pipelines.p.source.{key}: {problem}")


def test_sizes_and_durations_take_units(tmp_path: Path) -> None:
    text = "stats_interval: 500ms\nmqtt: {keepalive: 1m}\noutbox: {max_size: 1.5MB}\n"
    settings = load(tmp_path, text).settings
    assert (settings.stats_interval, settings.mqtt.keepalive, settings.outbox.max_size) == (0.5, 60.0, 1_500_000)


@pytest.mark.parametrize(
    ("mqtt", "problem"),
    [
        ("{password_file: ca.pem}", "mqtt.password_file: needs a username"),
        ("{url: 'mqtts://b', cert_file: ca.pem}", "mqtt.key_file: cert_file and key_file belong together"),
        ("{url: 'mqtts://b', key_file: ca.pem}", "mqtt.key_file: cert_file and key_file belong together"),
        ("{ca_file: ca.pem}", "mqtt.ca_file: needs a url with TLS, mqtts:// or wss://"),
        ("{url: 'mqtt://b:99999'}", "mqtt.url: must be a valid address"),
        ("{url: 'mqtt://[::1'}", "mqtt.url: must be a valid address"),
        ("{username: x, password_file: ''}", "mqtt.password_file: must not be empty"),
    ],
)
def test_what_belongs_together_must_be_there_together(mqtt: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    # Another mistake hides none of them.
    found = problems(tmp_path, f"mqtt: {mqtt}\nstats_interval: never\n")
    assert found[0].startswith(f"1: {problem}")
    assert found[-1].startswith("2: stats_interval: ")


def test_a_mistake_in_one_key_is_not_blamed_on_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "pw").touch()
    (tmp_path / "ca.pem").touch()
    found = problems(tmp_path, "mqtt: {username: [x], password_file: pw, url: mqttss://b, ca_file: ca.pem}\n")
    assert [problem.split(": ")[1] for problem in found] == ["mqtt.url", "mqtt.username"]


def test_an_unknown_key_names_the_nearest_known_one_wherever_it_stands(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "models:\n  m: {path: x, preprocess: {colour: rgb}}\n"
        "pipelines:\n  p:\n    modle: m\n    model: m\n    source: {type: mqtt, topic: t, sahre: g}\n",
    )
    assert found == [
        "2: models.m.preprocess.colour: unknown key; did you mean 'color'?",
        "5: pipelines.p.modle: unknown key; did you mean 'model'?",
        "7: pipelines.p.source.sahre: unknown key; did you mean 'share'?",
    ]


def test_environment_variables_are_filled_in_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_TEST_SITE", "hill")
    monkeypatch.setenv("EDGE_AGENT_TEST_THREADS", "3")
    text = (
        "device_id: ${env:EDGE_AGENT_TEST_SITE}-1\nmodels: {m: {path: x, threads: '${env:EDGE_AGENT_TEST_THREADS}'}}\n"
    )
    settings = load(tmp_path, text).settings
    assert (settings.device_id, settings.models["m"].threads) == ("hill-1", 3)


def test_a_password_from_the_environment_stays_a_name_until_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "mqtt: {username: x, password_file: '${env:EDGE_AGENT_TEST_PASSWORD}'}\n"
    assert problems(tmp_path, text) == [
        "1: mqtt.password_file: the environment variable EDGE_AGENT_TEST_PASSWORD is not set"
    ]
    monkeypatch.setenv("EDGE_AGENT_TEST_PASSWORD", "hunter2")
    loaded = load(tmp_path, text)
    assert loaded.settings.mqtt.password_file == "${env:EDGE_AGENT_TEST_PASSWORD}"
    assert "hunter2" not in repr(loaded)


@pytest.mark.parametrize(
    "text",
    [
        "device_id: a/hunter2/${env:EDGE_AGENT_TEST_SECRET}\n",
        "stats_interval: ${env:EDGE_AGENT_TEST_SECRET}\n",
        "stats_interval: ['${env:EDGE_AGENT_TEST_SECRET}']\n",
        "mqtt: {username: x, password_file: s3cret}\n",
        "mqtt: {username: x, password_file: [s3cret]}\n",
        "mqtt: {username: x, passwrd: s3cret}\n",
        "mqtt: {url: 'mqtt://user:s3cret@broker'}\n",
        "mqtt: {url: 'mqtt:/user:s3cret@broker'}\n",
        "mqtt: {ca_file: '${env:EDGE_AGENT_TEST_SECRET}@x'}\n",
        pipeline("{type: video, url: 'rtsp://user:s3cret@camera', loop: true}"),
        pipeline("{type: video, url: 'rtsp:/user:s3cret@camera'}"),
        pipeline("{type: '${env:EDGE_AGENT_TEST_SECRET}'}"),
        pipeline("{type: command, argv: 'ffmpeg rtsp://user:s3cret@camera', format: mjpeg}"),
        pipeline("{type: command, argv: ['ffmpeg rtsp://user:s3cret@camera'], format: mjpeg}"),
        pipeline("{type: command, argv: [ffmpeg, [s3cret]], format: mjpeg}"),
        pipeline("{type: command, argv: [ffmpeg, {s3cret: s3cret}], format: mjpeg}"),
        pipeline("{type: camera, fps: '${env:EDGE_AGENT_TEST_SECRET}'}"),
        "pipelines: {p: {model: '${env:EDGE_AGENT_TEST_SECRET}', source: {type: camera}}}\n",
        "models: {'m': {path: x, accelerators: ['${env:EDGE_AGENT_TEST_SECRET}']}}\n",
    ],
)
def test_no_secret_is_in_any_message(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_TEST_SECRET", "s3cret")
    found = problems(tmp_path, text)
    assert found
    assert not any("s3cret" in problem for problem in found)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    (folder / "frames").mkdir(parents=True)
    (folder / "labels.txt").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write(
        folder,
        "models: {m: {path: x, labels: labels.txt}}\n"
        "pipelines: {p: {source: {type: images, path: frames}, model: m}}\n",
    )
    for named in (path, Path(os.path.relpath(path))):
        loaded = loader.load(named)
        assert loaded.resolve("labels.txt").samefile(folder / "labels.txt")
        assert loaded.settings.pipelines["p"].source == ImagesSource(type="images", path="frames")


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "labels.txt").touch()
    loaded = load(tmp_path, "models: {m: {path: x, labels: ~/labels.txt}}\n")
    assert loaded.resolve("~/labels.txt") == tmp_path / "labels.txt"


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("gone.txt", "there is no such file: "),
        ("agent.yaml/labels.txt", "there is no such file: "),
        ("~no-such-user/labels.txt", "there is no such file: "),
        (".", "this is not a file: "),
        ("''", "this is not a file: "),
        ('"a\\0b"', "there is no such file, or it can't be read (embedded null byte): "),
        ("a" * 5000, "there is no such file, or it can't be read (File name too long): "),
    ],
)
def test_a_file_that_is_named_must_be_there(labels: str, problem: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f"models: {{m: {{path: x, labels: {labels}}}}}\n")
    assert found.startswith(f"1: models.m.labels: {problem}")


@pytest.mark.parametrize(
    "source",
    [
        "{type: images, path: 'frames/**/*.jpg'}",
        "{type: video, url: 'rtsp://camera/stream'}",
        "{type: video, url: 'http://camera/stream'}",
        "{type: camera, device: /dev/video99}",
        "{type: mqtt, topic: a/+/b/#}",
    ],
)
def test_what_is_no_file_need_not_be_there(source: str, tmp_path: Path) -> None:
    assert load(tmp_path, pipeline(source)).settings.pipelines["p"]
