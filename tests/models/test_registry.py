import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edge_agent import cli
from edge_agent.errors import ConfigError, ModelError
from edge_agent.models import registry
from edge_agent.models.bundle import read_manifest
from edge_agent.models.io_spec import derive
from edge_agent.models.model import load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import BUNDLES, shipped
from edge_agent.preprocess.files import read_file
from edge_agent.settings import Model
from tests.broker import wait_until
from tests.models.file_server import FileServer, in_ranges, stall_after, status
from tests.models.small_registry import DIGIT, ENTRY, LABELS, MODEL, mirror, pets, published

__all__ = ["mirror", "pets"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


RAW = "https://raw.githubusercontent.com/"
CORAL = f"{RAW}google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41/"
MOONSHINE = "https://download.moonshine.ai/model/tiny-en/quantized/tiny-en/"
# Files whose size and hash are those of the repository at that commit, which the test data does not have.
NOT_IN_THE_TEST_DATA = {
    f"{CORAL}mobilenet_v2_1.0_224_inat_bird_quant.tflite",
    f"{CORAL}mobilenet_v2_1.0_224_inat_insect_quant.tflite",
    f"{CORAL}mobilenet_v1_1.0_224_quant_embedding_extractor.tflite",
    f"{RAW}ShiqiYu/libfacedetection.train/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_320_320.onnx",
    f"{RAW}Kazuhito00/PaddleOCR-ONNX-Sample/507132aeab35c62336bf0153c21c40c6e9e4c68e/ppocr_onnx/ppocr/utils/dict/en_dict.txt",
    # The publisher's package moonshine-voice 0.0.48 has the same files.
    *(f"{MOONSHINE}{name}" for name in ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")),
}


class TestTheShippedRegistry:
    def test_every_file_has_the_address_size_and_hash_under_which_it_is_published(self, data_dir: Path) -> None:
        manifest = json.loads((data_dir / "manifest.json").read_text())
        published = {
            (
                f"https://raw.githubusercontent.com/{known['repo']}/{known['commit']}/{known['path']}",
                known["bytes"],
                known["sha256"],
            )
            for known in manifest.values()
            if "commit" in known
        }
        entries = registry.entries().values()
        # The files of language models are too large for the test data.
        files = {file.url: (file.size, file.sha256) for one in entries if not one.language for file in one.files}
        known = {url: (size, sha256) for url, size, sha256 in published}
        assert {url: files[url] for url in files.keys() - NOT_IN_THE_TEST_DATA} == {
            url: known.get(url) for url in files.keys() - NOT_IN_THE_TEST_DATA
        }

    def test_each_model_has_been_measured(self) -> None:
        for name, entry in registry.entries().items():
            if entry.language is None:
                assert entry.measured is not None, name
                assert entry.measured.right <= entry.measured.of

    def test_there_is_a_model_for_each_task(self) -> None:
        tasks = {entry.task for entry in registry.entries().values()}
        assert tasks >= {"classification", "detection", "segmentation", "pose", "embedding", "ocr", "text"}

    def test_every_address_names_a_commit_of_the_source_it_is_said_to_be_from(self) -> None:
        for entry in registry.entries().values():
            repository = entry.source.removeprefix("https://github.com/").removeprefix("https://huggingface.co/")
            place = r"raw\.githubusercontent\.com/{}" if "github" in entry.source else r"huggingface\.co/{}/resolve"
            for file in entry.files:
                if file.url.startswith(MOONSHINE):
                    continue  # which has no versions
                pattern = rf"https://{place.format(re.escape(repository))}/[0-9a-f]{{40}}/\S+"
                assert re.fullmatch(pattern, file.url)

    def test_a_language_model_takes_more_memory_than_its_file(self) -> None:
        language = [entry for entry in registry.entries().values() if entry.task == "text"]
        assert len(language) >= 4
        assert all(entry.language is not None and entry.language.memory > entry.size for entry in language)

    def test_no_name_is_that_of_a_model_that_comes_with_edge_agent(self) -> None:
        assert not set(registry.entries()) & set(BUNDLES)

    def test_each_image_classifier_can_be_read_with_nothing_but_its_name(
        self, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
        mirror = mirror_of(data_dir, tmp_path / "mirror")
        classifiers = {
            name: entry
            for name, entry in registry.entries().items()
            if entry.task == "classification"
            and "audio" not in entry.description
            and not any(file.url in NOT_IN_THE_TEST_DATA for file in entry.files)
        }
        for name in classifiers:
            registry.pull(name, registry.models_dir(), str(mirror))
            source = resolve_model(Model(path=Path(name)), tmp_path)
            spec = derive(source.file, source.stated)
            assert len(spec.labels or ()) in (2, 10, 1001)
        assert len(classifiers) > 5


@pytest.mark.parametrize(
    ("name", "image", "labels"),
    [
        ("nanodet-m-320", "images/bus.jpg", ["bus", "person", "person", "person"]),
        ("text-finder", "met_in_the_wild/hello_4711.png", ["text"]),
        ("coco-ssd-mobilenet-v1", "images/bus.jpg", ["person", "bus"]),
    ],
)
def test_a_public_detector_works_with_nothing_but_its_name(
    name: str, image: str, labels: list[str], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    registry.pull(name, registry.models_dir(), str(mirror_of(data_dir, tmp_path / "mirror")))
    model = load_unqualified(name, resolve_model(Model(path=Path(name)), tmp_path))
    assert model.task == registry.entries()[name].task
    found = Predictor(model, None, 0.5).ask(read_file(data_dir / image)).predictions
    assert [one.label for one in found][: len(labels)] == labels


def test_the_detector_of_voices_works_with_nothing_but_its_name(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    registry.pull("voice", registry.models_dir(), str(mirror_of(data_dir, tmp_path / "mirror")))
    assert cli.main(["predict", "voice", str(data_dir / "wav/silero_test.wav"), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    voices = [window["predictions"][0]["label"] == "voice" for window in document["windows"]]
    # As of the plain session: 77.4 % of 1874 windows.
    assert sum(voices) / len(voices) == pytest.approx(0.774, abs=0.002)


def mirror_of(data_dir: Path, mirror: Path) -> Path:
    """The test data in the layout of a mirror."""
    by_hash = {
        known["sha256"]: data_dir / path for path, known in json.loads((data_dir / "manifest.json").read_text()).items()
    }
    for name, entry in registry.entries().items():
        (mirror / name).mkdir(parents=True)
        for file in entry.files:
            if entry.language is None and file.url not in NOT_IN_THE_TEST_DATA:
                (mirror / name / file.name).symlink_to(by_hash[file.sha256])
    return mirror


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"licence": "AGPL-3.0"}, "licence"),
        ({"files": [{**published("a.tflite", b"x"), "url": "http://models.invalid/a.tflite"}]}, "url"),
        ({"files": [{**published("a.tflite", b"x"), "name": "../a.tflite"}]}, "name"),
        ({"files": [{**published("a.tflite", b"x"), "sha256": "123"}]}, "sha256"),
        ({"files": [published("labels.txt", b"x")]}, "are taken"),
        ({"files": [published("notes.md", b"x")], "labels": None}, "tflite, .onnx or .gguf"),
        ({"labels": "missing.txt"}, "one of the files"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_entry_is_refused(change: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        registry.Entry.model_validate({**ENTRY, **change})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EDGE_AGENT_MODELS": "/srv/models", "STATE_DIRECTORY": "/var/lib/x"}, "/srv/models"),
        ({"EDGE_AGENT_MODELS": "~/models"}, "/home/ann/models"),
        ({"STATE_DIRECTORY": "/var/lib/x:/var/lib/y", "XDG_DATA_HOME": "/data"}, "/var/lib/x/models"),
        ({"XDG_DATA_HOME": "/data"}, "/data/edge-agent/models"),
        ({"XDG_DATA_HOME": "relative"}, "/home/ann/.local/share/edge-agent/models"),
        ({"EDGE_AGENT_MODELS": "", "XDG_DATA_HOME": ""}, "/home/ann/.local/share/edge-agent/models"),
    ],
)
def test_where_models_live(environment: Mapping[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGE_AGENT_MODELS", "STATE_DIRECTORY", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ann", **environment}.items():
        monkeypatch.setenv(name, value)
    assert registry.models_dir() == Path(expected)


def test_an_unknown_name_is_answered_with_the_nearest(pets: Path) -> None:
    with pytest.raises(ConfigError, match="there is no model 'Pest' in the registry; did you mean 'pets'"):
        registry.pull("Pest", pets)
    with pytest.raises(ConfigError, match="`edge-agent models list` shows all"):
        registry.pull("/etc/passwd", pets)
    assert not pets.exists()


def test_a_pulled_model_is_a_bundle_that_its_name_leads_to(pets: Path, mirror: Path) -> None:
    told: list[tuple[int, int]] = []
    assert registry.resolve("pets") is None
    folder = registry.pull("pets", pets, str(mirror), lambda done, total: told.append((done, total)))
    assert registry.resolve("pets") == folder == pets / "pets"
    assert names(folder) == {"model.yaml", "pets.tflite", "pets.txt"}
    assert (folder / "pets.tflite").read_bytes() == MODEL
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.version, manifest.task) == ("pets", "1", "classification")
    assert (manifest.licence, manifest.source) == ("MIT", "https://models.invalid/")
    assert (manifest.files, manifest.labels) == ({"tflite": Path("pets.tflite")}, Path("pets.txt"))
    assert manifest.preprocess == registry.find("pets").preprocess
    total = len(MODEL) + len(LABELS)
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_labels_that_stand_in_the_registry_become_a_file(pets: Path, mirror: Path) -> None:
    folder = registry.pull("digit", pets, str(mirror))
    assert read_manifest(folder).labels == Path("labels.txt")
    assert (folder / "labels.txt").read_text() == "0\n1\n"


def test_what_is_there_and_right_is_neither_asked_for_nor_written_again(pets: Path) -> None:
    with FileServer(MODEL) as server:
        folder = registry.pull("digit", pets, server.url)
        written = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}
        told: list[tuple[int, int]] = []
        registry.pull("digit", pets, server.url, lambda done, total: told.append((done, total)))
        assert len(server.requests) == 1
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert told == [(len(MODEL), len(MODEL))]


def test_only_the_file_that_has_changed_is_brought_again(pets: Path, mirror: Path) -> None:
    folder = registry.pull("pets", pets, str(mirror))
    (folder / "pets.txt").write_bytes(LABELS[::-1])
    (mirror / "pets" / "pets.tflite").unlink()
    registry.pull("pets", pets, str(mirror))
    assert (folder / "pets.txt").read_bytes() == LABELS


@pytest.mark.parametrize("lost", ["model.yaml", "labels.txt"])
def test_a_lost_part_of_the_bundle_is_written_again(pets: Path, mirror: Path, lost: str) -> None:
    folder = registry.pull("digit", pets, str(mirror))
    before = (folder / lost).read_bytes()
    (folder / lost).unlink()
    registry.pull("digit", pets)
    assert (folder / lost).read_bytes() == before


def test_a_partly_pulled_model_does_not_resolve_and_is_completed_by_the_next_pull(pets: Path, mirror: Path) -> None:
    (mirror / "pets" / "pets.txt").unlink()
    with pytest.raises(ModelError, match=r"pets/pets\.txt: there is no such file"):
        registry.pull("pets", pets, str(mirror))
    assert registry.resolve("pets") is None
    (mirror / "pets" / "pets.txt").write_bytes(LABELS)
    (mirror / "pets" / "pets.tflite").write_bytes(bytes(len(MODEL)))
    registry.pull("pets", pets, str(mirror))
    assert registry.resolve("pets") == pets / "pets"
    assert (pets / "pets" / "pets.tflite").read_bytes() == MODEL


def test_a_pull_that_fails_leaves_the_version_before_in_use(pets: Path, mirror: Path) -> None:
    folder = registry.pull("pets", pets, str(mirror))
    newer = {
        **ENTRY,
        "version": "2",
        "files": [published("pets.tflite", MODEL[::-1]), published("pets.txt", LABELS)],
    }
    (pets.parent / "shipped" / "registry.yaml").write_text(yaml.safe_dump({"pets": newer}))
    with pytest.raises(ModelError, match="sha256"):
        registry.pull("pets", pets, str(mirror))
    assert read_manifest(folder).version == "1"
    assert (folder / "pets.tflite").read_bytes() == MODEL
    (mirror / "pets" / "pets.tflite").write_bytes(MODEL[::-1])
    registry.pull("pets", pets, str(mirror))
    assert read_manifest(folder).version == "2"
    assert (folder / "pets.tflite").read_bytes() == MODEL[::-1]


def test_an_update_that_stops_between_two_files_does_not_resolve_and_is_completed_without_the_mirror(
    pets: Path, mirror: Path
) -> None:
    folder = registry.pull("digit", pets, str(mirror))
    newer = {**DIGIT, "version": "2", "files": [published("digit.onnx", MODEL[::-1])], "labels": ["1", "0"]}
    (pets.parent / "shipped" / "registry.yaml").write_text(yaml.safe_dump({"digit": newer}))
    (mirror / "digit" / "digit.onnx").write_bytes(MODEL[::-1])
    (folder / "labels.txt.new").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="No space left"):
        registry.pull("digit", pets, str(mirror))
    assert registry.resolve("digit") is None
    (folder / "labels.txt.new").unlink()
    registry.pull("digit", pets, "/no/mirror")
    assert read_manifest(folder).version == "2"
    assert (folder / "labels.txt").read_text() == "1\n0\n"


def test_a_pulling_process_that_is_killed_leaves_what_the_next_one_goes_on_from(pets: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edge_agent.models import registry;"
        "registry.shipped = Path(sys.argv[1]).joinpath;"
        "registry.pull('digit', Path(sys.argv[2]), sys.argv[3])"
    )
    part = pets / "digit" / "digit.onnx.part"
    with FileServer(MODEL, stall_after(200_000), in_ranges) as server:
        arguments = [str(pets.parent / "shipped"), str(pets), server.url]
        child = subprocess.Popen([sys.executable, "-c", script, *arguments])
        try:
            wait_until(lambda: part.exists() and part.stat().st_size > 100_000, 30, "more than 100 kB")
        finally:
            child.kill()
            assert child.wait(10) == -signal.SIGKILL
        have = part.stat().st_size
        assert registry.resolve("digit") is None
        registry.pull("digit", pets, server.url)
    assert server.requests == [("/digit/digit.onnx", 0), ("/digit/digit.onnx", have)]
    assert registry.resolve("digit") == pets / "digit"
    assert (pets / "digit" / "digit.onnx").read_bytes() == MODEL


def test_what_was_pulled_is_a_mirror(pets: Path, mirror: Path, tmp_path: Path) -> None:
    registry.pull("pets", tmp_path / "stick", str(mirror))
    folder = registry.pull("pets", pets, str(tmp_path / "stick"))
    assert names(folder) == names(tmp_path / "stick" / "pets")


def test_a_mirror_may_be_a_folder_a_file_address_or_a_web_address_with_or_without_slash(
    tmp_path: Path, pets: Path, mirror: Path
) -> None:
    for number, address in enumerate([str(mirror), f"{mirror}/", mirror.as_uri(), f"{mirror.as_uri()}/"]):
        assert names(registry.pull("pets", tmp_path / str(number), address)) >= {"model.yaml"}
    with FileServer(MODEL) as server:
        registry.pull("digit", pets, f"{server.url}/models/")
        assert server.requests == [("/models/digit/digit.onnx", 0)]


@pytest.mark.parametrize(
    "address",
    [
        "ftp://models.invalid/",
        "https://ann:secret@models.invalid/",
        "https://models.invalid/?key=secret",
        "https://",
        "file://secret.invalid/models",
    ],
)
def test_what_can_be_no_mirror_is_refused_without_repeating_it(pets: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="mirror: must be") as error:
        registry.pull("pets", pets, address)
    assert "secret" not in str(error.value)


def test_a_mirror_that_lacks_the_file_says_which(pets: Path) -> None:
    with (
        FileServer(MODEL, status(404)) as server,
        pytest.raises(ModelError, match=r"/digit/digit\.onnx: .* 404"),
    ):
        registry.pull("digit", pets, server.url)


def test_two_pulls_of_one_model_do_not_mix(pets: Path, mirror: Path) -> None:
    (pets / "pets").mkdir(parents=True)
    with (pets / "pets" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another pull"):
            registry.pull("pets", pets, str(mirror))
    registry.pull("pets", pets, str(mirror))


def test_a_full_disk_is_one_sentence(pets: Path, mirror: Path) -> None:
    (pets / "pets").mkdir(parents=True)
    (pets / "pets" / "pets.tflite.part").symlink_to("/dev/full")
    with pytest.raises(ModelError, match=r"No space left on device: make .* writable, with 0\.3 MB free"):
        registry.pull("pets", pets, str(mirror))


def test_a_folder_that_can_not_be_made_is_one_sentence(pets: Path, mirror: Path) -> None:
    pets.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="or choose another folder"):
        registry.pull("pets", pets, str(mirror))


def test_a_model_that_comes_with_edge_agent_is_found_by_name_and_needs_no_pull(pets: Path) -> None:
    own = pets.parent / "shipped" / "digits"
    own.mkdir()
    assert registry.resolve("digits") is None
    (own / "model.yaml").touch()
    assert registry.resolve("digits") == registry.pull("digits", pets) == own
    assert not pets.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "pets/../pets", "/", "registry.yaml", "pets\n", "\0"])
def test_what_is_no_name_of_a_model_does_not_resolve(pets: Path, mirror: Path, name: str) -> None:
    registry.pull("pets", pets, str(mirror))
    (pets / "model.yaml").touch()
    assert registry.resolve(name) is None


def test_resolving_a_name_does_not_load_the_http_client() -> None:
    script = "import sys; from edge_agent.models import registry; registry.resolve('x'); registry.entries();"
    script += "assert not {'urllib3', 'numpy', 'rich'} & set(sys.modules), 'too much'"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ})


def test_the_shipped_files_of_a_checkout_are_those_of_its_models_folder() -> None:
    assert shipped("registry.yaml") == Path(__file__).parents[2] / "models" / "registry.yaml"
