import os
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.inspect import MAX_FILE_BYTES, read
from edge_agent.modelfile.view import View
from tests.models.model_bytes import onnx, tflite, tflite_metadata, zipped


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "kind"), [(tflite(), "tflite"), (onnx(), "onnx")], ids=["tflite", "onnx"])
def test_the_format_is_told_by_the_content(content: bytes, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.txt", content)

    model = read(path)

    assert (model.format, model.path, model.size) == (kind, path, len(content))
    assert model.sha256 == sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\x89HDF\r\n\x1a\n", "a Keras HDF5 file: convert it"),
        (b"GGUF\x03\0\0\0", "a GGUF language model"),
        (b"\x18\0\0\0ORTM", "an ONNX Runtime .ort file"),
        (b"\x10\0\0\0\0\0\0\0" + b'{"weight": 1}', "a safetensors file"),
        (b"\x80\x02}q\0.", "a Python pickle, as PyTorch writes them: export"),
        (b"\x7fELF\x02\x01", "a program or library"),
        (b"\x1f\x8b\x08\0", "a gzip archive: unpack it"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12",
            "a Git LFS pointer file, not the model",
        ),
        (zipped({"archive/data.pkl": ""}), "a PyTorch archive: export"),
        (zipped({"config.json": "", "model.weights.h5": ""}), "a Keras archive"),
        (zipped({"model.tflite": "x"}), "a zip archive with a .tflite file in it: unpack it"),
        (zipped({"readme": ""}), "a zip archive: unpack it"),
        (b"\n<!DOCTYPE html><html>", "a web page: the download did not lead to the model"),
        (b"7767517\n168 193\nInput images", "text that begins with '7767517'"),
        ("Modèle".encode() * 100, "text that begins with 'Modèle"),
        (bytes(range(200, 256)), "unknown content (it begins with the bytes c8 c9 ca cb"),
        (b"TFL3", "text that begins with 'TFL3'"),
        (b"\0", "unknown content"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, found: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.tflite", content)

    with pytest.raises(ModelError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: expected a TFLite or ONNX model, found {found}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.tflite: the model file cannot be read: No such file or directory"):
        read(tmp_path / "none.tflite")


def test_a_path_that_no_file_can_have_is_said() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read(Path("a\0b"))


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model file is empty: copy or download it again"):
        read(write(tmp_path / "model.onnx", b""))


def test_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found a folder: name the model file in it"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ModelError, match="found a SavedModel folder: convert it to TFLite or ONNX"):
        read(tmp_path)


@pytest.mark.parametrize("content", [tflite(), onnx()], ids=["tflite", "onnx"])
@pytest.mark.parametrize("length", [0, 10, 200])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_not_the_end(
    content: bytes, length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "model", content)
    of = View.of

    def shrunk(descriptor: int, size: int) -> View:
        os.truncate(path, length)
        return of(descriptor, size)

    monkeypatch.setattr(View, "of", shrunk)
    with pytest.raises(ModelError, match=r"has become shorter while it was read|is being written"):
        read(path)


def test_no_model_file_is_mapped() -> None:
    sources = (Path(inspect.__file__).parent).glob("*.py")
    assert not [source.name for source in sources if "mmap" in source.read_text()]


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ModelError, match="found a device or a pipe"):
        read(tmp_path / "pipe")


def test_a_file_beyond_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "model.tflite", tflite())
    os.truncate(path, MAX_FILE_BYTES + 2**29)

    with pytest.raises(ModelError, match=r"at most 2 GiB, found 2\.5 GiB"):
        read(path)


def test_reading_imports_no_runtime(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", tflite()), write(tmp_path / "b", onnx())]
    program = (
        "import pathlib, sys; from edge_agent.modelfile.inspect import read\n"
        "for path in sys.argv[1:]: read(pathlib.Path(path))\n"
        "assert not {'ai_edge_litert', 'tflite_runtime', 'onnxruntime', 'onnx', 'google'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program, *map(str, paths)], check=True, timeout=60)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with a few bits flipped, cut off, or with a number in it replaced by an extreme one."""
    changed = bytearray(content)
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    for _ in range(chance.choice((1, 1, 4, 32))):
        position = chance.randrange(len(changed))
        if kind == 1:
            extreme = chance.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
            changed[position : position + 4] = extreme.to_bytes(4, "little")
        else:
            changed[position] ^= 1 << chance.randrange(8)
    return bytes(changed)


SMALL = [
    tflite(metadata={"TFLITE_METADATA": tflite_metadata()}) + zipped({"labels.txt": "a\nb\nc\n"}),
    onnx(metadata={"names": "{0: 'a', 1: 'b'}"}),
]


def read_or_refuse(path: Path) -> ModelFile | None:
    try:
        return read(path)
    except ModelError:
        return None


@pytest.mark.parametrize("content", SMALL, ids=["tflite", "onnx"])
def test_a_mutated_file_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    chance = random.Random(20)
    models = [read_or_refuse(write(tmp_path / "model", mutated(content, chance))) for _ in range(1000)]

    refused = models.count(None)
    assert 100 < refused < 900


@pytest.mark.parametrize("content", SMALL, ids=["tflite", "onnx"])
def test_a_truncated_file_is_refused(content: bytes, tmp_path: Path) -> None:
    model = content[: content.rfind(b"PK\3\4")] if b"PK\3\4" in content else content
    # The very last bytes may be missed by nobody: padding, or a whole entry of a list.
    for length in range(1, len(model) - 60):
        assert read_or_refuse(write(tmp_path / "model", model[:length])) is None, length


@pytest.mark.parametrize(
    "name",
    ["tflm/hello_world_int8.tflite", "classify_onnx/mnist.onnx", "bad_models/model_invoking_error.tflite"],
)
def test_a_mutated_public_file_is_read_or_refused(name: str, data_dir: Path, tmp_path: Path) -> None:
    chance = random.Random(21)
    content = (data_dir / name).read_bytes()
    models = [read_or_refuse(write(tmp_path / "model", mutated(content, chance))) for _ in range(300)]

    assert None in models
