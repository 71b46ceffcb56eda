"""Files compiled for chips, read without the vendors' libraries."""

import struct
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelfile.chips import LOADS
from edge_agent.modelfile.facts import Compiled, ModelFile, Suppression, Tensor
from edge_agent.modelfile.inspect import read
from tests.modelfile.hef_bytes import ARCHITECTURES, Kind, hef
from tests.mutate import mutated

MANY, FEW = 500, 12
KINDS: tuple[Kind, ...] = ("detector", "raw detector", "classifier", "nms on chip", "old", "partial", "pads only")


def read_hef(tmp_path: Path, version: int = 2, architecture: str = "HAILO8L", kind: Kind = "detector") -> ModelFile:
    path = tmp_path / "model.bin"
    path.write_bytes(hef(version, architecture, kind))
    return read(path)


def compiled(model: ModelFile) -> Compiled:
    assert model.compiled is not None
    return model.compiled


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_hef_states_its_chip_its_compiler_and_its_tensors(version: int, architecture: str, tmp_path: Path) -> None:
    model = read_hef(tmp_path, version, architecture)

    assert (model.format, model.version) == ("hef", f"header {version}")
    assert compiled(model).target == architecture
    assert compiled(model).compiler == "Dataflow Compiler 3.33.0"
    assert compiled(model).chips[0] == architecture.lower().rstrip("pr")
    assert [(one.name, one.shape, one.dtype) for one in model.inputs] == [
        ("net/input_layer1", (1, 640, 640, 3), "uint8")
    ]
    assert [(one.shape, one.dtype) for one in model.outputs] == [((1, 40080), "float32")]
    assert compiled(model).suppression == Suppression("yolov8", 80, 100, 0.2, 0.7)
    assert model.metadata["compiled_at"] == "2025-11-30"


@pytest.mark.parametrize(
    ("chip", "architectures"),
    [
        ("hailo8", {"HAILO8", "HAILO8P", "HAILO8R", "HAILO8L"}),
        ("hailo8l", {"HAILO8L"}),
        ("hailo10h", {"HAILO10H", "HAILO15H", "HAILO15M"}),
    ],
)
def test_each_chip_loads_the_files_of_hailos_table(chip: str, architectures: set[str], tmp_path: Path) -> None:
    loads = {one for one in ARCHITECTURES if chip in compiled(read_hef(tmp_path, architecture=one)).chips}
    assert loads == architectures == {target for target in LOADS[chip] if target in ARCHITECTURES}


def test_the_outputs_of_a_hef_are_those_that_nothing_on_the_cpu_takes(tmp_path: Path) -> None:
    raw = read_hef(tmp_path, kind="raw detector")
    assert [one.shape for one in raw.outputs] == [
        (1, *cells, n) for cells in ((80, 80), (40, 40), (20, 20)) for n in (64, 80)
    ]
    assert compiled(raw).suppression is None
    assert compiled(raw).stored_outputs[0].scale == pytest.approx(0.05)
    assert compiled(raw).stored_outputs[0].zero_point == 120
    assert len(compiled(read_hef(tmp_path, kind="detector")).stored_outputs) == 6


@pytest.mark.parametrize("kind", ["raw detector", "old", "partial"])
def test_older_layouts_of_a_hef_have_the_same_tensors(kind: Kind, tmp_path: Path) -> None:
    model = read_hef(tmp_path, kind=kind)
    assert [one.name for one in model.outputs][:2] == ["net/conv0_b", "net/conv0_c"]
    assert model.metadata["network"] == "net"


def test_a_hef_with_suppression_on_the_chip_gives_room_for_all_boxes(tmp_path: Path) -> None:
    model = read_hef(tmp_path, kind="nms on chip")
    assert compiled(model).suppression == Suppression("", 80, 40)
    assert model.outputs == (Tensor("net/nms1", (1, 80 * (1 + 5 * 40)), "float32"),)


def test_a_classifier_and_a_bare_interface_are_read(tmp_path: Path) -> None:
    classifier = read_hef(tmp_path, kind="classifier")
    assert (classifier.inputs[0].shape, classifier.outputs[0].shape) == ((1, 224, 224, 3), (1, 80))
    bare = read_hef(tmp_path, kind="pads only")
    assert (bare.inputs[0].shape, bare.outputs[0].shape) == ((1, 640, 640, 3), (1, 80, 80, 64))
    assert compiled(bare).stored_outputs[0] == Tensor("net/conv0_b", (1, 80, 80, 64), "uint8", 0.25, 3)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("lost", [1, 300, "most"])
def test_a_hef_that_is_cut_off_is_refused(version: int, lost: int | str, tmp_path: Path) -> None:
    path = tmp_path / "model.hef"
    content = hef(version)
    path.write_bytes(content[:-lost] if isinstance(lost, int) else content[:20])
    with pytest.raises(ModelError, match="the model file is damaged"):
        read(path)


def test_a_hef_of_a_version_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.hef"
    path.write_bytes(b"\x01HEF" + struct.pack(">II", 4, 0) + bytes(100))
    with pytest.raises(ModelError, match="version 4"):
        read(path)


RKNN: dict[str, tuple[str, str, list[Any], list[Any], tuple[str, float | None, int]]] = {
    "dual_residual_custom": ("rk3588", "1.6.1", [(1, 10, 10, 3)] * 2, [(1, 3, 10, 10)] * 2, ("float16", None, 0)),
    "multiple_input_demo": (
        *("rk3588", "1.6.2", [(1, 128, 128, 1), (1, 128, 128, 3)], [(1, 8, 128, 128)]),
        ("int8", 1.0, -128),
    ),
    "multiple_input_demo_rk3566": (
        *("rk3566", "1.6.2", [(1, 128, 128, 1), (1, 128, 128, 3)], [(1, 8, 128, 128)]),
        ("int8", 1.0, -128),
    ),
    "pp_human_segv2_custom_argmax": (
        *("rk3588", "2.3.1 (compiler 2.3.2)", [(1, 192, 192, 3)], [(1, 192, 192)]),
        ("int8", 2 / 255, 0),
    ),
}


@pytest.mark.parametrize("name", RKNN)
def test_an_rknn_file_states_its_chip_its_compiler_and_its_tensors(name: str, data_dir: Path) -> None:
    target, compiler, inputs, outputs, stored = RKNN[name]

    model = read(data_dir / "compiled" / f"{name}.rknn")

    assert (model.format, model.version, compiled(model).target) == ("rknn", "version 6", target)
    assert target in compiled(model).chips
    assert compiled(model).compiler.startswith(f"RKNN-Toolkit2 {compiler}")
    assert [(one.shape, one.dtype) for one in model.inputs] == [(shape, "uint8") for shape in inputs]
    assert [(one.shape, one.dtype) for one in model.outputs] == [(shape, "float32") for shape in outputs]
    first = compiled(model).stored_inputs[0]
    assert (first.dtype, first.scale, first.zero_point) == (
        stored[0],
        stored[1] and pytest.approx(stored[1]),
        stored[2],
    )


def test_an_rknn_file_states_what_it_does_with_pixels(data_dir: Path) -> None:
    model = read(data_dir / "compiled/pp_human_segv2_custom_argmax.rknn")
    assert model.metadata["input0.mean"] == model.metadata["input0.std"] == "[127.5, 127.5, 127.5]"


RPK: dict[str, tuple[str, Any, list[Any], int | None]] = {
    "inputtensoronly": ("", (480, 640), [(1, 10)], None),
    "posenet": ("pose estimation", (353, 481), [(1, 23, 31, 17), (1, 23, 31, 34), (1, 23, 31, 64)], None),
    "squeezenet1.0": ("classification", (224, 224), [(1, 1000)], None),
    "ssd_mobilenetv2_fpnlite_320x320_pp": (
        *("object detection", (320, 320)),
        *([(1, 100, 4), (1, 100), (1, 100), (1, 1)], 100),
    ),
    "yolo11n_pp": ("", (640, 640), [(1, 300, 4), (1, 300), (1, 300), (1, 1)], 300),
}


@pytest.mark.parametrize("name", RPK)
def test_a_network_of_the_imx500_states_its_task_its_tensors_and_its_labels(name: str, data_dir: Path) -> None:
    task, sides, outputs, boxes = RPK[name]

    model = read(data_dir / f"compiled/imx500_network_{name}.rpk")

    assert (model.format, compiled(model).target, compiled(model).chips) == ("rpk", "IMX500", ("imx500",))
    assert model.metadata.get("task", "") == task
    assert [(one.shape, one.dtype) for one in model.inputs] == [((1, *sides, 3), "uint8")]
    assert [(one.shape, one.dtype) for one in model.outputs] == [(shape, "float32") for shape in outputs]
    assert (compiled(model).suppression is None) == (boxes is None)


def test_labels_and_quantisation_of_a_network_of_the_imx500(data_dir: Path) -> None:
    model = read(data_dir / "compiled/imx500_network_ssd_mobilenetv2_fpnlite_320x320_pp.rpk")
    assert model.labels is not None
    assert (len(model.labels), model.labels[0], model.labels[-1]) == (90, "person", "toothbrush")
    boxes, scores, *_ = compiled(model).stored_outputs
    assert (boxes.dtype, boxes.scale) == ("int16", 2**-15)
    assert (scores.dtype, scores.scale) == ("uint8", 1 / 256)


def outcomes(content: bytes, folder: Path, count: int) -> tuple[int, int]:
    """How many damaged copies are read and refused; anything else is an error. Each within a second."""
    path, done, refused, longest = folder / "damaged", 0, 0, 0
    for seed in range(count):
        path.write_bytes(mutated(content, seed))
        began = time.process_time()
        try:
            read(path)
            done += 1
        except ModelError as error:
            longest = max(longest, len(str(error)))
            refused += 1
        assert time.process_time() - began < 1
    assert longest < 1000
    return done, refused


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_damaged_hef_is_read_or_refused(version: int, tmp_path: Path) -> None:
    done, refused = outcomes(hef(version), tmp_path, FEW)
    assert done + refused == FEW
    assert refused > 0


@pytest.mark.parametrize("name", ["multiple_input_demo.rknn", "imx500_network_inputtensoronly.rpk"])
def test_a_damaged_public_file_is_read_or_refused(name: str, tmp_path: Path, data_dir: Path) -> None:
    assert sum(outcomes((data_dir / "compiled" / name).read_bytes(), tmp_path, FEW)) == FEW


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_many_damaged_hefs(version: int, kind: Kind, tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        assert sum(outcomes(hef(version, architecture, kind), tmp_path, MANY)) == MANY


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_many_damaged_public_files(tmp_path: Path, data_dir: Path) -> None:
    for path in sorted((data_dir / "compiled").iterdir()):
        assert sum(outcomes(path.read_bytes(), tmp_path, MANY)) == MANY
