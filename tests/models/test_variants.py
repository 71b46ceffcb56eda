"""Bundles with a file for each chip: what a machine chooses, and how one file stands in for another."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edge_agent import settings
from edge_agent.commands import inspect_model
from edge_agent.errors import ModelError
from edge_agent.models import model as models
from edge_agent.models.accelerator_choice import qualify_all
from edge_agent.models.bound_io import spec_for
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.models.variant_engine import conversion, picture
from edge_agent.models.variants import wanted
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess
from edge_agent.system import chips
from tests.broker import wait_until
from tests.delegates import CUSTOM, TestDelegate
from tests.modelfile.hef_bytes import hef
from tests.modelfile.rknn_bytes import rknn
from tests.models import compiled_models
from tests.stand_ins import interpreter
from tests.stand_ins.control import Control

DIGITS = shipped("digits")
FOUR = [
    {"for": "hailo8", "file": "digits_8.hef"},
    {"for": "hailo8l", "file": "digits_8l.hef"},
    {"for": "ethosu", "file": "digits_ethosu.tflite"},
    {"for": "cpu", "file": "digits.onnx"},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def bundle(folder: Path, variants: Sequence[dict[str, Any]] = FOUR, **entries: Any) -> Path:
    """The bundled digit reader, with files for several chips."""
    made = compiled_models.bundle(folder / "digits", **entries)
    for name, architecture in (("digits_8.hef", "HAILO8"), ("digits_8l.hef", "HAILO8L")):
        (made / name).write_bytes(hef(2, architecture, "classifier", classes=11))
    manifest = yaml.safe_load((made / "model.yaml").read_text())
    if "files" not in entries:
        del manifest["files"]
    (made / "model.yaml").write_text(yaml.safe_dump(manifest | {"variants": list(variants)}))
    return made


def source(path: Path, *accelerators: Any) -> ModelSource:
    return resolve_model(settings.Model.model_validate({"path": path, "accelerators": accelerators}), Path.cwd())


@pytest.mark.parametrize(
    ("here", "file"),
    [
        ("hailo8", "digits_8.hef"),
        ("hailo8l", "digits_8l.hef"),
        ("rk3588", None),
        ("", None),
    ],
)
def test_a_file_for_a_hailo_8_never_reaches_an_8l(
    here: str, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(chips.VARIABLE, here)
    found = source(bundle(tmp_path), "hailo", "cpu")
    assert found.file.path.name == "digits.onnx"
    assert (found.compiled["hailo"].path.name if "hailo" in found.compiled else None) == file
    assert ("hailo" in found.unfit) == (file is None)


def test_a_hailo_8_loads_what_is_for_an_8l_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(chips.VARIABLE, "hailo8")
    assert source(bundle(tmp_path, FOUR[1:]), "hailo", "cpu").compiled["hailo"].path.name == "digits_8l.hef"
    monkeypatch.setenv(chips.VARIABLE, "hailo8l")
    only_8 = source(bundle(tmp_path / "other", [FOUR[0], FOUR[3]]), "hailo", "cpu")
    candidates, refusals = qualify_all("digits", only_8, 1, lambda: None)
    assert [one.name for one in candidates] == ["cpu"]
    assert "hailo8 alone, and not for hailo8l" in refusals["hailo"]


def test_a_file_that_is_not_for_its_chip_is_refused(tmp_path: Path) -> None:
    wrong = [{"for": "hailo8l", "file": "digits_8.hef"}, FOUR[3]]
    with pytest.raises(ModelError, match=r"digits_8\.hef is compiled for HAILO8, which hailo8l can't load"):
        source(bundle(tmp_path, wrong), "cpu")
    with pytest.raises(ModelError, match=r"digits\.tflite is a \.tflite file, which rk3588 can't load"):
        source(bundle(tmp_path / "2", [{"for": "rk3588", "file": "digits.tflite"}, FOUR[3]]), "cpu")


def test_a_bundle_without_a_file_for_this_machine_says_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(chips.VARIABLE, "rk3588")
    with pytest.raises(ModelError, match=r"files for hailo8, hailo8l alone, .*it has rk3588.*add a file `for: cpu`"):
        source(bundle(tmp_path, FOUR[:2]), "hailo", "rknn", "cpu")


def test_a_bundle_for_chips_alone_runs_on_the_chip_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(chips.VARIABLE, "hailo8l")
    found = source(bundle(tmp_path, FOUR[:2]), "cpu")
    assert (found.file.path.name, found.options.accelerators) == ("digits_8l.hef", ("hailo",))


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ([{"for": "hailo9", "file": "x"}], "variants.0.for: must be an accelerator or a chip: cpu, "),
        ([FOUR[0], FOUR[0]], "variants: must have one file for each target"),
        ([{"for": "hailo8", "file": "gone.hef"}], "names gone.hef, which is not there"),
    ],
)
def test_variants_that_make_no_sense_are_refused(variants: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        source(bundle(tmp_path, variants), "cpu")
    assert says in str(caught.value)


def test_inspect_shows_the_files_for_this_machine_and_why_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(chips.VARIABLE, "hailo8l")
    made = bundle(tmp_path, [*FOUR, {"for": "rk3588", "file": "digits.rknn"}])
    (made / "digits.rknn").write_bytes(rknn("rk3588"))
    found = source(made, "cpu")
    inspect_model.run(found, found.options, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert {name: Path(file).name for name, file in shown["variants"].items()} == {
        "hailo": "digits_8l.hef",
        "ethosu": "digits_ethosu.tflite",
    }
    assert list(shown["unfit"]) == ["rknn"]


def test_what_a_machine_can_use_is_listed_the_best_first() -> None:
    assert wanted(["hailo", "cpu"], ["hailo8"]) == ["hailo", "hailo8", "hailo8l", "cpu"]
    assert wanted(["rknn", "edgetpu"], ["rk3568"]) == ["rknn", "rk3568", "rk3566", "edgetpu"]
    assert wanted(["cpu"], ["hailo8"]) == ["cpu"]


def test_a_file_of_another_format_takes_over_in_the_middle_of_the_work(tmp_path: Path, delegate: TestDelegate) -> None:
    library = delegate.library.rename(tmp_path / "libethosu_delegate.so")
    npu = delegate.entry("fail", at_will=True, take=CUSTOM) | {"delegate": str(library)}
    path = bundle(tmp_path, FOUR[2:])
    model = models.load("it", settings.Model.model_validate({"path": path, "accelerators": [npu, "cpu"]}), Path.cwd())
    predictor = Predictor(model, top_k=1, min_confidence=None)
    sample = read_file(DIGITS / "golden" / "5_printed.png")
    try:
        on_npu = predictor.ask(sample).predictions
        assert model.accelerator_facts()["in_use"].startswith("libethosu_delegate.so")
        assert model.engine.runtime.startswith("LiteRT")
        delegate.do_harm()
        on_cpu = predictor.ask(sample).predictions
        assert model.accelerator_facts()["in_use"] == "cpu"
        assert model.engine.runtime.startswith("ONNX Runtime")
    finally:
        model.close()
    assert [one.label for one in on_npu] == [one.label for one in on_cpu] == ["5"]
    assert on_npu[0].confidence == pytest.approx(on_cpu[0].confidence, abs=0.01)


@pytest.mark.faults
def test_the_cpu_answers_while_a_chip_fails_and_the_chip_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control(tmp_path)
    for key, value in {**control.environment, chips.VARIABLE: "hailo8l"}.items():
        monkeypatch.setenv(key, value)
    made = bundle(tmp_path, FOUR[1:])
    (made / "digits_8l.hef").write_bytes(hef(3, "HAILO8L", "digits"))
    python = {"python": str(interpreter.make(tmp_path / "system", with_runtimes=True))}
    stated = {"path": made, "accelerators": [{"chip": "hailo", "options": python}, "cpu"]}
    model = models.load("it", settings.Model.model_validate(stated), Path.cwd())
    predictor, sample = Predictor(model, 1, None), read_file(DIGITS / "golden" / "5_printed.png")

    def answer() -> tuple[str | None, str]:
        [found] = predictor.ask(sample).predictions
        return found.label, model.engine.runtime.split(" ")[0]

    try:
        assert answer() == ("5", "HailoRT")
        control.set(at="run", status=87)
        assert answer() == ("5", "ONNX")
        control.set()
        wait_until(lambda: answer() == ("5", "HailoRT"), 60, "the chip serves again")
        assert model.engine.moves == 2
    finally:
        model.close()


RAW = Preprocess(24, 32, "letterbox", "rgb", "nhwc", "uint8", (0.0,), (1.0,))
FLOAT = Preprocess(24, 32, "letterbox", "bgr", "nchw", "float32", (123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
QUANTISED = Preprocess(24, 32, "letterbox", "rgb", "nhwc", "int8", (128.0,), (1.0,))


@pytest.mark.parametrize("theirs", [RAW, FLOAT, QUANTISED])
@pytest.mark.parametrize("ours", [RAW, FLOAT, QUANTISED])
def test_the_input_of_one_file_becomes_that_of_another_without_loss(ours: Preprocess, theirs: Preprocess) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (24, 32, 3), np.uint8)
    assert (picture(theirs([pixels])[0], theirs) == pixels).all()
    assert (ours([picture(theirs([pixels])[0], theirs)]) == ours([pixels])).all()


def test_files_of_other_sizes_do_not_stand_in_for_each_other() -> None:
    spec = spec_for(source(DIGITS, "cpu"), "cpu")
    with pytest.raises(ModelError, match="is not that of the model's other file"):
        conversion(replace(spec, preprocess=RAW), spec)
    with pytest.raises(ModelError, match="its task is detection"):
        conversion(replace(spec, task="detection"), spec)
