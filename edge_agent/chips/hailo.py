"""HEF models on Hailo's chips, through HailoRT's `hailo_platform`: https://github.com/hailo-ai/hailort.

The names used here are the same in HailoRT 4.20 to 5.2: `VDevice`, `InferModel` and `ConfiguredInferModel` of
hailort/libhailort/bindings/python/platform/hailo_platform/pyhailort/pyhailort.py.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.chips.serving import ChipError, serve
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.worker_process import Channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where the multi-process service of HailoRT 4 listens.
SERVICE = Path("/tmp/hailort_uds.sock")  # noqa: S108 - HailoRT's own choice
_LAST_WITH_SERVICE = 4
_DTYPES = {"UINT8": "uint8", "UINT16": "uint16", "FLOAT32": "float32"}
# Outputs of boxes whose layout is bytes; those by class are float32.
_BYTES = ("HAILO_NMS_BY_SCORE", "HAILO_NMS_WITH_BYTE_MASK")
# Part of the time limit after which the library gives up by itself; the parent kills this process at its end.
_OWN_LIMIT = 0.8
_MILLISECONDS = 1000


def main(channel: Channel) -> None:
    """The process."""
    # The library would write hailort.log into the working directory.
    os.environ["HAILORT_LOGGER_PATH"] = "NONE"
    os.environ.setdefault("HAILORT_CONSOLE_LOGGER_LEVEL", "error")
    serve(channel, Hailo)


class Hailo:
    """See `Chip`.

    Args:
        request: `file`; `options`: group_id, multi_process_service, priority, score_threshold, iou_threshold.

    Raises:
        ChipError: see `Chip`.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        options: Mapping[str, str] = request["options"]
        try:
            import hailo_platform as hailo
        except ImportError as error:
            raise ChipError(str(error)) from error
        try:
            version = str(getattr(hailo, "__version__", ""))
            self.runtime = f"HailoRT {version or 'of unknown version'}"
            params = hailo.VDevice.create_params()
            params.scheduling_algorithm = hailo.HailoSchedulingAlgorithm.ROUND_ROBIN
            params.group_id = options.get("group_id", "SHARED")
            if _uses_service(options.get("multi_process_service", "auto"), version):
                params.multi_process_service = True
            self._device: Any = hailo.VDevice(params)
            model = self._device.create_infer_model(FileIdentity.from_json(request["file"]).content())
            self.inputs = [_input(model.input(name)) for name in model.input_names]
            self._buffers: dict[str, NDArray[Any]] = {}
            self.outputs = []
            for name in request.get("outputs") or model.output_names:
                stream = model.output(name)
                spec, self._buffers[name] = _output(stream, hailo.FormatType, options)
                self.outputs.append(spec)
            self._model: Any = model.configure()
            if "priority" in options:
                self._model.set_scheduler_priority(int(options["priority"]))
            self._bindings = self._model.create_bindings(output_buffers=self._buffers)
        except ModelError:
            raise
        except Exception as error:
            raise _as_chip_error(error) from error

    def run(self, arrays: Sequence["NDArray[Any]"], timeout: float) -> list["NDArray[Any]"]:
        """See `Chip.run`."""
        milliseconds = max(1, int(timeout * _OWN_LIMIT * _MILLISECONDS))
        try:
            for spec, array in zip(self.inputs, arrays, strict=True):
                self._bindings.input(spec["name"]).set_buffer(np.ascontiguousarray(array[0]))
            self._model.wait_for_async_ready(timeout_ms=milliseconds)
            self._model.run([self._bindings], milliseconds)
        except Exception as error:
            raise _as_chip_error(error) from error
        return [self._buffers[spec["name"]][None] for spec in self.outputs]

    def temperature(self) -> float | None:
        """See `Chip.temperature`: the warmer of its two sensors."""
        found = []
        for device in self._device.get_physical_devices():
            info = device.control.get_chip_temperature()
            found += [float(info.ts0_temperature), float(info.ts1_temperature)]
        return round(max(found), 1) if found else None

    def close(self) -> None:
        """See `Chip.close`."""
        with suppress(Exception):
            self._model.shutdown()
        with suppress(Exception):
            self._device.release()


def _uses_service(stated: str, version: str) -> bool:
    """Whether processes share the device through HailoRT's service; `auto`: if HailoRT 4 has it running."""
    if stated != "auto":
        return stated == "true"
    major = version.partition(".")[0]
    return major.isdecimal() and int(major) <= _LAST_WITH_SERVICE and SERVICE.exists()


def _input(stream: Any) -> dict[str, Any]:
    """The facts of an input; its type is the one of the file, uint8 as a rule."""
    dtype = _DTYPES.get(stream.format.type.name, "uint8")
    return {"name": stream.name, "shape": [1, *map(int, stream.shape)], "dtype": dtype}


def _output(stream: Any, types: Any, options: Mapping[str, str]) -> "tuple[dict[str, Any], NDArray[Any]]":
    """The facts of an output and the buffer that it is written to. Numbers are real: the library dequantises them."""
    dtype = "uint8" if stream.format.order.name in _BYTES else "float32"
    if dtype == "float32":
        stream.set_format_type(types.FLOAT32)
    if stream.is_nms:
        if "score_threshold" in options:
            stream.set_nms_score_threshold(float(options["score_threshold"]))
        if "iou_threshold" in options:
            stream.set_nms_iou_threshold(float(options["iou_threshold"]))
    buffer: NDArray[Any] = np.zeros(tuple(map(int, stream.shape)), dtype)
    return {"name": stream.name, "shape": [1, *buffer.shape], "dtype": dtype}, buffer


def _as_chip_error(error: Exception) -> ChipError:
    """The library's error with its status, which is that of the exception behind it, or stands in its text."""
    cause, status = error.__cause__, 0
    if cause is not None and cause.args and str(cause.args[0]).isdecimal():
        status = int(cause.args[0])
    elif found := re.search(r"failed with error: (\d{1,4})", str(error)):
        status = int(found[1])
    return ChipError(f"{type(error).__name__}: {error}", status)


if TYPE_CHECKING:
    from edge_agent.chips.serving import Chip

    _: type[Chip] = Hailo
