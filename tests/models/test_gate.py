"""Bundles are data: native code, links, and names that lead out of a bundle are refused before a runtime sees them."""

import json
import os
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from onnx import TensorProto, helper

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.language import genai_files
from edge_agent.modelfile import gate, inspect
from edge_agent.models.resolve import resolve
from edge_agent.models.shipped import shipped
from tests.command_line import edge_agent
from tests.language.model_files import write_model
from tests.models.external_weights import PLACES, with_weights_in

PE = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0"
NATIVE = {
    "ELF": b"\x7fELF\2\1\1",
    "Mach-O": b"\xcf\xfa\xed\xfe\x07\0\0\1",
    "Mach-O, fat": b"\xca\xfe\xba\xbe\0\0\0\2",
    "Mach-O, big-endian": b"\xfe\xed\xfa\xce",
    "PE": PE,
    "PE with its header far away": b"MZ" + bytes(76) + b"This program cannot be run in DOS mode" + bytes(2000),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def digits(folder: Path) -> Path:
    return Path(shutil.copytree(shipped("digits"), folder))


def words(folder: Path) -> Path:
    write_model(folder)
    (folder / "model.yaml").write_text(
        "{name: words, version: 1, task: text, files: {genai: genai_config.json}}", encoding="utf-8"
    )
    return folder


def bare_words(folder: Path) -> Path:
    return write_model(folder)


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(settings.Model(path=path), path.parent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("name", ["libevil.so", "labels_de.txt", "golden/evil.png", "a/b/c"])
@pytest.mark.parametrize("bundle", [digits, bare_words])
def test_native_code_is_refused_by_its_content_wherever_it_lies(
    bundle: Callable[[Path], Path], name: str, kind: str, tmp_path: Path
) -> None:
    folder = bundle(tmp_path / "bundle")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(NATIVE[kind])
    assert (
        f"/{name}: native code ({kind.split(',', maxsplit=1)[0].split(maxsplit=1)[0]}): a bundle holds data only"
        in refusal(folder)
    )
    said = refusal(zipped(folder)) if bundle is digits else refusal(folder)
    assert f"{name}: native code" in said
    assert not list((tmp_path / "cache").rglob(Path(name).name))


def test_a_model_file_of_such_a_bundle_is_refused_too(tmp_path: Path) -> None:
    folder = digits(tmp_path / "bundle")
    (folder / "evil").write_bytes(NATIVE["ELF"])
    assert "evil: native code" in refusal(folder / "digits.tflite")
    shutil.copy(folder / "digits.tflite", tmp_path)  # beside it, and no part of the bundle
    resolve(settings.Model(path=tmp_path / "digits.tflite"), tmp_path)


@pytest.mark.parametrize("text", ["MZ\nZA\n", "MZ and a longer list of names\n" * 40, "PE", "\x7f", ""])
def test_a_text_that_begins_like_native_code_is_none(text: str) -> None:
    assert gate.native_code(text.encode()[:1024]) == ""


def link(path: Path) -> None:
    path.symlink_to("labels.txt")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (link, "a link"),
        (lambda path: path.symlink_to("/etc/passwd"), "a link"),
        (lambda path: path.symlink_to("."), "a link"),
        (lambda path: path.symlink_to(path), "a link"),
        (os.mkfifo, "a pipe or a device"),
        (lambda path: (path / "a/b/c/d/e/f/g/h/i").mkdir(parents=True), "at most 8 deep"),
        (lambda path: path.mkdir() or [(path / str(number)).touch() for number in range(1001)], "at most 1000 files"),
    ],
)
def test_a_bundle_holds_regular_files_and_not_too_many(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    folder = digits(tmp_path / "bundle")
    make(folder / "odd")
    assert says in refusal(folder)


def test_a_bundle_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    digits(tmp_path / "one")
    (tmp_path / "current").symlink_to("one")
    resolve(settings.Model(path=Path("current")), tmp_path)


NAMES = some.lists(some.sampled_from(["..", ".", "", "a", "b", "file", "link", "loop", "\0", "x" * 300]), max_size=6)


@given(parts=NAMES, absolute=some.booleans())
def test_a_name_means_a_regular_file_inside_or_is_refused(
    parts: list[str], absolute: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.getbasetemp() / "names"
    folder = top / "folder"
    if not folder.exists():
        (folder / "a/b").mkdir(parents=True)
        for place in (top, folder, folder / "a", folder / "a/b"):
            (place / "file").touch()
            (place / "link").symlink_to("/etc/passwd")
            (place / "loop").symlink_to("loop")
    name = ("/" if absolute else "") + "/".join(parts)
    try:
        path = gate.inside(folder, name)
    except ModelError:
        return
    assert path.resolve(strict=True) == path
    assert path.is_relative_to(folder)
    assert path.is_file()


# What a configuration of ONNX Runtime GenAI may hold, and where.
EVIL: list[tuple[tuple[str, ...], Any]] = [
    (("model", "decoder", "session_options", "custom_ops_library"), "evil.so"),
    (("model", "decoder", "session_options", "custom_ops_library"), "/usr/lib/evil.so"),
    (("model", "decoder", "session_options", "enable_profiling"), "/tmp/profile"),
    (("model", "decoder", "session_options", "ep.context_file_path"), "/tmp/context"),
    (("model", "decoder", "session_options", "session.model_external_initializers_file_folder_path"), "/etc"),
    (("model", "decoder", "session_options", "what.comes.next"), "x"),
    (("model", "decoder", "session_options", "provider_options"), [{"QNN": {"backend_path": "evil.so"}}]),
    (("model", "decoder", "session_options", "provider_options"), [{"cpu": {"library": "evil.so"}}]),
    (("model", "decoder", "session_options", "provider_options"), {"cuda": {}}),
    (("model", "decoder", "session_options", "log_id"), "x" * 200),
    (("model", "decoder", "run_options", "qnn.lora_config"), "../../lora"),
    (("model", "decoder", "filename"), "../model.onnx"),
    (("model", "decoder", "filename"), "/etc/passwd"),
    (("model", "decoder", "filename"), "gone.onnx"),
    (("model", "decoder", "filename"), "."),
    (("model", "decoder", "inputs", "past_key_names"), "%s%s%s%s"),
    (("model", "decoder", "inputs", "past_key_names"), "%d%n"),
    (("model", "decoder", "outputs", "present_key_names"), "%1000000d"),
    (("model", "decoder", "outputs", "logits"), "x" * 200),
    (("model", "decoder", "shared_initializers"), [{"name": "a", "data_file": "/etc/passwd"}]),
    (("model", "decoder", "pipeline"), [{"first": {"filename": "/etc/passwd"}}]),
    (("model", "decoder", "pipeline"), [{"first": {"session_options": {"custom_ops_library": "evil.so"}}}]),
    (("model", "vision"), {"filename": "../vision.onnx"}),
    (("model", "speech"), {"config_filename": "/etc/passwd"}),
    (("model", "draft"), {"filename": "model.onnx"}),
    (("model", "vad"), {"filename": "model.onnx"}),
    (("model", "tokenizer_dir"), "/etc"),
    (("model", "tokenizer_dir"), "sha256:00"),
    (("engine",), {"dynamic_batching": {}}),
    (("search", "what"), "x"),
    (("what",), {"comes": "next"}),
]


def put(config: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    *sections, last = keys
    for section in sections:
        config = config.setdefault(section, {})
    config[last] = value


@pytest.fixture(scope="module")
def genai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model; tests change its configuration."""
    return write_model(tmp_path_factory.mktemp("genai") / "words")


def configured(genai: Path, keys: tuple[str, ...], value: Any, folder: Path) -> Path:
    copy = Path(shutil.copytree(genai, folder / "words"))
    config = json.loads((genai / "genai_config.json").read_text())
    put(config, keys, value)
    (copy / "genai_config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(("keys", "value"), EVIL, ids=lambda value: str(value)[-40:])
def test_a_runtimes_configuration_names_data_inside_of_the_bundle_alone(
    keys: tuple[str, ...], value: Any, genai: Path, tmp_path: Path
) -> None:
    said = refusal(configured(genai, keys, value, tmp_path))
    assert "genai_config.json: " in said
    assert keys[-1] in said


@given(
    key=some.text(min_size=1),
    value=some.text(min_size=1),
    section=some.sampled_from(["", "model", "decoder", "session_options"]),
)
def test_no_text_gets_through_under_a_key_that_is_not_known(key: str, value: str, section: str, genai: Path) -> None:
    keys = {"": (), "model": ("model",), "decoder": ("model", "decoder")}.get(
        section, ("model", "decoder", "session_options")
    )
    if key in (*genai_files._TEXTS, *genai_files._FILES, "inputs", "outputs"):
        return
    config: dict[str, Any] = {}
    put(config, (*keys, key), value)
    with pytest.raises(ModelError):
        genai_files._check(config, (), genai)


GOOD: list[tuple[tuple[str, ...], Any]] = [
    (("model", "eos_token_id"), [1, 2]),
    (("model", "decoder", "session_options"), {"log_id": "onnxruntime-genai", "provider_options": []}),
    (("model", "decoder", "session_options", "provider_options"), [{"CPU": {}}]),
    (("model", "decoder", "session_options", "session.use_device_allocator_for_initializers"), "0"),
    (("model", "decoder", "run_options", "memory.enable_memory_arena_shrinkage"), ""),
    (("model", "decoder", "inputs", "past_key_names"), "past_key_values.%d.key"),
    (("model", "decoder", "sliding_window"), {"window_size": 128, "alignment": "left", "layers": [0, 2]}),
    (("model", "decoder", "layer_types"), ["full_attention", "sliding_attention"]),
    (("model", "decoder", "number_of_the_future"), 3),
    (("search", "early_stopping"), True),
]


@pytest.mark.parametrize(("keys", "value"), GOOD, ids=lambda value: str(value)[-40:])
def test_what_builders_write_is_taken(keys: tuple[str, ...], value: Any, genai: Path, tmp_path: Path) -> None:
    resolve(settings.Model(path=configured(genai, keys, value, tmp_path)), tmp_path)


def test_a_model_of_the_runtimes_own_tests_is_taken(data_dir: Path) -> None:
    resolve(settings.Model(path=data_dir / "lm/tiny-random-gpt2-fp32"), data_dir)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"decoder": {', '"decoder": {"session_options": {"custom_ops_library": "evil.so"}}, "decoder": {'),
        ('"decoder": {', '"decoder": {"session_options": {}, "session_options": {}, '),
        ('"decoder": {', '"decoder": {"session_options": {"custom\\u005fops_library": "evil.so"}, '),
        ('"decoder": {', '"decoder": {/* a comment */'),
        ("{", "[" * 100_000 + "{"),
        ("{", "{" + " " * 1_000_000),
    ],
)
def test_what_two_parsers_may_read_in_two_ways_is_refused(before: str, after: str, genai: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(genai, tmp_path / "words"))
    text = (folder / "genai_config.json").read_text()
    (folder / "genai_config.json").write_text(text.replace(before, after, 1))
    assert "genai_config.json" in refusal(folder) or "nested too deeply" in refusal(folder)


@pytest.mark.parametrize("name", ["../vocabulary", "/etc/passwd", "gone", 5])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer_module.json"])
def test_a_tokenizer_names_data_inside_of_the_bundle_alone(file: str, name: Any, genai: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(genai, tmp_path / "words"))
    (folder / file).write_text(json.dumps({"tokenizer_class": "x", "tiktoken_file": name}))
    assert f"{file}: tiktoken_file: names" in refusal(folder)


ENDS = {
    "../w.bin": "which lies outside of the bundle",
    "/etc/passwd": "which lies outside of the bundle",
    "a/../../w.bin": "which lies outside of the bundle",
    "gone.bin": "which is not there",
    "linked.bin": "which is a link",
    "linked/w.bin": "which is a link",
    "pipe": "which is not a file",
    ".": "which is not a file",
    "evil.bin": "native code (ELF)",
    "*/_ORT_MEM_ADDR_/*": "which is not there",
}


@pytest.mark.parametrize("location", ENDS)
@pytest.mark.parametrize("where", PLACES)
def test_an_onnx_model_names_data_beside_it_alone(where: str, location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "linked.bin").symlink_to("../w.bin")
    (folder / "linked").symlink_to("..")
    os.mkfifo(folder / "pipe")
    (folder / "evil.bin").write_bytes(NATIVE["ELF"])
    path = folder / "model.onnx"
    path.write_bytes(with_weights_in(location, where).SerializeToString())
    said = refusal(path)
    assert said.startswith(f"{path}: keeps weights in another file, ")
    assert ENDS[location] in said


@pytest.mark.parametrize("where", PLACES)
def test_all_files_of_a_model_are_known_with_their_hashes(where: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    (tmp_path / "m.onnx").write_bytes(with_weights_in("w.bin", where).SerializeToString())
    (named,) = inspect.read(tmp_path / "m.onnx").named_files
    assert (named.name, named.size, named.compiled) == ("w.bin", 16, False)


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"embed_mode": 0, "ep_cache_context": "context.bin"}, "context.bin"),
        ({"embed_mode": 0, "ep_cache_context": "/etc/passwd"}, "/etc/passwd"),
        ({"embed_mode": 1, "ep_cache_context": "x", "onnx_model_filename": "../m.onnx"}, "../m.onnx"),
        ({"ep_cache_context": "/embedded"}, ""),
    ],
)
def test_a_compiled_part_lies_in_the_model_or_beside_it(attributes: dict[str, Any], named: str, tmp_path: Path) -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    if not named:
        assert inspect.read(path).named_files == ()
        return
    assert f"compiled for an accelerator in another file, {named}, which" in refusal(path)
    if named == "context.bin":
        (tmp_path / named).write_bytes(b"compiled")
        assert [file.compiled for file in inspect.read(path).named_files] == [True]


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A language model as an archive with a library that writes a file when it is loaded, and that file."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc to compile a library with")
    folder = words(tmp_path_factory.mktemp("evil") / "words")
    trace = folder.parent / "loaded"
    source = folder.parent / "evil.c"
    source.write_text(
        "#include <fcntl.h>\n__attribute__((constructor)) static void run(void)"
        f' {{ open("{trace}", O_CREAT | O_WRONLY, 0600); }}'
    )
    subprocess.run([gcc, "-shared", "-fPIC", "-o", folder / "evil.so", source], check=True)
    config = json.loads((folder / "genai_config.json").read_text())
    put(config, ("model", "decoder", "session_options", "custom_ops_library"), str(folder / "evil.so"))
    (folder / "genai_config.json").write_text(json.dumps(config))
    return zipped(folder), trace


@pytest.mark.parametrize("command", ["check", "inspect", "bench", "verify", "add", "run"])
def test_no_command_loads_what_a_bundle_brings(command: str, evil: tuple[Path, Path], tmp_path: Path) -> None:
    path, trace = evil
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"{{mqtt: {{url: 'mqtt://127.0.0.1:1'}}, models: {{words: {{path: {path}}}}},"
        " pipelines: {p: {model: words, source: {type: mqtt, topic: t}}}}"
    )
    arguments: dict[str, list[str | Path]] = {
        "check": ["check", "-c", config],
        "run": ["run", "-c", config],
        "inspect": ["inspect", path],
        "bench": ["bench", path],
        "verify": ["models", "verify", path],
        "add": ["models", "bundle", path, "--name", "x", "--version", "1", "--out", tmp_path / "out.zip"],
    }
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = edge_agent(*arguments[command], cwd=tmp_path, further_environment=environment)
    assert ended.returncode == 2 if command != "verify" else ended.returncode in (1, 2)
    assert "evil.so: native code (ELF): a bundle holds data only" in ended.stderr + ended.stdout
    assert not trace.exists()
    assert not list((tmp_path / "cache").rglob("evil.so"))
