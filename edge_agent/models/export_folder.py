"""Folders as exporters leave them: the model file in them, with what lies beside it.

Ultralytics writes one for each format, with `metadata.yaml` in it, which `modelfile.beside` reads:
https://docs.ultralytics.com/modes/export.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.modelfile import chips, inspect
from edge_agent.system import chips as machine

METADATA = "metadata.yaml"
MODELS = (".hef", ".rknn", ".rpk", ".tflite", ".onnx")
MAX_ENTRIES = 1000
# How the name of the folder ends -> what to do, where no file in it can be run.
_HELP = {
    "_imx_model": (
        "packerOut.zip has still to be packed, on a Raspberry Pi: `sudo apt install imx500-all`, then "
        "`imx500-package -i packerOut.zip -o .`, which makes network.rpk"
    ),
    "_openvino_model": (
        "no engine here reads OpenVINO's own format: export it as ONNX (`yolo export format=onnx`), and run that with "
        "`accelerators: [openvino, cpu]`"
    ),
    "_saved_model": "a SavedModel: export it as TFLite (`yolo export format=tflite`), and name the .tflite file",
    "_ncnn_model": "no engine here reads NCNN: export it as ONNX or TFLite",
    "_paddle_model": "no engine here reads PaddlePaddle: export it as ONNX",
    "_web_model": "no engine here reads TensorFlow.js: export it as TFLite",
    "_axelera_model": "there is no engine for Axelera's chips here: export it as ONNX, for the CPU",
    "_deepx_model": "there is no engine for DeepX's chips here: export it as ONNX, for the CPU",
    "_executorch_model": "no engine here reads ExecuTorch: export it as ONNX or TFLite",
    "_hailo_model": "expected a .hef file in it: `yolo export format=hailo name=hailo8l` makes one",
    "_rknn_model": "expected an .rknn file in it: `yolo export format=rknn name=rk3588` makes one",
}


def model_in(folder: Path) -> Path | None:
    """The model file in a folder that an exporter has made; None if it is no such folder.

    Of several for different chips, the one that a chip of this machine can load.

    Raises:
        ModelError: there is none that can be run, or there are several.
    """
    known = next((end for end in _HELP if folder.name.endswith(end)), "")
    if not known and not (folder / METADATA).is_file():
        return None
    try:
        names = sorted(path for path in itertools.islice(folder.iterdir(), MAX_ENTRIES) if path.suffix in MODELS)
    except OSError as error:
        raise ModelError(f"{folder}: can't be read: {error.strerror}") from None
    # An export for the AI Camera keeps the ONNX file that it was made from, which runs on no plain runtime.
    found = [path for path in names if not path.name.endswith("_imx.onnx")]
    if len(found) > 1:
        found = _of_this_machine(found) or found
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(path.name for path in found[:6])
        raise ModelError(f"{folder}: expected one model file, found {len(found)} ({listed}): name one of them")
    raise ModelError(f"{folder}: {_HELP.get(known, 'there is no model file in it that can be run here')}")


def _of_this_machine(files: Sequence[Path]) -> list[Path]:
    """Those that are compiled for a chip of this machine, if it has one."""
    if not (present := set(machine.present())):
        return []
    made_for = {path: inspect.read(path).compiled for path in files if path.suffix[1:] in ("hef", "rknn", "rpk")}
    loaded_by = {chip for one in present for chip in chips.loadable(one)[:1]}
    return [path for path, one in made_for.items() if one and loaded_by & set(one.chips)]
