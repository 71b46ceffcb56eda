import shutil
from pathlib import Path

import pytest

from edge_agent.errors import ModelError
from edge_agent.models.bundle import Golden, choose_file, read_manifest
from edge_agent.models.shipped import BUNDLES, shipped

MANIFEST = "{name: pets, version: 1.10, task: classification, files: {tflite: model.tflite}}"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the files that a manifest may name."""
    folder = tmp_path / "pets"
    folder.mkdir()
    for name in ("model.tflite", "model.onnx", "labels.txt", "cat.png"):
        (folder / name).touch()
    (tmp_path / "outside.txt").touch()
    return folder


def refusal(folder: Path, manifest: str | bytes) -> str:
    (folder / "model.yaml").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    with pytest.raises(ModelError) as caught:
        read_manifest(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", BUNDLES)
def test_what_the_project_ships_is_sound(name: str) -> None:
    manifest = read_manifest(shipped(name))
    assert manifest.name == name
    assert manifest.licence == "Apache-2.0"
    assert {"tflite", "genai"} & set(manifest.files)
    assert manifest.golden or manifest.golden_text


def test_a_manifest_says_what_the_file_can_not(bundle: Path) -> None:
    (bundle / "model.yaml").write_text(
        """\
name: pets
version: 1.10
task: classification
licence: MIT
source: https://example.com/pets
files: {tflite: model.tflite, onnx: model.onnx}
labels: labels.txt
output: logits
preprocess: {resize: center_crop, normalize: {mean: 127.5, std: 127.5}}
golden:
  - {input: cat.png, label: cat, min_confidence: 0.9}
"""
    )
    manifest = read_manifest(bundle)
    assert manifest.version == "1.10"
    assert manifest.files == {"tflite": Path("model.tflite"), "onnx": Path("model.onnx")}
    assert (manifest.labels, manifest.output) == (Path("labels.txt"), "logits")
    assert manifest.preprocess.resize == "center_crop"
    assert manifest.golden == (Golden(input=Path("cat.png"), label="cat", min_confidence=0.9),)


def test_the_format_that_an_installed_runtime_runs_is_chosen(bundle: Path) -> None:
    (bundle / "model.yaml").write_text(MANIFEST.replace("{tflite: model.tflite}", "{onnx: model.onnx}"))
    assert choose_file(read_manifest(bundle)) == Path("model.onnx")
    (bundle / "model.yaml").write_text(MANIFEST)
    assert choose_file(read_manifest(bundle)) == Path("model.tflite")


def test_a_folder_without_a_manifest_is_no_bundle(bundle: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_manifest(bundle)
    assert str(caught.value) == f"{bundle}: not a model bundle: it has no model.yaml"


def test_a_manifest_that_can_not_be_read_is_refused(bundle: Path) -> None:
    (bundle / "model.yaml").mkdir()
    with pytest.raises(ModelError, match=r"model\.yaml: can't be read: Is a directory"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("{name: pets", ":1: not valid YAML: expected ',' or '}', but got '<stream end>'"),
        (b"\x00\x01", ":1: not UTF-8 text"),
        ("", ":1: name: is required; "),
        ("- a", ":1: the file must contain settings"),
        ("# " + "x" * 100_000, ":1: larger than 100000 bytes"),
        ("a: &a [*a]", ":1: not a configuration file: values are nested more than 32"),
        (MANIFEST[:-1] + ", licnce: MIT}", ":1: licnce: unknown key; did you mean 'licence'?"),
        (MANIFEST[:-1] + ", preprocess: {resize: strech}}", ":1: preprocess.resize: must be stretch, letterbox or"),
        (MANIFEST[:-1] + ", golden: [{input: cat.png}]}", ":1: golden.0.label: is required"),
        (MANIFEST[:-1] + ", name: dogs}", ":1: name: duplicate key, first defined on line 1"),
        (MANIFEST.replace("tflite:", "pt:"), ":1: files.pt: the name must be tflite, onnx, hef"),
        (MANIFEST.replace("{tflite: model.tflite}", "{}"), ": names no model file: state `files` or `variants`"),
        (MANIFEST.replace("name: pets, ", ""), ":1: name: is required"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_sound_is_refused_with_the_line(manifest: str | bytes, says: str, bundle: Path) -> None:
    assert refusal(bundle, manifest).startswith(f"{bundle}/model.yaml{says}")


@pytest.mark.parametrize(
    "named",
    [
        "files: {tflite: ../outside.txt}",
        "files: {tflite: /etc/passwd}",
        "files: {tflite: model.tflite}, labels: ../outside.txt",
        "files: {tflite: model.tflite}, labels: pictures/../../outside.txt",
        "files: {tflite: model.tflite}, compiled: {edgetpu: /outside.txt}",
        "files: {tflite: model.tflite}, anchors: ../outside.txt",
        "files: {tflite: model.tflite}, golden: [{input: ../outside.txt, label: x}]",
    ],
)
def test_a_manifest_can_not_name_what_lies_outside_of_its_bundle(named: str, bundle: Path) -> None:
    (bundle / "pictures").mkdir()
    says = refusal(bundle, f"{{name: pets, version: 1, task: classification, {named}}}")
    assert says.endswith("lies outside of the bundle")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.txt", "names gone.txt, which is not there"),
        (".", "names ., which is not a file"),
        ('"a\\0b"', "which can't be read: embedded null byte"),
        ("x" * 300, "which can't be read: "),
    ],
)
def test_a_manifest_must_name_files_that_are_there(name: str, says: str, bundle: Path) -> None:
    assert says in refusal(bundle, MANIFEST[:-1] + f", labels: {name}}}")


def test_a_bundle_can_not_read_the_environment(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_TEST_SECRET", "s3cret")
    (bundle / "model.yaml").write_text(MANIFEST.replace("1.10", "'${env:EDGE_AGENT_TEST_SECRET}'"))
    assert read_manifest(bundle).version == "${env:EDGE_AGENT_TEST_SECRET}"


def test_a_bundle_can_be_moved(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.yaml").write_text(MANIFEST)
    shutil.move(bundle, tmp_path / "moved")
    assert read_manifest(tmp_path / "moved").name == "pets"
