"""An accelerator that another package brings: found by its entry point, tested by the contract, and served through."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.engines import plugins
from edge_agent.errors import ModelError
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.files import read_file
from edge_agent.testing.engine_contract import EngineContract, Setup, plugged_in

DIGITS = shipped("digits")
# What the author of a plug-in writes: here, ONNX Runtime under another name stands for a chip.
ENGINE = """
from edge_agent.engines import EngineWrapper, onnx
from edge_agent.engines.accelerators import Target


class Mine(EngineWrapper):
    runtime = "Mine 1.0"

    def __init__(self, engine, name):
        self.engine, self._name = engine, name

    @property
    def accelerator(self):
        return self._name

    def run(self, inputs):
        return self.engine.run(inputs)


def load(file, target, threads):
    return Mine(onnx.load(file, Target("cpu", "CPUExecutionProvider"), threads), target.name)
"""
ENTRY_POINTS = "[edge_agent.engines]\nmine.onnx = mine.engine\n"


def wheel(folder: Path, name: str = "mine", engine: str = ENGINE, entry_points: str = ENTRY_POINTS) -> Path:
    """A package as its author would release it."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}/engine.py", engine)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/entry_points.txt", entry_points)
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of installed packages, with this one in it."""
    folder = tmp_path_factory.mktemp("plug-in")
    target = folder / "site"
    with zipfile.ZipFile(wheel(folder)) as content:
        content.extractall(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(target)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


class TestMine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def setup(cls) -> Setup:
        return Setup(plugged_in("mine"), "onnx", accelerator="mine", runtimes={"Mine"})


def test_a_configuration_names_it_and_it_serves_after_its_self_test(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(
        "device_id: porch\n"
        "mqtt: {url: embedded}\n"
        f"models: {{digits: {{path: {DIGITS / 'digits.onnx'}, labels: {DIGITS / 'labels.txt'}, "
        "preprocess: {normalize: unit}, accelerators: [{plugin: mine, options: {cores: 2}}, cpu]}}\n"
        f"pipelines: {{lab: {{source: {{type: images, path: {DIGITS / 'golden'}}}, model: digits}}}}\n"
    )
    options = loader.load(tmp_path / "agent.yaml").settings.models["digits"]
    model = models.load("digits", options, tmp_path)
    try:
        [found] = Predictor(model, 1, None).ask(read_file(DIGITS / "golden" / "5_printed.png")).predictions
        facts = model.accelerator_facts()
        assert (found.label, model.engine.runtime) == ("5", "Mine 1.0")
        assert (facts["in_use"], facts["fallback"]) == ("mine cores=2", "")
    finally:
        model.close()


def with_plugin(name: str, path: Path = DIGITS / "digits.onnx") -> Any:
    stated = {"path": path, "labels": "none", "preprocess": {"normalize": "unit"}, "accelerators": [{"plugin": name}]}
    return settings.Model.model_validate(stated)


@pytest.mark.parametrize(
    ("name", "path", "says"),
    [
        ("theirs", DIGITS / "digits.onnx", "theirs: no installed package brings it, found mine: install it with pip"),
        ("mine", DIGITS / "digits.tflite", r"mine: models of this format can't use it: it runs \.onnx files"),
    ],
)
def test_what_no_package_brings_is_refused_with_what_helps(name: str, path: Path, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        models.load("digits", with_plugin(name, path), Path.cwd())


def test_a_plug_in_that_breaks_is_an_error_of_its_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = wheel(
        tmp_path,
        "broken",
        "raise OSError('libbroken.so is missing')",
        "[edge_agent.engines]\nbroken.onnx=broken.engine\n",
    )
    monkeypatch.syspath_prepend(broken)
    with pytest.raises(ModelError, match=r"broken 1\.0 can't be imported: OSError: libbroken\.so is missing"):
        plugins.load("broken", "onnx")
    other = wheel(tmp_path, "another", ENGINE, "[edge_agent.engines]\nmine.onnx = another.engine\n")
    monkeypatch.syspath_prepend(other)
    with pytest.raises(ModelError, match=r"several packages bring it \(another 1\.0, mine 1\.0\)"):
        plugins.entry_point("mine", "onnx")


def test_nothing_in_a_bundle_brings_a_plug_in(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    entry = "[edge_agent.engines]\nevil.onnx = evil.engine\n"
    with zipfile.ZipFile(wheel(tmp_path, "evil", ENGINE, entry)) as content:
        content.extractall(bundle)
    for name in ("digits.onnx", "labels.txt"):
        (bundle / name).write_bytes((DIGITS / name).read_bytes())
    (bundle / "model.yaml").write_text("{name: d, version: 1, task: classification, files: {onnx: digits.onnx}}")
    resolve_model(settings.Model(path=bundle), Path.cwd())
    assert plugins.packages("evil") == []
    assert "evil" not in sys.modules
