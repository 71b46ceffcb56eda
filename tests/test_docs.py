"""What README.md and docs/ show is so: examples load, commands exist and print that, messages and links are real."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ConfigDict, TypeAdapter

from edge_agent import cli, settings
from edge_agent.config import loader
from edge_agent.counters import imbalance
from edge_agent.decoders.families import FAMILIES
from edge_agent.errors import ConfigError, InputError, ModelError
from edge_agent.models import bundle, io_spec, registry
from edge_agent.models.shipped import BUNDLES, shipped
from edge_agent.release import configuration, waves
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon
from tests.decoders import families_table
from tests.decoders.scenes import facts
from tests.evaluation.data import digits
from tests.golden.golden_files import RECORD_FROM
from tests.pages import (
    MAKE_TARGETS,
    PAGES,
    RECORDS,
    ROOT,
    Block,
    arguments,
    blocks,
    commands,
    headings,
    keys,
    pattern,
    plain,
    share_of_known_words,
    tables,
)

MODELS = "\nmodels: {photos: {path: mobilenet-v2}}\n"
LAB = {
    "device_id": "porch-pi",
    "stats_interval": "200ms",
    "models": {"digits": {"path": "digits"}},
    "pipelines": {"lab": {"source": {"type": "mqtt", "topic": "lab/images"}, "model": "digits"}},
}
TROUBLE = plain("".join(block.text for block in blocks("text")))


def each(language: str, start: str = "") -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks(language, start), ids=str)


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_every_yaml_block_says_what_it_is() -> None:
    kinds = ("agent", "model", "plan", "wrong", "cameras/base")
    known = [block for kind in kinds for block in blocks("yaml", f"# {kind}.yaml\n")]
    assert set(blocks("yaml")) == set(known)


@each("yaml", "# plan.yaml")
def test_a_plan_of_waves_that_is_shown_is_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(block.text)
    assert waves.read_file(tmp_path / "plan.yaml").steps


@each("yaml", "# cameras/base.yaml")
def test_a_configuration_for_a_fleet_that_is_shown_can_be_packed(block: Block, tmp_path: Path) -> None:
    (tmp_path / "cameras").mkdir()
    (tmp_path / "cameras" / "base.yaml").write_text(block.text)
    configuration.pack(tmp_path / "cameras", tmp_path / "cameras.zip")
    assert (tmp_path / "cameras.zip").stat().st_size


@each("yaml", "# agent.yaml")
def test_a_configuration_that_is_shown_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block.text.replace(": /", f": {tmp_path}/")
    for variable in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(variable, str(tmp_path) if variable == "CREDENTIALS_DIRECTORY" else "rtsp://yard.lan/1")
    for name in re.findall(r"\$\{env:CREDENTIALS_DIRECTORY\}/(\S+)", text):
        (tmp_path / name).touch()
    for key, name in re.findall(r"\b(labels|root|\w+_file|url|path): ([^\s,}\"$*]+)", text):
        if key != "path" and "://" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    file = tmp_path / "agent.yaml"
    file.write_text(text if "\nmodels:" in text else text + MODELS)
    for model in loader.load(file).settings.models.values():
        assert model.path.suffix or str(model.path) in {*registry.entries(), *BUNDLES}


def test_the_mistakes_that_are_shown_are_answered_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (wrong,), (answer,) = blocks("yaml", "# wrong.yaml"), blocks("text", "wrong.yaml:")
    Path("wrong.yaml").write_text(wrong.text)
    with pytest.raises(ConfigError) as caught:
        loader.load(Path("wrong.yaml"))
    assert list(caught.value.problems) == answer.text.splitlines()


@each("yaml", "# model.yaml")
def test_a_bundle_that_is_shown_is_valid(block: Block, tmp_path: Path) -> None:
    raw = yaml.safe_load(block.text)
    for name in [
        *raw.get("files", {}).values(),
        *(variant["file"] for variant in raw.get("variants", ())),
        *raw.get("compiled", {}).values(),
        raw["labels"],
        *(golden["input"] for golden in raw["golden"]),
    ]:
        (tmp_path / name).touch()
    (tmp_path / "model.yaml").write_text(block.text)
    bundle.read_manifest(tmp_path)


def test_every_key_of_a_bundle_is_explained() -> None:
    explained = tables("models.md")[""]
    assert set(explained) == set(bundle.Manifest.model_fields)
    required = {key for key, default in explained.items() if default == "required"}
    assert required == {key for key, field in bundle.Manifest.model_fields.items() if field.is_required()}


def test_every_key_of_the_configuration_is_explained_once_with_its_default() -> None:
    explained = tables("configuration.md")
    real = {(part, key): field for part, key, field in keys(settings.Settings)}
    assert {(part, key) for part, rows in explained.items() for key in rows} == set(real)
    for (part, key), field in real.items():
        shown, default = explained[part][key], field.default
        if field.is_required():
            assert shown == "required", f"{part}.{key}"
        elif default is None or field.default_factory:
            assert shown == ("none" if default is None else "the host name"), f"{part}.{key}"
        else:
            kind = TypeAdapter[Any](field.rebuild_annotation(), config=ConfigDict(regex_engine="python-re"))
            assert kind.validate_python(yaml.safe_load(shown)) == default, f"{part}.{key}"


def test_every_decoder_is_explained() -> None:
    page = ROOT / "docs" / "models.md"
    shown = re.search(r"^\| decoder \|.*?\n\n", page.read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    if RECORD_FROM:
        page.write_text(page.read_text().replace(shown[0], f"{families_table.table()}\n"))
    assert shown[0] == f"{families_table.table()}\n", "EDGE_AGENT_RECORD_GOLDEN=. writes it again"
    assert list(tables("models.md")["decoder"]) == [io_spec.CLASSIFICATION, *FAMILIES]
    assert {family for family in FAMILIES.values() if not families_table.sources(family)} == {
        FAMILIES[name] for name in ("class_number", "embedding", "regression", "anomaly")
    }


@each("json")
def test_json_that_is_shown_parses_and_its_sums_balance(block: Block) -> None:
    document = json.loads(block.text)
    for counts in document.get("pipelines", {}).values() if isinstance(document, dict) else ():
        assert imbalance(counts) == ""


def test_what_the_daemon_publishes_has_the_fields_that_are_shown(tmp_path: Path, mosquitto: Mosquitto) -> None:
    result, _, _, _, error, stats = (json.loads(block.text) for block in blocks("json", page="mqtt.md"))
    picture = next((shipped("digits") / "golden").glob("*.png")).read_bytes()
    document = LAB | {"mqtt": {"url": mosquitto.url}}
    with Subscriber(mosquitto.port, "edge/#") as subscriber, Daemon(tmp_path, document):
        subscriber.publish("lab/images", b"hello")
        subscriber.publish("lab/images", picture)

        def first(topic: str) -> Any:
            came = subscriber.wait_for(lambda message: message.topic == f"edge/porch-pi/{topic}")
            return json.loads(came[0].payload)

        assert shape(first("lab/result")) == shape(result)
        assert shape(first("lab/error")) == shape(error)
        assert shape(first("stats")) == shape(stats)
        assert first("lab/error")["error"] == error["error"]


def shape(document: Any) -> Any:
    """The names of all fields; of a list and of what stands by pipelines, those of the first one."""
    if isinstance(document, list):
        return shape(document[0])
    if not isinstance(document, dict):
        return None
    by_pipeline = ("pipelines", "performance")
    return {key: shape(list(value.values()) if key in by_pipeline else value) for key, value in document.items()}


@pytest.mark.parametrize("page", ["README.md", "first-steps.md"])
def test_the_commands_of_a_page_find_the_program_when_they_are_typed_in_order(page: str) -> None:
    typed = [command for block in blocks("console", page=page) for command, _ in commands(block)]
    activated = next(number for number, command in enumerate(typed) if command.startswith("source "))
    assert [command for command in typed[:activated] if command.startswith(("edge-agent", "pip"))] == []
    assert any(command.startswith("edge-agent ") for command in typed[activated:])


@each("console")
def test_commands_that_are_shown_exist(block: Block) -> None:
    assert commands(block)
    for command, _ in commands(block):
        assert not command.startswith("make ") or command.split()[1] in MAKE_TARGETS
        given = arguments(command)
        if given is not None and given != ["--version"]:
            cli._parser().parse_args(given)


@each_page
def test_commands_that_the_text_speaks_of_exist(page: Path) -> None:
    usage = cli._parser().format_help()
    for command in re.findall(r"`edge-agent (\w+)", page.read_text()):
        assert re.search(rf"^    {command} ", usage, re.MULTILINE), command
    assert {*re.findall(r"`make ([\w-]+)`", page.read_text())} <= {*MAKE_TARGETS}


@each_page
def test_commands_print_what_is_shown(
    page: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home(tmp_path, data_dir, monkeypatch)
    for block in blocks("yaml", "# agent.yaml", page.name)[:1]:
        Path("agent.yaml").write_text(block.text)
    for block in blocks("console", page=page.name):
        for command, shown in commands(block):
            if shown and re.match("edge-agent (?!run|demo|bench|watch)", command):
                program = [sys.executable, "-m", "edge_agent", *shlex.split(command)[1:]]
                done = subprocess.run(program, stdout=-1, stderr=-2, text=True, timeout=60, check=False)
                printed = plain(done.stdout.replace(str(tmp_path), "/home/pi"))
                assert re.fullmatch(pattern(shown), printed), done.stdout


def at_home(home: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder with the files that the pages speak of, and a mirror in place of the internet."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("EDGE_AGENT_MIRROR", str(home / ".mirror"))
    for variable in ("XDG_DATA_HOME", "EDGE_AGENT_MODELS", "STATE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    classify, labels = data_dir / "classify_tflite", data_dir / "labels" / "coral_imagenet_labels.txt"
    mobilenet = classify / "mobilenet_v2_1.0_224_quant.tflite"
    for name, source in {
        "parrot.jpg": data_dir / "images" / "parrot.jpg",
        "photo.jpg": data_dir / "images" / "bus.jpg",
        "best.tflite": data_dir / "detect_tflite" / "yolov8n_integer_quant.tflite",
        "speech.wav": data_dir / "wav" / "speech.wav",
        "yamnet.tflite": data_dir / "audio" / "yamnet_audio_classifier_with_metadata.tflite",
        "my_model.onnx": data_dir / "classify_onnx" / "mobilenet_v2_quant.onnx",
        "for_edgetpu.tflite": classify / "mobilenet_v1_0.5_160_quant_edgetpu.tflite",
        f".mirror/mobilenet-v2/{mobilenet.name}": mobilenet,
        ".mirror/mobilenet-v2/imagenet_labels.txt": labels,
        "with_background.txt": labels,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, home / name)
    (home / "imagenet.txt").write_text(labels.read_text().partition("\n")[2])
    digits(home / "meter")
    (home / "cut.tflite").write_bytes(mobilenet.read_bytes()[:100_000])


@pytest.mark.parametrize(
    "model",
    [
        "path: mobilenet-v2",
        "path: my_model.onnx",
        "path: my_model.onnx, labels: with_background.txt, preprocess: {normalize: imagenet}",
        "path: parrot.jpg",
        "path: cut.tflite",
        "path: for_edgetpu.tflite, labels: with_background.txt",
        "path: my_model.onnx, labels: imagenet.txt, preprocess: {normalize: imagenet}, accelerators: [edgetpu]",
    ],
)
def test_a_model_is_refused_in_the_words_that_are_shown(
    model: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_home(tmp_path, data_dir, monkeypatch)
    Path("agent.yaml").write_text(f"# agent.yaml\nmodels:\n  mine: {{{model}}}\n")
    assert cli.main(["check", "-c", "agent.yaml"]) == cli.WRONG_USAGE
    assert plain(capsys.readouterr().err) in TROUBLE


def test_a_model_that_can_be_read_in_several_ways_is_refused_in_the_words_that_are_shown() -> None:
    with pytest.raises(ModelError) as caught:
        io_spec.derive(facts((1, 8400, 85), size=(640, 640)), io_spec.Stated(without_labels=True))
    assert f": {plain(str(caught.value))}\n" in TROUBLE


def test_a_broker_is_missed_in_the_words_that_are_shown(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, ["allow_anonymous false"])
    document = LAB | {"mqtt": {"url": broker.url}}
    with Daemon(tmp_path / "1", document) as daemon:
        missing = daemon.log()
    with broker, Daemon(tmp_path / "2", document) as daemon:
        refused = daemon.log()
    for log, word in (missing, "nothing listens"), (refused, "refuses"):
        (problem,) = {line.partition("://")[2] for line in log.splitlines() if word in line}
        assert plain(problem.replace(broker.host, "broker.lan")) in TROUBLE


def test_an_input_is_refused_in_the_words_that_are_shown(data_dir: Path) -> None:
    import numpy as np

    from edge_agent.preprocess.regions import Regions
    from tests.images import decode_image

    parrot = (data_dir / "images" / "parrot.jpg").read_bytes()
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (50_000).to_bytes(4) * 2 + b"\x08\2\0\0\0\0\0\0\0"
    for data in b"hello", b"", parrot[:100_000], huge:
        with pytest.raises(InputError) as caught:
            decode_image(data)
        assert f": {plain(str(caught.value))}\n" in TROUBLE
    with pytest.raises(InputError) as caught:
        Regions({"d6": (227, 58, 251, 94)}).cut(np.zeros((120, 160, 3), np.uint8))
    assert f": {plain(str(caught.value))}\n" in TROUBLE


@each("text")
def test_messages_that_are_shown_are_the_program_s(block: Block) -> None:
    for message in block.text.splitlines():
        assert message.startswith("wrong.yaml:") or share_of_known_words(message) > 0.25, message


@pytest.mark.parametrize("page", ["architecture.md", "development.md"])
def test_the_parts_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(r"`([\w/]+(?:/|\.py))`", (ROOT / "docs" / page).read_text())
    assert named
    places = (ROOT / "edge_agent", ROOT)
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing <= {"cache/", "updates/", "bundles/", "samples/", "recordings/", "int8/"}  # folders of a device


def test_the_table_of_layers_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    shown = re.findall(r"^\| (`.*?) \|", section("architecture.md", "Layers"), re.MULTILINE)
    assert [re.findall(r"\w+", row) for row in shown] == [re.findall(r"\w+", layer) for layer in layers]


@pytest.mark.parametrize(
    ("heading", "starts"),
    [
        ("Threads", r"threading\.(Thread|Timer)\(|\.loop_start\("),
        ("Processes", r"subprocess\.(Popen|run)\(|WorkerProcess\("),
    ],
)
def test_the_tables_of_threads_and_processes_name_every_file_that_starts_one(heading: str, starts: str) -> None:
    package = ROOT / "edge_agent"
    starting = {str(file.relative_to(package)) for file in package.rglob("*.py") if re.search(starts, file.read_text())}
    assert starting - set(re.findall(r"`([\w/]+\.py)`", section("architecture.md", heading))) == set()


def section(page: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", (ROOT / "docs" / page).read_text().partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]


def test_the_index_of_decisions_shows_title_status_and_date_of_each_record() -> None:
    rows = []
    for record in RECORDS:
        [title, status, date] = re.findall(r"^(?:# \d+\. |- Status: |- Date: )(.*)$", record.read_text(), re.MULTILINE)
        assert re.match(r"(accepted|replaced by \[|accepted; partly replaced by \[)", status), record.name
        rows.append(f"| [{record.name[:4]}]({record.name}) | {title} | {status} | {date} |")
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert re.findall(r"^\| \[\d.*$", index, re.MULTILINE) == rows


@pytest.mark.parametrize("page", [*PAGES, *RECORDS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not heading or heading in headings(linked), target
