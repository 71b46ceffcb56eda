"""What lies beside a model file, as the tools write it, fills in what is missing, and nothing else."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.modelfile import beside
from edge_agent.models.io_spec import IOSpec, UnclearError, derive
from edge_agent.models.model import load_unqualified
from edge_agent.models.pack import About, pack
from edge_agent.models.predictor import Predictor
from edge_agent.models.resolve import resolve_model
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess

NAMES = [f"thing {letter}" for letter in "abcdefghij"]
MNIST = "classify_onnx/mnist.onnx"  # 10 logits of a picture in grey, float32: labels and normalization are missing
MOBILENET = "classify_onnx/mobilenet_v2_quant.onnx"  # 1000 logits of a picture in colour, float32
CATS_AND_DOGS = "met_in_the_wild/tm_catdog.tflite"  # from Teachable Machine
HEADER = """
#define EI_CLASSIFIER_LABEL_COUNT                10
#define EI_CLASSIFIER_SENSOR                     EI_CLASSIFIER_SENSOR_CAMERA
#define EI_CLASSIFIER_IMAGE_SCALING              EI_CLASSIFIER_IMAGE_SCALING_NONE
#define EI_CLASSIFIER_RESIZE_MODE                EI_CLASSIFIER_RESIZE_FIT_SHORTEST
const char* ei_classifier_inferencing_categories[] = { %s };
"""
CUSTOM_VISION = {
    "CustomVision.Metadata.Version": "1.2",
    "CustomVision.Postprocess.Method": "ClassificationMultiClass",
    "CustomVision.Preprocess.CropMethod": "NoCrop",
    "CustomVision.Preprocess.NormalizeMean": "[0.0, 0.0, 0.0]",
    "CustomVision.Preprocess.NormalizeStd": "[1.0, 1.0, 1.0]",
    "CustomVision.Preprocess.ResizeMethod": "Stretch",
    "Image.BitmapPixelFormat": "Rgb8",
    "Image.NominalPixelRange": "NominalRange_0_255",
}
VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
RESNET = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "size": {"shortest_edge": 224},
}
CLIP = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "size": {"shortest_edge": 256},
}
TIMM = {
    "architecture": "mobilenetv3_small_100",
    "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "num_classes": 1000,
    },
}

Model = Callable[..., Path]


@pytest.fixture
def model(data_dir: Path, tmp_path: Path) -> Model:
    """Copies a model into a folder and writes files beside it."""

    def copied(name: str, files: dict[str, str], call: str | None = None) -> Path:
        path = tmp_path / (call or Path(name).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data_dir / name, path)
        for file, text in files.items():
            (tmp_path / file).write_text(text, encoding="utf-8")
        return path

    return copied


def spec(path: Path, **stated: object) -> IOSpec:
    source = resolve_model(settings.Model.model_validate({"path": path, **stated}), path.parent)
    return derive(source.file, source.stated)


def pictures(path: Path, **stated: object) -> Preprocess:
    preprocess = spec(path, **stated).preprocess
    assert isinstance(preprocess, Preprocess)
    return preprocess


RAW = {"preprocess": {"normalize": "raw"}}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.txt", "\n".join(NAMES)),
        ("labels.txt", "\n".join(f"{number} {name}" for number, name in enumerate(NAMES))),
        ("dict.txt", "\n".join(NAMES)),
        ("classes.names", "\n".join(NAMES)),
        ("coco.names", "\n".join(NAMES)),
        ("mnist_labels.txt", "\n".join(NAMES)),
        ("data.yaml", f"train: ../train/images\nnc: 10\nnames: {NAMES}\nroboflow:\n  version: 3\n"),
        ("data.yaml", "names:\n" + "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))),
        ("config.json", json.dumps({"model_type": "vit", "id2label": {str(n): one for n, one in enumerate(NAMES)}})),
        ("config.json", json.dumps({"architecture": "x", "num_classes": 10, "label_names": NAMES})),
        ("model_metadata.h", HEADER % ", ".join(f'"{name}"' for name in NAMES)),
        ("model_variables.h", HEADER.splitlines()[-1] % ", ".join(f'"{name}"' for name in NAMES)),
        ("model_parameters.json", json.dumps({"model_parameters": {"labels": NAMES, "model_type": "classification"}})),
        ("metadata.yaml", f"task: classify\nstride: 1\nimgsz: [28, 28]\nnames: {dict(enumerate(NAMES))}\n"),
    ],
)
def test_labels_beside_a_model_are_read_and_the_file_is_named(file: str, text: str, model: Model) -> None:
    found = spec(model(MNIST, {file: text}), **RAW)
    assert found.labels == tuple(NAMES)
    assert any(one.startswith("labels: 10, ") and file in one for one in found.evidence)


def test_the_manifest_of_custom_vision_names_its_label_file(model: Model) -> None:
    manifest = {
        "DomainType": "Classification",
        "Platform": "ONNX",
        "ExporterVersion": "2.0",
        "ModelFileName": "mnist.onnx",
        "LabelFileName": "tags.txt",
        "SchemaVersion": "1.0",
    }
    files = {"cvexport.manifest": json.dumps(manifest), "tags.txt": "\n".join(NAMES)}
    assert spec(model(MNIST, files), **RAW).labels == tuple(NAMES)
    for name in ("../tags.txt", "/etc/hostname", "gone.txt"):
        files["cvexport.manifest"] = json.dumps(manifest | {"LabelFileName": name})
        with pytest.raises(UnclearError):
            spec(model(MNIST, files), **RAW)


def test_labels_of_another_number_are_left_out_with_both_counts(model: Model) -> None:
    path = model(MNIST, {"labels.txt": "one\ntwo\nthree\n"})
    with pytest.raises(UnclearError) as caught:
        spec(path, **RAW)
    assert "labels" in caught.value.missing
    (note,) = [one for one in caught.value.evidence if "labels.txt" in one]
    assert "3 labels" in note
    assert "10 classes" in note


def test_the_first_list_that_fits_is_taken(model: Model) -> None:
    files = {"config.json": json.dumps({"id2label": {"0": "a", "1": "b"}}), "labels.txt": "\n".join(NAMES)}
    found = spec(model(MNIST, files), **RAW)
    assert found.labels == tuple(NAMES)
    assert any("config.json" in one and "not used" in one for one in found.evidence)


def test_what_is_stated_and_what_the_model_carries_goes_first(data_dir: Path, model: Model) -> None:
    names = {"labels.txt": "\n".join(NAMES)}
    assert spec(model(MNIST, names), labels="none", **RAW).labels is None
    yolo = "detect_tflite/yolov8n_integer_quant.tflite"
    assert spec(model(yolo, names)) == spec(data_dir / yolo)
    autoencoder = "tinymlperf/ad01_int8.tflite"
    assert spec(model(autoencoder, names)).task == spec(data_dir / autoencoder).task == "anomaly"


@pytest.mark.parametrize(
    ("files", "resize", "crop", "mean", "std"),
    [
        ({"preprocessor_config.json": VIT}, "stretch", 1.0, 127.5, 127.5),
        ({"preprocessor_config.json": RESNET}, "center_crop", 0.875, 123.675, 58.395),
        ({"preprocessor_config.json": CLIP}, "center_crop", 0.875, 122.7709, 68.5005),
        ({"preprocessor_config.json": VIT | {"do_normalize": False}}, "stretch", 1.0, 0.0, 255.0),
        ({"preprocessor_config.json": VIT | {"do_rescale": False, "do_normalize": False}}, "stretch", 1.0, 0.0, 1.0),
        ({"config.json": TIMM}, "center_crop", 0.9, 127.5, 127.5),
        ({"metadata_properties.json": CUSTOM_VISION}, "stretch", 1.0, 0.0, 1.0),
    ],
)
def test_how_pixels_go_in_is_read_from_what_was_exported_with_it(
    files: dict[str, object], resize: str, crop: float, mean: float, std: float, model: Model
) -> None:
    path = model(MOBILENET, {name: json.dumps(document) for name, document in files.items()})
    found = pictures(path, labels="none")
    assert (found.resize, found.crop) == (resize, crop)
    assert (found.mean[0], found.std[0]) == pytest.approx((mean, std), rel=1e-4)
    (name,) = files
    assert all(
        any(one.startswith(key) and name in one for one in spec(path, labels="none").evidence)
        for key in ("resize: ", "normalize: ")
    )
    stated = pictures(path, labels="none", preprocess={"resize": "letterbox", "normalize": "unit"})
    assert (stated.resize, stated.mean, stated.std) == ("letterbox", (0.0,), (255.0,))


def test_an_edge_impulse_header_says_how_pixels_go_in(model: Model) -> None:
    path = model(MNIST, {"model_metadata.h": HEADER % ", ".join(f'"{name}"' for name in NAMES)})
    found = pictures(path)
    assert (found.resize, found.mean, found.std) == ("center_crop", (0.0,), (255.0,))


def test_the_models_own_numbers_are_not_overruled(data_dir: Path, model: Model) -> None:
    quantised = "classify_tflite/mobilenet_v2_1.0_224_quant.tflite"
    found = pictures(model(quantised, {"preprocessor_config.json": json.dumps(VIT)}), labels="none")
    assert (found.mean, found.std) == (pictures(data_dir / quantised, labels="none").mean, (1.0,))
    assert found.resize == "stretch"  # which no number of the model contradicts


def test_files_of_a_hugging_face_repository_lie_above_its_onnx_folder(model: Model) -> None:
    files = {"preprocessor_config.json": json.dumps(RESNET)}
    path = model(MOBILENET, files, "onnx/model.onnx")
    assert pictures(path, labels="none").crop == 0.875


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_an_export_of_teachable_machine_works_as_it_comes(
    form: str, data_dir: Path, model: Model, tmp_path: Path
) -> None:
    path = model(CATS_AND_DOGS, {"labels.txt": "0 Cat\n1 Dog\n"}, "model_unquant.tflite")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "converted_tflite.zip", "w") as archive:
            for name in ("model_unquant.tflite", "labels.txt"):
                archive.write(tmp_path / name, name)
        path = tmp_path / "converted_tflite.zip"
    found = spec(path)
    assert isinstance(found.preprocess, Preprocess)
    assert (found.labels, found.preprocess.resize) == (("Cat", "Dog"), "center_crop")
    assert (found.preprocess.mean, found.preprocess.std) == ((127.5,), (127.5,))
    source = resolve_model(settings.Model(path=path), tmp_path)
    predictor = Predictor(load_unqualified("tm", source), 1, None)
    for image, label in (("cat.bmp", "Cat"), ("dog.jpg", "Dog")):
        assert predictor.ask(read_file(data_dir / "images" / image)).predictions[0].label == label


def test_of_an_archive_with_several_models_one_is_named(data_dir: Path, tmp_path: Path) -> None:
    task = tmp_path / "hand_landmarker.task"
    with zipfile.ZipFile(task, "w") as archive:
        archive.write(data_dir / "met_in_the_wild/openmv_palm.tflite", "hand_detector.tflite")
        archive.write(data_dir / "met_in_the_wild/openmv_hand.tflite", "hand_landmarks_detector.tflite")
    for path, expected in (
        (task, "hand_detector.tflite, hand_landmarks_detector.tflite"),
        (task / "x.tflite", "x.tflite"),
    ):
        with pytest.raises(ModelError) as caught:
            resolve_model(settings.Model(path=path), tmp_path)
        assert expected in str(caught.value)
    for name in ("hand_detector.tflite", "hand_landmarks_detector.tflite"):
        found = resolve_model(settings.Model(path=task / name), tmp_path)
        assert found.file.path.name == name


def test_native_code_in_such_an_archive_is_refused(data_dir: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.write(data_dir / MNIST, "model.onnx")
        archive.writestr("libmodel.so", b"\x7fELF" + bytes(100))
    with pytest.raises(ModelError, match="native code"):
        resolve_model(settings.Model(path=tmp_path / "model.zip"), tmp_path)


FILES = sorted({name for kind in beside.KINDS for name in kind.names if "{" not in name})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00\x01",
        b"[" * 100_000,
        b"{}",
        b"[]",
        b"null",
        b'{"id2label": {"0": [1]}, "image_mean": ["x"], "size": {}, "labels": 3, "names": {"a": {}}, "model_type": 1}',
        b'{"architecture": "x", "mean": [0], "std": [0], "crop_pct": "x", "label_names": 4}',
        b"names: &a [1]\nstride: *a\ntask: *a\n",
        b"{" * 3000,
        b'const char* ei_classifier_inferencing_categories[] = { "a", ',
        b"x" * 5_000_000,
    ],
)
def test_files_that_are_something_else_do_no_harm(content: bytes, data_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "mnist.onnx"
    shutil.copy(data_dir / MNIST, model)
    for name in FILES:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnclearError) as caught:
        spec(model)
    assert caught.value.missing.keys() == {"labels", "preprocess.normalize"}


def test_links_and_pipes_beside_a_model_are_not_followed(model: Model, tmp_path: Path) -> None:
    path = model(MNIST, {"secret": "\n".join(NAMES)})
    (tmp_path / "labels.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UnclearError):
        spec(path, **RAW)


def test_a_bundle_holds_what_was_beside_the_model(model: Model, tmp_path: Path) -> None:
    path = model(CATS_AND_DOGS, {"labels.txt": "0 Cat\n1 Dog\n"}, "model_unquant.tflite")
    pack(settings.Model(path=path), tmp_path, About("pets", "1", ""), [], tmp_path / "pets")
    bundled, loose = spec(tmp_path / "pets"), spec(path)
    assert (bundled.labels, bundled.preprocess) == (loose.labels, loose.preprocess)
