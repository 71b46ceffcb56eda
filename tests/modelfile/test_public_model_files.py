"""What public models say of themselves, against the runtimes that load them and their documentation."""

from pathlib import Path

import pytest

from edge_agent.modelfile.inspect import read

TFLITE_THAT_LOAD = [
    "classify_tflite/mobilenet_v1_0.25_224_1_metadata_1",
    "classify_tflite/mobilenet_v1_0.25_224_quant",
    "classify_tflite/mobilenet_v1_0.5_160_quant",
    "classify_tflite/mobilenet_v2_1.0_224_quant",
    "classify_tflite/mobilenet_v2_1.0_224_quant_tflitesupport",
    "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29",
    "detect_tflite/yolov5n-int8",
    "detect_tflite/yolov8n_integer_quant",
    "misc_tflite/deeplabv3_mnv2_dm05_pascal_quant",
    "misc_tflite/movenet_single_pose_lightning_ptq",
    "tinymlperf/ad01_int8",
    "tinymlperf/kws_ref_model",
    "tinymlperf/pretrainedResnet",
    "tinymlperf/pretrainedResnet_quant",
    "tinymlperf/vww_96_int8",
    "audio/yamnet_audio_classifier_with_metadata",
    "text/movie_review",
    "tflm/hello_world_int8",
]


@pytest.mark.parametrize("name", TFLITE_THAT_LOAD)
def test_tensors_are_those_that_litert_reports(name: str, data_dir: Path) -> None:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    path = data_dir / f"{name}.tflite"
    interpreter = interpreters.Interpreter(str(path))

    model = read(path)

    for tensors, details in (
        (model.inputs, interpreter.get_input_details()),
        (model.outputs, interpreter.get_output_details()),
    ):
        assert [tensor.name for tensor in tensors] == [detail["name"] for detail in details]
        for tensor, detail in zip(tensors, details, strict=True):
            signature = detail["shape_signature"]
            assert tensor.shape == tuple(signature if len(signature) else detail["shape"])
            assert tensor.dtype == detail["dtype"]().dtype.name
            assert (tensor.scale or 0.0, tensor.zero_point) == detail["quantization"]


ORT_TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}


@pytest.mark.parametrize(
    "name",
    [
        "classify_onnx/mnist.onnx",
        "classify_onnx/mobilenet_v2_quant.onnx",
        "detect_onnx/yolox_nano.onnx",
        "detect_onnx/ultraface_version-RFB-320.onnx",
        "audio/silero_vad.onnx",
        "lm/tiny-random-gpt2-fp32/past.onnx",
    ],
)
def test_tensors_are_those_that_onnx_runtime_reports(name: str, data_dir: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(data_dir / name), options, providers=["CPUExecutionProvider"])

    model = read(data_dir / name)

    for tensors, nodes in ((model.inputs, session.get_inputs()), (model.outputs, session.get_outputs())):
        assert [tensor.name for tensor in tensors] == [node.name for node in nodes]
        for tensor, node in zip(tensors, nodes, strict=True):
            assert tensor.shape == tuple(size if isinstance(size, int) else -1 for size in node.shape)
            assert tensor.dtype == ORT_TYPES[node.type]
    assert model.metadata == session.get_modelmeta().custom_metadata_map
    assert model.custom_operators == ()


# The labels of files that carry them: how many, and some of them by class.
LABELS: dict[str, tuple[int, dict[int, str]]] = {
    "classify_tflite/mobilenet_v1_0.25_224_quant.tflite": (1001, {0: "background", 286: "Egyptian cat"}),
    "classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite": (
        1001,
        {0: "background", 286: "Egyptian cat"},
    ),
    "classify_tflite/mobilenet_v2_1.0_224_quant.tflite": (1001, {0: "background", 89: "macaw"}),
    "classify_tflite/mobilenet_v1_0.5_160_quant_edgetpu.tflite": (1001, {286: "Egyptian cat"}),
    "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite": (
        90,
        {0: "person", 5: "bus", 11: "???"},
    ),
    "detect_tflite/yolov8n_integer_quant.tflite": (80, {0: "person", 5: "bus", 79: "toothbrush"}),
    "audio/yamnet_audio_classifier_with_metadata.tflite": (521, {0: "Speech"}),
}


@pytest.mark.parametrize("name", LABELS)
def test_embedded_labels_are_found(name: str, data_dir: Path) -> None:
    count, some = LABELS[name]
    labels = read(data_dir / name).labels

    assert labels is not None
    assert len(labels) == count
    assert {number: labels[number] for number in some} == some


def test_files_without_labels_have_none(data_dir: Path) -> None:
    for name in ("detect_tflite/yolov5n-int8.tflite", "detect_onnx/yolox_nano.onnx"):
        assert read(data_dir / name).labels is None


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("classify_tflite/mobilenet_v2_1.0_224_quant.tflite", ("SOFTMAX",)),
        ("classify_tflite/mobilenet_v1_0.25_224_quant.tflite", ("SOFTMAX",)),
        ("classify_tflite/mobilenet_v2_1.0_224_quant_tflitesupport.tflite", ("CONV_2D",)),
        ("audio/yamnet_audio_classifier_with_metadata.tflite", ("LOGISTIC",)),
        ("tinymlperf/pretrainedResnet_quant.tflite", ("SOFTMAX",)),
        ("misc_tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite", ("ARG_MAX",)),
        ("classify_onnx/mnist.onnx", ("Add",)),
        ("detect_onnx/ultraface_version-RFB-320.onnx", ("Softmax", "Concat")),
    ],
)
def test_output_operators(name: str, operators: tuple[str, ...], data_dir: Path) -> None:
    assert read(data_dir / name).output_operators == operators


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("classify_tflite/mobilenet_v1_0.5_160_quant_edgetpu.tflite", ("edgetpu-custom-op",)),
        ("bad_models/person_detect_vela.tflite", ("ethos-u",)),
        ("bad_models/model_invoking_error.tflite", ("fake-op-double",)),
        (
            "bad_models/sentencepiece_tokenizer_flex_op.tflite",
            ("FlexSentencepieceOp", "FlexSentencepieceTokenizeOp", "FlexRaggedTensorToTensor"),
        ),
        (
            "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite",
            ("TFLite_Detection_PostProcess",),
        ),
        ("tflm/person_detect.tflite", ()),
    ],
)
def test_custom_operators(name: str, operators: tuple[str, ...], data_dir: Path) -> None:
    assert read(data_dir / name).custom_operators == operators


def test_the_normalization_in_the_metadata_is_found(data_dir: Path) -> None:
    model = read(data_dir / "classify_tflite/mobilenet_v1_0.25_224_1_metadata_1.tflite")

    assert model.normalization == ((127.5,), (127.5,))
    assert model.description.startswith("MobileNetV1 image classifier: Identify the most prominent object")


def test_detection_outputs_are_named_in_the_metadata(data_dir: Path) -> None:
    model = read(data_dir / "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")

    names = [model.metadata[f"output{index}.name"] for index in range(4)]
    assert names == ["locations", "classes", "scores", "number of detections"]


def test_every_model_of_the_test_data_is_read(data_dir: Path) -> None:
    paths = [path for ending in ("tflite", "onnx") for path in data_dir.rglob(f"*.{ending}")]
    assert len(paths) > 20
    for path in paths:
        model = read(path)
        assert model.format == path.suffix[1:]
        assert model.inputs
        assert len(model.output_operators) == len(model.outputs) > 0
        assert sum(model.operators.values()) > 0


def test_the_post_processing_operator_states_its_classes(data_dir: Path) -> None:
    model = read(data_dir / "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")
    assert model.metadata["detection.num_classes"] == "90"
