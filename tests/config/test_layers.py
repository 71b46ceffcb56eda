"""What a repository states, below what the device's own file states."""

from pathlib import Path

import pytest

from edge_agent.config.layers import Layer
from edge_agent.config.loader import Config, load
from edge_agent.errors import ConfigError

OWN = """\
device_id: porch-pi
mqtt: {url: mqtt://broker.lan}
update: {url: http://updates.lan, root: root.json, config: fleet}
"""
BASE = """\
models: {digits: {path: digits}}
pipelines:
  porch:
    source: {type: camera, device: 0, fps: 5}
    model: digits
    top_k: 3
"""


def merged(folder: Path, own: str, *layers: str) -> Config:
    (folder / "root.json").write_text("{}")
    (folder / "agent.yaml").write_text(OWN + own)
    content = [Layer(f"fleet/1/{number}.yaml", text.encode()) for number, text in enumerate(layers)]
    return load(folder / "agent.yaml", content, "fleet/1" if layers else "")


def problems(folder: Path, own: str, *layers: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        merged(folder, own, *layers)
    return list(caught.value.problems)


def test_later_layers_win_and_the_devices_own_file_wins_over_all(tmp_path: Path) -> None:
    label = "pipelines: {porch: {source: {fps: 2}, top_k: 2, min_confidence: 0.5}}"
    own = "pipelines: {porch: {top_k: 1, source: {device: /dev/video7}}}"
    config = merged(tmp_path, own, BASE, label)
    porch = config.settings.pipelines["porch"]
    assert (porch.top_k, porch.min_confidence) == (1, 0.5)
    assert porch.source.model_dump(include={"device", "fps"}) == {"device": "/dev/video7", "fps": 2}
    assert config.overridden == ("pipelines.porch.top_k", "pipelines.porch.source.device")


def test_null_removes_lists_are_replaced_and_another_type_too(tmp_path: Path) -> None:
    device = "pipelines: {porch: {top_k: null, source: {type: mqtt, topic: in}}}"
    porch = merged(tmp_path, "", BASE, device).settings.pipelines["porch"]
    assert porch.source.type == "mqtt"
    assert "top_k" not in porch.model_fields_set
    lists = ("pipelines: {porch: {source: {type: command, argv: [a, b], format: jsonl}}}", "stats_interval: 3s")
    own = "pipelines: {porch: {source: {argv: [c]}}}"
    (tmp_path / "agent.yaml").write_text(OWN.replace("fleet}", "fleet, config_programs: true}") + own)
    layers = [Layer(f"fleet/1/{number}.yaml", text.encode()) for number, text in enumerate((BASE, *lists))]
    with pytest.raises(ConfigError):  # fps belongs to the camera of the base
        load(tmp_path / "agent.yaml", [layers[0], Layer("x", b"pipelines: {porch: {source: {topic: in}}}")])
    source = load(tmp_path / "agent.yaml", layers).settings.pipelines["porch"].source
    assert source.model_dump()["argv"] == ("c",)


def test_without_the_repository_what_only_completes_it_is_left_out(tmp_path: Path) -> None:
    own = "pipelines: {porch: {top_k: 1}}\nmodels: {digits: {threads: 1}}"
    config = merged(tmp_path, own)
    assert not config.settings.pipelines
    assert config.unused == ("pipelines.porch", "models.digits")
    assert merged(tmp_path, own, BASE).settings.models["digits"].threads == 1


@pytest.mark.parametrize(
    ("layer", "key"),
    [
        ("mqtt: {url: mqtt://elsewhere}", "mqtt"),
        ("update: {url: http://elsewhere}", "update.url"),
        ("http: {listen: 0.0.0.0:80}", "http"),
        ("remote_commands: {allow: [restart]}", "remote_commands"),
        ("device_id: another", "device_id"),
        ("pipelines: {porch: {source: {type: command, argv: [reboot], format: jsonl}}}", "pipelines.porch.source.argv"),
        ("pipelines: {porch: {source: {program: /bin/sh}}}", "pipelines.porch.source.program"),
        ("models: {digits: {accelerators: [{delegate: libevil.so}]}}", "models.digits.accelerators.0.delegate"),
        ("models: {digits: {path: /etc/shadow}}", "models.digits.path"),
        ("models: {digits: {labels: ../../etc/shadow}}", "models.digits.labels"),
        ("pipelines: {porch: {source: {device: /etc/shadow}}}", "pipelines.porch.source.device"),
        ("pipelines: {porch: {source: {type: video, url: 'file:///etc/shadow'}}}", "pipelines.porch.source.url"),
        ("pipelines: {porch: {source: {type: video, url: 'rtsp://me:pw@cam/'}}}", "pipelines.porch.source.url"),
        ("pipelines: {porch: {publish: {topic: 'x/${env:SECRET}'}}}", "pipelines.porch.publish.topic"),
    ],
)
def test_what_may_not_come_from_a_repository_is_refused_with_its_place(layer: str, key: str, tmp_path: Path) -> None:
    assert any(f"fleet/1/1.yaml:1: {key}: " in text for text in problems(tmp_path, "", BASE, layer))


def test_a_problem_is_reported_where_its_value_is_from(tmp_path: Path) -> None:
    found = problems(tmp_path, "pipelines:\n  porch:\n    top_k: -1\n", BASE, "pipelines: {porch: {model: birds}}")
    assert f"{tmp_path / 'agent.yaml'}:6: pipelines.porch.top_k: " in found[1]
    assert "fleet/1/1.yaml:1: pipelines.porch.model: there is no model 'birds'" in found[0]
