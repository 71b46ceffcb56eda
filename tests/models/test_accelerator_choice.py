"""Models prove themselves on accelerators: the bundled digit reader, on delegates that do right and wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import model as models
from edge_agent.models.bundle import choose_file, read_manifest
from edge_agent.models.model import Model
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from tests.delegates import TestDelegate

DIGITS = shipped("digits")
Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a model as the daemon does, with a cache that these tests share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    # The file alone, without the bundle's golden samples.
    shutil.copy(DIGITS / "digits.tflite", tmp_path)

    def loaded(*accelerators: Any, path: str = "digits.tflite") -> Model:
        stated = {"labels": "none", "accelerators": accelerators, "path": path}
        return models.load("it", settings.Model.model_validate(stated), tmp_path)

    return loaded


def test_what_an_accelerator_brings_is_told(load: Load, delegate: TestDelegate) -> None:
    model = load(delegate.entry())
    facts = model.accelerator_facts()
    assert facts.pop("speed_up") > 0
    name = f"{delegate.library.name} take=25"
    assert facts == {"asked": [name], "in_use": name, "fallback": "", "share": {"on": 1, "of": 10}, "moves": 0}
    assert f" on {name}, " in model.describe()
    model.close()


def test_the_library_may_lie_beside_the_configuration(load: Load, delegate: TestDelegate) -> None:
    model = load(delegate.entry() | {"delegate": f"./{delegate.library.name}"})
    assert model.fallback == ""
    model.close()


@pytest.mark.parametrize(
    ("harm", "take", "sentence"),
    [
        ("wrong", 25, "gives other answers than on the CPU: a made-up input: "),
        ("", None, "it takes none of the model's 10 operations"),
        ("fail", 25, "inference failed: "),
        ("unprepared", 25, "refuses the model: "),
        ("crash", 25, "crashes the runtime (SIGSEGV): the accelerator's driver fails on this model: "),
    ],
)
def test_without_golden_samples_the_cpu_has_the_last_word(
    harm: str, take: int | None, sentence: str, load: Load, delegate: TestDelegate, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        load(delegate.entry(harm, take=take))
    assert str(caught.value).startswith(f"{tmp_path}/digits.tflite: {delegate.library.name}")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_library_that_is_no_delegate_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match=r"libc\.so\.6: its library "):
        load({"delegate": "libc.so.6"})


def test_if_none_can_be_had_the_reasons_are_told_in_order(load: Load) -> None:
    with pytest.raises(
        ModelError, match=r"/digits.tflite: cuda: models .*; libgone\.so: its library can't be loaded: .*$"
    ):
        load("cuda", {"delegate": "libgone.so"})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The digit reader with a file that claims to be compiled for the Edge TPU."""
    folder = Path(shutil.copytree(DIGITS, tmp_path / "bundle"))
    shutil.copy(folder / "digits.tflite", folder / "digits_edgetpu.tflite")
    with (folder / "model.yaml").open("a") as manifest:
        manifest.write("\ncompiled: {edgetpu: digits_edgetpu.tflite}\n")
    return folder


def test_a_bundle_holds_a_file_for_an_accelerator_beside_that_for_the_cpu(bundle: Path, load: Load) -> None:
    source = resolve_model(settings.Model(path=bundle), bundle)
    assert source.file_for("edgetpu").path.name == "digits_edgetpu.tflite"
    assert source.file_for("cpu").path.name == "digits.tflite"
    model = load("edgetpu", "cpu", path=str(bundle))
    assert model.engine.accelerator == "cpu"
    model.close()


def test_a_file_that_a_bundle_lacks_is_told(bundle: Path) -> None:
    (bundle / "digits_edgetpu.tflite").unlink()
    with pytest.raises(ModelError, match=r"names digits_edgetpu\.tflite, which is not there"):
        read_manifest(bundle)


def test_the_format_is_that_which_the_first_accelerator_can_use() -> None:
    manifest = read_manifest(DIGITS)
    assert choose_file(manifest, ("openvino", "cpu")) == Path("digits.onnx")
    assert choose_file(manifest, ("edgetpu", "cpu")) == Path("digits.tflite")
    assert choose_file(manifest, ("cpu",)) == Path("digits.tflite")


def test_each_accelerator_is_tried_with_the_format_that_the_first_has_chosen(bundle: Path, load: Load) -> None:
    shutil.copy(bundle / "golden/5_printed.png", bundle / "digits.tflite")  # a file that is not used
    model = load("openvino", "gpu", "cpu", path=str(bundle))
    assert (model.file.path.name, model.engine.accelerator) == ("digits.onnx", "cpu")
    assert "; gpu: models of this format can't use it: .onnx files can be run on cpu, " in model.fallback
    model.close()
