import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_agent.config.loader import NO_LABELS
from edge_agent.errors import ModelError
from edge_agent.models import model as models
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.models.tuning import threads_of
from edge_agent.settings import Model, Preprocess
from tests.images import decode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = shipped("digits")
UNIT = Preprocess(normalize="unit")
FILES = ["digits.tflite", "digits.onnx"]


@pytest.fixture(autouse=True)
def no_pulled_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "pulled"))


def pictures(*digits: int) -> "list[NDArray[np.uint8]]":
    files = [next(DIGITS.glob(f"golden/{digit}_*.png")) for digit in digits]
    return [decode_image(file.read_bytes()) for file in files]


def classes(outputs: "list[NDArray[Any]]") -> list[int]:
    return [int(number) for number in outputs[0].reshape(-1, 11).argmax(axis=1)]


def test_a_model_is_a_file_a_bundle_or_a_name(tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "mine")
    for path, version in (
        (tmp_path / "mine", "1"),
        (Path("mine"), "1"),
        (Path("mine/digits.tflite"), "1"),
        (Path("digits"), "1"),
    ):
        source = resolve_model(Model(path=path), tmp_path)
        assert source.file.path.name == "digits.tflite"
        assert source.version == version


def test_a_file_beside_the_configuration_goes_before_a_name_from_the_registry(tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "digits")
    assert resolve_model(Model(path=Path("digits")), tmp_path).file.path == tmp_path / "digits/digits.tflite"


def test_what_a_bundle_names_is_relative_to_the_bundle_wherever_its_model_lies(tmp_path: Path) -> None:
    (tmp_path / "mine/weights").mkdir(parents=True)
    shutil.copy(DIGITS / "digits.tflite", tmp_path / "mine/weights")
    shutil.copy(DIGITS / "labels.txt", tmp_path / "mine")
    (tmp_path / "mine/model.yaml").write_text(
        "{name: mine, version: 2, task: classification, files: {tflite: weights/digits.tflite}, labels: labels.txt}"
    )
    source = resolve_model(Model(path=Path("mine")), tmp_path)
    assert source.stated.labels == (*"0123456789", "blank")
    assert source.version == "2"


def test_a_bundle_states_labels_and_preprocessing_and_the_settings_go_first(tmp_path: Path) -> None:
    stated = resolve_model(Model(path=Path("digits")), tmp_path).stated
    assert stated.labels == (*"0123456789", "blank")
    assert stated.preprocess.color == "gray"
    own = resolve_model(Model(path=Path("digits"), labels=NO_LABELS, preprocess=UNIT), tmp_path).stated
    assert own.without_labels
    assert (own.preprocess.normalize, own.preprocess.color) == ("unit", "gray")


@pytest.mark.parametrize("file", FILES)
def test_a_loaded_model_tells_what_it_is(file: str, tmp_path: Path) -> None:
    model = models.load("meter", Model(path=DIGITS / file, labels=NO_LABELS, preprocess=UNIT), tmp_path)
    facts = model.facts()
    assert (facts["name"], facts["version"], facts["task"]) == ("meter", "1", "classification")
    assert len(facts["sha256"]) == 64
    assert facts["accelerator"] == {
        "asked": ["cpu"],
        "in_use": "cpu",
        "fallback": "",
        "share": None,
        "speed_up": None,
        "moves": 0,
    }
    assert model.identity["sha256"] == facts["sha256"][:12]
    assert facts["engine"] in model.describe()
    model.close()


@pytest.mark.parametrize("file", FILES)
def test_a_batch_gives_what_its_pictures_give_one_by_one(file: str, tmp_path: Path) -> None:
    options = Model(path=DIGITS / file, labels=NO_LABELS, preprocess=UNIT)
    one, many = (models.load("m", options, tmp_path, batch) for batch in (1, 5))
    digits = [3, 1, 4, 5, 9]
    tensor = one.preprocess(pictures(*digits))
    assert classes(many.infer(tensor)) == digits
    assert classes(one.infer(tensor)) == digits
    assert [classes(one.infer(tensor[i : i + 1])) for i in range(5)] == [[digit] for digit in digits]


def test_a_model_that_takes_one_picture_at_a_time_takes_a_batch_one_by_one(data_dir: Path, tmp_path: Path) -> None:
    options = Model(
        path=data_dir / "classify_onnx/mnist.onnx", labels=NO_LABELS, preprocess=Preprocess(normalize="raw")
    )
    model = models.load("m", options, tmp_path, batch=3)
    outputs = model.infer(np.zeros((3, 1, 28, 28), np.float32))
    assert [output.shape for output in outputs] == [(3, 10)]


def test_a_model_is_still_the_same_until_its_settings_its_file_or_its_labels_change(tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "mine")
    options = Model(path=Path("mine"))
    model = models.load("m", options, tmp_path)
    assert model.source == resolve_model(options, tmp_path)
    assert model.source != resolve_model(Model(path=Path("mine"), threads=2), tmp_path)
    labels = tmp_path / "mine/labels.txt"
    labels.write_text(labels.read_text().replace("blank", "nothing"))
    assert model.source != resolve_model(options, tmp_path)
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(ModelError, match="there is no such file or folder"):
        resolve_model(options, tmp_path)


def test_a_tensor_that_does_not_fit_is_refused_and_the_model_goes_on(tmp_path: Path) -> None:
    for file in FILES:
        model = models.load("m", Model(path=DIGITS / file, labels=NO_LABELS, preprocess=UNIT), tmp_path)
        tensor = model.preprocess(pictures(7))
        with pytest.raises(ModelError, match="inference failed: "):
            model.infer(tensor[:, 0])
        assert classes(model.infer(tensor)) == [7]


def test_the_threads_that_are_left_free_are_half_of_the_cores() -> None:
    assert 1 <= threads_of(Model(path=Path("m"))) <= 64
