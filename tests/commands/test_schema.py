import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edge_agent import cli
from edge_agent.config import loader
from edge_agent.errors import ConfigError

# The example of the public interface.
EXAMPLE = """\
device_id: porch-pi              # default: the host name
mqtt:
  url: mqtts://broker.lan:8883   # mqtt:// mqtts:// ws:// wss://, or `embedded` (a broker inside the process)
  protocol: auto                 # 5, with fallback to 3.1.1; or 5, or 3.1.1
  username: edge
  password_file: broker-password # or ${env:NAME}; a secret is never printed, logged or published
  ca_file: ca.pem                # also cert_file, key_file for mutual TLS
  topic_prefix: edge
outbox:
  path: outbox.db                # results wait here while the broker is away
  max_size: 64MB
  when_full: drop_oldest         # or drop_newest
models:
  photos:
    path: mobilenet_v2_1.0_224_quant.tflite   # a .tflite or .onnx file, a bundle folder, or a name from the registry
    labels: imagenet_labels.txt               # default: what the file itself carries
    accelerators: [edgetpu, cpu]              # in order of preference; [edgetpu] alone: fail rather than fall back
    threads: 2
pipelines:
  porch:
    source: {type: camera, device: 0, fps: 5}
    model: photos
    top_k: 3
    min_confidence: 0.4
  lab:
    source: {type: mqtt, topic: lab/images}
    model: photos
"""


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["schema"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_it_is_a_json_schema(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_field_is_described(schema: dict[str, Any]) -> None:
    parts = {"Settings": schema, **schema["$defs"]}
    for name, part in parts.items():
        assert part["description"]
        for key, field in part["properties"].items():
            # Where a field has nothing to add, the part that it refers to speaks for it.
            referred = parts.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
            assert field.get("description") or referred.get("description"), f"{name}.{key}"


def test_the_example_of_the_interface_loads_and_fits_the_schema(schema: dict[str, Any], tmp_path: Path) -> None:
    for name in ("broker-password", "ca.pem", "mobilenet_v2_1.0_224_quant.tflite", "imagenet_labels.txt"):
        (tmp_path / name).touch()
    (tmp_path / "agent.yaml").write_text(EXAMPLE)
    settings = loader.load(tmp_path / "agent.yaml").settings
    assert settings.models["photos"].accelerators == ("edgetpu", "cpu")
    assert settings.outbox.max_size == 64_000_000
    jsonschema.validate(yaml.safe_load(EXAMPLE), schema)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("{}", True),
        ("mqtt: {protocol: 5}", True),
        ("mqtt: {protocol: 3.1.1}", True),
        ("mqtt: {protocol: 4}", False),
        ("mqtt: {keepalive: 30}", True),
        ("mqtt: {keepalive: 500ms, url: [x]}", False),
        ("mqtt: {urll: embedded}", False),
        ("outbox: {max_size: 64MB, when_full: drop_newest}", True),
        ("outbox: {when_full: never}", False),
        ("models: {a: {path: x, preprocess: {normalize: {mean: [1, 2, 3], std: 1}}}}", True),
        ("models: {a: {path: x, preprocess: {normalize: unit, color: bgr}}}", True),
        ("models: {a: {path: x, preprocess: {normalize: zero}}}", False),
        ("models: {a: {path: x, accelerators: [abacus]}}", False),
        ("models: {a: {path: x, accelerators: [{delegate: libd.so, options: {device: 1}}, cpu]}}", True),
        ("models: {a: {path: x, accelerators: [{provider: QNNExecutionProvider, optionss: {}}]}}", False),
        ("models: {a: {labels: none}}", False),
        ("models: {m: {path: x}}\npipelines: {p: {source: {type: video, url: 'http://c', fps: max}, model: m}}", True),
        ("models: {m: {path: x}}\npipelines: {p: {source: {type: camera, fps: 0}, model: m}}", False),
        ("models: {m: {path: x}}\npipelines: {p: {source: {type: vidoe}, model: m}}", False),
        ("models: {m: {path: x}}\npipelines: {p: {source: {type: camera}, model: m, min_confidence: 2}}", False),
        ("models: {m: {path: x}}\npipelines: {p: {model: m, source: {type: camera}, regions: {r: [0,0,9,9]}}}", True),
        ("models: {m: {path: x}}\npipelines: {p: {source: {type: camera}, model: m, regions: {r: [0, 0, 9]}}}", False),
    ],
)  # fmt: skip
def test_an_editor_and_the_agent_agree(text: str, fits: bool, schema: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(text)
    try:
        loader.load(tmp_path / "agent.yaml")
        loads = True
    except ConfigError:
        loads = False
    assert (loads, jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text))) == (fits, fits)
