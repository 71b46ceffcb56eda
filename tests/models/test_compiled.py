"""Models that are compiled for an accelerator run there only; a bundle can hold a sibling for the CPU."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.models import accelerator_choice
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.resolve import resolve_model
from tests.delegates import CUSTOM, TestDelegate
from tests.models import compiled_models

ETHOSU_HINT = "it is compiled for the Ethos-U: run it there, or use the file that it was compiled from"
CONTEXT_HINT = "it is compiled for one execution provider: run it there, or use the file that it was compiled from"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def load(path: Path, *accelerators: Any, **options: Any) -> Model:
    stated = {"path": path, "accelerators": accelerators or ["cpu"], **options}
    return models.load("it", settings.Model.model_validate(stated), Path.cwd())


def bundle(folder: Path, **entries: Any) -> Path:
    return compiled_models.bundle(folder / "digits", **entries)


@pytest.fixture
def ethosu(delegate: TestDelegate) -> dict[str, Any]:
    """An Ethos-U: a delegate of the name that it has on the boards, which computes what is compiled for it."""
    library = delegate.library.rename(delegate.library.with_name("libethosu_delegate.so"))
    return delegate.entry(take=CUSTOM) | {"delegate": str(library)}


@pytest.mark.parametrize(
    ("content", "operator", "hint"),
    [
        (compiled_models.for_ethosu(), "ethos-u", ETHOSU_HINT),
        (compiled_models.with_context(), "EPContext", CONTEXT_HINT),
    ],
)
def test_it_is_told_from_the_file_before_anything_is_loaded(
    content: bytes, operator: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(*_: object, **__: object) -> None:
        raise AssertionError("a trial has begun")

    monkeypatch.setattr(accelerator_choice, "qualify", tried)
    path = tmp_path / "compiled"
    path.write_bytes(content)
    assert inspect.read(path).operators[operator] == 1
    with pytest.raises(ModelError) as caught:
        load(path, labels="none", preprocess={"normalize": "unit"})
    assert str(caught.value) == f"{path}: {hint}"


def test_the_sibling_stands_in_where_there_is_no_such_accelerator(tmp_path: Path) -> None:
    model = load(bundle(tmp_path, compiled={"ethosu": "digits_ethosu.tflite"}), "ethosu", "cpu")
    assert model.engine.accelerator == "cpu"
    assert model.fallback.startswith("ethosu: its library can't be loaded: libethosu_delegate.so: ")
    assert model.fallback.endswith(": install the board's own delegate for it, which comes with its system")
    model.close()


def test_the_sibling_stands_in_where_there_is_no_such_provider(tmp_path: Path) -> None:
    model = load(bundle(tmp_path, compiled={"qnn": "digits_qnn.onnx"}), "qnn", "cpu")
    assert (model.engine.accelerator, model.file.path.name) == ("cpu", "digits.onnx")
    assert "qnn: the installed ONNX Runtime " in model.fallback
    assert " has no QNNExecutionProvider, only " in model.fallback
    model.close()


def test_the_compiled_file_runs_where_its_accelerator_is(tmp_path: Path, ethosu: dict[str, Any]) -> None:
    model = load(bundle(tmp_path, compiled={"ethosu": "digits_ethosu.tflite"}), ethosu, "cpu")
    facts = model.accelerator_facts()
    assert (facts["fallback"], facts["share"]) == ("", {"on": 1, "of": 10})
    assert facts["in_use"].startswith("libethosu_delegate.so take=32")
    model.close()


@pytest.mark.parametrize(
    ("accelerator", "entries", "name"),
    [
        ("ethosu", {}, "digits_ethosu.tflite"),
        ({"delegate": "/usr/lib/libethosu_delegate.so", "options": {"a": "b"}}, {}, "digits_ethosu.tflite"),
        ({"delegate": "libother.so"}, {}, "digits.tflite"),
        ("cpu", {}, "digits.tflite"),
        ("qnn", {}, "digits_qnn.onnx"),
        ({"provider": "QNNExecutionProvider", "options": {"backend_type": "htp"}}, {}, "digits_qnn.onnx"),
        ({"provider": "CPUExecutionProvider"}, {}, "digits.onnx"),
        ("qnn", {"files": {"tflite": "digits.tflite"}}, "digits_qnn.onnx"),
    ],
)
def test_which_file_runs_where(accelerator: Any, entries: dict[str, Any], name: str, tmp_path: Path) -> None:
    compiled = {"ethosu": "digits_ethosu.tflite", "qnn": "digits_qnn.onnx"}
    folder = bundle(tmp_path, compiled=compiled, **entries)
    wanted = settings.Model.model_validate({"path": folder, "accelerators": [accelerator]})
    assert resolve_model(wanted, Path.cwd()).file_for(wanted.accelerators[0]).path.name == name


@pytest.mark.parametrize(
    ("accelerator", "files", "whys"),
    [
        ("ethosu", {"tflite": "digits_ethosu.tflite"}, ("its library can't be loaded: ", ETHOSU_HINT)),
        ("qnn", {"onnx": "digits_qnn.onnx"}, ("has no QNNExecutionProvider, only ", CONTEXT_HINT)),
    ],
)
def test_without_a_sibling_the_reasons_are_told(
    accelerator: str, files: dict[str, str], whys: tuple[str, str], tmp_path: Path
) -> None:
    folder = bundle(tmp_path, files=files, output="probabilities")
    with pytest.raises(ModelError) as caught:
        load(folder, accelerator, "cpu")
    found = str(caught.value)
    assert found.startswith(f"{folder}{os.sep}{next(iter(files.values()))}: {accelerator}: ")
    assert whys[0] in found
    assert found.endswith(f"; {whys[1]}")


def test_a_compiled_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = bundle(tmp_path, compiled={"ethosu": "gone.tflite"})
    with pytest.raises(ModelError, match=r"names gone\.tflite, which is not there"):
        load(folder, "ethosu", "cpu")


def test_a_compiled_file_that_lies_beside_a_bundle_belongs_to_none(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    shutil.copy(folder / "digits_ethosu.tflite", tmp_path / "alone.tflite")
    with pytest.raises(ModelError, match="it is compiled for the Ethos-U"):
        load(tmp_path / "alone.tflite", labels="none", preprocess={"normalize": "unit"})
