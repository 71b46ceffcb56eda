import os
import socket
import time
from pathlib import Path

import pytest

from edge_agent.config import loader, yaml_lines
from edge_agent.config.loader import Config
from edge_agent.errors import ConfigError
from edge_agent.settings import CameraSource, ImagesSource, MqttSource, VideoSource
from edge_agent.settings.base import Normalize
from edge_agent.sources import SOURCES


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "agent.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder: Path, text: str | bytes) -> Config:
    return loader.load(write(folder, text))


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file, without the file's name."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        loader.load(path)
    assert all(problem.startswith(f"{path}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


MANY_MISTAKES = """\
stats_intervall: 10s
mqtt:
  url: http://broker.lan
  keepalive: 500ms
  pasword_file: x
  username:
  topic_prefix: a/#
outbox:
  max_size: 1kB
  when_full: explode
  replay_rate: .nan
models:
  photos:
    path: photos.tflite
    labels: nowhere.txt
    threads: 0
    threads: 2
    accelerators: cpu
    preprocess: {normalise: unit, normalize: {mean: [1, x], std: 0}, resize: strech}
  other: [1, 2]
  third:
pipelines:
  porch:
    source: {type: camera, device: 0, fps: -5, wdith: 3}
    model: fotos
    top_k: 0.5
    min_confidence: 2
  lab/x:
    source: {type: mqtt, topic: 'lab/#/images', qos: 2}
  a:
    source: {type: vidoe, url: gone.mp4}
    model: photos
  b: {source: {url: x}, model: photos}
  c:
    source: {type: video, url: gone.mp4, fps: fast, loop: yes please}
    model: photos
    regions: {a: [1, 2, 3], b: [5, 5, 1, 1]}
  d:
    source: camera
    model: ${env:EDGE_AGENT_TEST_UNSET}
  e: {source: {type: images, path: nowhere}, model: photos}
"""


def test_every_mistake_is_reported_in_one_go_sorted_by_line(tmp_path: Path) -> None:
    # Line and key of each, and what its message must contain; the sentences are on record in golden/commands/check.txt.
    facts: list[tuple[str, ...]] = [
        ("1: stats_intervall", "'stats_interval'"),
        ("3: mqtt.url", "mqtt://HOST[:PORT]", "mqtts://", "wss://", "embedded"),
        ("4: mqtt.keepalive", ">= 2 s", "got 500ms"),
        ("5: mqtt.pasword_file", "'password_file'"),
        ("7: mqtt.topic_prefix", "got a/#"),
        ("9: outbox.max_size", ">= 100000 bytes", "got 1kB"),
        ("10: outbox.when_full", "drop_oldest", "drop_newest", "got explode"),
        ("11: outbox.replay_rate", "number", "got .nan"),
        ("15: models.photos.labels", f"{tmp_path}/nowhere.txt"),
        ("17: models.photos.threads", "duplicate", "line 16"),
        ("18: models.photos.accelerators", "list", "got cpu"),
        ("19: models.photos.preprocess.resize", "stretch", "letterbox", "center_crop", "got strech"),
        ("19: models.photos.preprocess.normalize.mean.1", "number", "got x"),
        ("19: models.photos.preprocess.normalize.std", "> 0", "got 0"),
        ("19: models.photos.preprocess.normalise", "'normalize'"),
        ("20: models.other", "`key: value`", "got a list"),
        ("21: models.third", "`key: value`", "got no value"),
        ("24: pipelines.porch.source.fps", "> 0", "got -5"),
        ("24: pipelines.porch.source.wdith", "'width'"),
        ("25: pipelines.porch.model", "'fotos'", "'photos'"),
        ("26: pipelines.porch.top_k", "whole number", "got 0.5"),
        ("27: pipelines.porch.min_confidence", "<= 1", "got 2"),
        ("28: pipelines.lab/x", "name", "/ + #"),
        ("28: pipelines.lab/x.model", "required"),
        ("29: pipelines.lab/x.source.topic", "'#'", "last level"),
        ("29: pipelines.lab/x.source.qos", "0 or 1", "got 2"),
        ("31: pipelines.a.source.type", *SOURCES, "got vidoe"),
        ("33: pipelines.b.source.type", "required", "`type: mqtt`"),
        ("35: pipelines.c.source.fps", "source", "max", "number", "got fast"),
        ("35: pipelines.c.source.loop", "true or false", "got yes please"),
        ("35: pipelines.c.source.url", f"{tmp_path}/gone.mp4"),
        ("37: pipelines.c.regions.a", "[x1, y1, x2, y2]", "got 3"),
        ("37: pipelines.c.regions.b", "x1 < x2", "y1 < y2"),
        ("39: pipelines.d.source", "`key: value`", "got camera"),
        ("40: pipelines.d.model", "EDGE_AGENT_TEST_UNSET"),
        ("41: pipelines.e.source.path", f"{tmp_path}/nowhere"),
    ]
    found = problems(tmp_path, MANY_MISTAKES)
    assert [problem.split(": ")[:2] for problem in found] == [place.split(": ") for place, *_ in facts]
    for problem, (_, *contained) in zip(found, facts, strict=True):
        assert [fact for fact in contained if fact not in problem] == [], problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mqtt:\n\turl: embedded\n", "2: not valid YAML: found character '\\t'"),
        ("a: b: c\n", "1: not valid YAML: mapping values"),
        ("mqtt:\n  url: embedded\n username: x\n", "3: not valid YAML: expected <block end>"),
        ("\n\ndevice_id: 'porch\nmqtt: {}\n", "3: not valid YAML: found unexpected end of stream"),
        ("mqtt: {}\nporch\nmodels: {}\n", "2: not valid YAML: could not find expected ':'"),
        ("device_id: *porch\n", "1: not valid YAML: found undefined alias 'porch'"),
        ('device_id: "C:\\pi"\n', "1: not valid YAML: found unknown escape character 'p'"),
        ("device_id: @porch\n", "1: not valid YAML: found character '@'"),
        ("mqtt: {}\n---\nmqtt: {}\n", "2: not valid YAML: but found another document"),
        ("[a\n", "2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (bytes(range(256)), "2: not UTF-8"),
        ("a: 1\nb: hügel\n".encode("latin-1"), "2: not UTF-8"),
        ("device_id: porch\n".encode("utf-16-le"), "1: not UTF-8"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "1: not UTF-8"),
        ("- a\n- b\n", "1: the file must contain settings"),
        ("just words\n", "1: the file must contain settings"),
        ("12\n", "1: the file must contain settings"),
        ("# " + "x" * 2_000_000, "1: larger than 1000000 bytes"),
        ("[" * 10_000, "1: not a configuration file: values are nested too deeply"),
        ("a: " + "[" * 10_000 + "]" * 10_000, "1: not a configuration file: values are nested too deeply"),
        ("{a: " * 10_000, "1: not a configuration file: values are nested too deeply"),
        ("a: " + "[" * 40 + "]" * 40, "1: not a configuration file: values are nested more than 32"),
        ("a: &a [*a]\n", "1: not a configuration file: values are nested more than 32"),
        ("&a {mqtt: *a}\n", "1: not a configuration file: values are nested more than 32"),
        ("&a {<<: *a}\n", "1: not a configuration file: values are nested too deeply"),
        ("<<: [1]\n", "1: <<: only a mapping can be merged"),
        ("device_id: !!python/object/apply:os.system ['id']\n", "1: device_id: the tag 'python/object/apply:os.sys"),
        ("device_id: !secret x\n", "1: device_id: the tag '!secret'"),
        ("models: !!set {a, b}\n", "1: models: the tag 'set'"),
        ("? [a, b]\n: 1\n", "1: a key must be text"),
    ],
)  # fmt: skip
def test_what_is_no_settings_file_is_refused_with_one_sentence(text: str | bytes, problem: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(problem)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused_with_one_sentence(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            loader.load(path)
        assert caught.value.problems == (f"{path}: can't be read: {reason}",)


ALIAS_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
MERGE_BOMB = (
    "<<: [&a0 {x: 1}, "
    + ", ".join(f"&a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], x{n}: 1}}" for n in range(1, 12))
    + "]\n"
)


@pytest.mark.parametrize("bomb", [ALIAS_BOMB, MERGE_BOMB], ids=["aliases", "merges"])
def test_a_small_file_that_would_become_huge_is_refused_soon(bomb: str, tmp_path: Path) -> None:
    began = time.monotonic()
    assert problems(tmp_path, bomb) == ["1: not a configuration file: more than 100000 values"]
    assert time.monotonic() - began < 10


def test_of_thousands_of_mistakes_the_first_hundred_are_told_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    found = problems(tmp_path, "".join(f"key{number}: 1\n" for number in range(20_000)))
    assert time.monotonic() - began < 30
    assert found[0].startswith("1: key0: unknown key; known: device_id, mqtt")
    assert len(found) == 101
    assert found[-1] == " and 19900 more problems"


@pytest.mark.parametrize("text", ["", "  \n\n", "# only a comment\n", "---\n", "mqtt:\nmodels:\npipelines:\n"])
def test_an_empty_file_and_empty_sections_are_all_defaults(text: str, tmp_path: Path) -> None:
    settings = load(tmp_path, text).settings
    assert settings.mqtt.url == "mqtt://localhost:1883"
    assert settings.pipelines == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_that_editors_write_are_read(encoding: str, tmp_path: Path) -> None:
    assert load(tmp_path, "device_id: küche\r\n".encode(encoding)).settings.device_id == "küche"


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


def pipeline(source: str) -> str:
    return f"models: {{m: {{path: x}}}}\npipelines: {{p: {{model: m, source: {source}}}}}\n"


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
        ("{url: 'mqtts://b', cert_file: ca.pem}", "mqtt: cert_file and key_file belong together"),
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


def test_anchors_and_merges_work_and_own_keys_win(tmp_path: Path) -> None:
    text = """\
models:
  a: &a {path: x, threads: 1, accelerators: [cpu]}
  b: {<<: *a, threads: 2}
  c: {<<: [{path: z}, *a], threads: 3, preprocess: &p {normalize: {mean: [1, 2, 3]}}}
  d: {path: y, preprocess: *p}
"""
    models = load(tmp_path, text).settings.models
    assert {name: (str(model.path), model.threads) for name, model in models.items()} == {
        "a": ("x", 1),
        "b": ("x", 2),
        "c": ("z", 3),
        "d": ("y", None),
    }
    assert models["d"].preprocess.normalize == Normalize(mean=(1, 2, 3))


def test_a_mistake_in_what_is_merged_is_told_where_it_stands(tmp_path: Path) -> None:
    text = "models:\n  a: &a\n    path: x\n    threads: 0\n  b:\n    <<: *a\n"
    assert problems(tmp_path, text) == [
        "4: models.a.threads: must be >= 1 (got 0)",
        "4: models.b.threads: must be >= 1 (got 0)",
    ]


def test_a_key_that_stands_twice_is_a_mistake_though_yaml_allows_it(tmp_path: Path) -> None:
    assert problems(tmp_path, "mqtt: {}\ndevice_id: a\nmqtt: {url: embedded}\n") == [
        "3: mqtt: duplicate key, first defined on line 1"
    ]


def test_what_the_file_holds_can_not_command_the_terminal(tmp_path: Path) -> None:
    text = '"\\e[31mred": 1\ndevice_id: "a\\e[31m/\\nb"\n'
    found = problems(tmp_path, text)
    assert found[0].startswith("1: \\x1b[31mred: unknown key")
    assert found[1].endswith("(got a\\x1b[31m/\\nb)")
    assert all(problem.isprintable() for problem in found)


def test_where_gives_the_line_of_the_nearest_key(tmp_path: Path) -> None:
    loaded = load(tmp_path, "models:\n  m:\n    path: x\n")
    path = tmp_path / "agent.yaml"
    assert loaded.where("models", "m", "path") == f"{path}:3: models.m.path"
    assert loaded.where("models", "m", "labels") == f"{path}:2: models.m.labels"
    assert loaded.where("pipelines") == f"{path}:1: pipelines"


def chain(length: int) -> str:
    links = (f"  p{n}: {{source: {{type: pipeline, name: p{n + 1}}}, model: m}}\n" for n in range(length))
    return "models: {m: {path: x}}\npipelines:\n" + "".join(links)


@pytest.mark.parametrize(
    "text", ["a: 1\n" * 190_000, "".join(f"k{n}: 1\n" for n in range(95_000)), "{" + "a," * 490_000]
)
def test_a_file_with_too_much_in_it_is_refused_before_all_of_it_is_parsed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_lines, "MAX_NODES", 1000)
    began = time.monotonic()
    assert problems(tmp_path, text) == ["1: not a configuration file: more than 1000 keys and values"]
    assert time.monotonic() - began < 10


def test_a_long_chain_of_pipelines_is_checked_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    assert "2: pipelines: must have at most 256 entries" in problems(tmp_path, chain(3_000))
    assert time.monotonic() - began < 30


def test_each_circle_of_pipelines_is_reported_and_what_only_leads_to_one_is_not(tmp_path: Path) -> None:
    parents = {"a": "b", "b": "c", "c": "a", "leads": "b", "self": "self", "first": "leads"}
    lines = (f"  {n}: {{source: {{type: pipeline, name: {p}}}, model: m}}\n" for n, p in parents.items())
    found = problems(tmp_path, "models: {m: {path: x}}\npipelines:\n" + "".join(lines))
    circle = "source.name: a pipeline must not be its own source, directly or through others"
    assert [text.split(": ", 1)[1] for text in found] == [f"pipelines.{n}.{circle}" for n in ("a", "b", "c", "self")]


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_no_regular_file_is_refused_without_being_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    with socket.socket(socket.AF_UNIX) as server:
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case _:
                server.bind(str(path))
        with pytest.raises(ConfigError, match=r"agent\.yaml: can't be read: (not a regular file|No such device)"):
            loader.load(path)
