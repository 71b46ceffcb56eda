import os
import socket
import time
from pathlib import Path

import pytest

from edge_agent.config import loader, yaml_lines
from edge_agent.errors import ConfigError
from edge_agent.settings.base import Normalize
from edge_agent.sources import SOURCES
from tests.broker import PATIENCE
from tests.config.settings_files import load, problems

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
    assert time.monotonic() - began < 10 * PATIENCE


def test_of_thousands_of_mistakes_the_first_hundred_are_told_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    found = problems(tmp_path, "".join(f"key{number}: 1\n" for number in range(20_000)))
    assert time.monotonic() - began < 30 * PATIENCE
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
    assert time.monotonic() - began < 10 * PATIENCE


def test_a_long_chain_of_pipelines_is_checked_soon(tmp_path: Path) -> None:
    began = time.monotonic()
    assert "2: pipelines: must have at most 256 entries" in problems(tmp_path, chain(3_000))
    assert time.monotonic() - began < 30 * PATIENCE


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
