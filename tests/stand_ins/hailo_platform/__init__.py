"""Stands in for HailoRT's Python binding, with its names, shapes and errors, and a Hailo-8L that reads digits.

Written from hailort/libhailort/bindings/python/platform/hailo_platform/pyhailort/pyhailort.py and
hailort/libhailort/include/hailo/hailort.h of https://github.com/hailo-ai/hailort. The file that
`EDGE_AGENT_STAND_IN` names says what fails: `at`, the name of a call, and how: `status`, `hang`, `crash`.
"""

import enum
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


def _control() -> dict[str, Any]:
    path = os.environ.get("EDGE_AGENT_STAND_IN")
    found: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return found


__version__ = _control().get("version", "4.23.0")
if "import_error" in _control():
    raise ImportError(_control()["import_error"])

STATUS = {
    2: "HAILO_INVALID_ARGUMENT",
    3: "HAILO_OUT_OF_HOST_MEMORY",
    4: "HAILO_TIMEOUT",
    6: "HAILO_INVALID_OPERATION",
    8: "HAILO_INTERNAL_FAILURE",
    15: "HAILO_UNSUPPORTED_CONTROL_PROTOCOL_VERSION",
    16: "HAILO_UNSUPPORTED_FW_VERSION",
    18: "HAILO_FW_CONTROL_FAILURE",
    23: "HAILO_INVALID_FIRMWARE",
    26: "HAILO_INVALID_HEF",
    36: "HAILO_DRIVER_OPERATION_FAILED",
    62: "HAILO_COMMUNICATION_CLOSED",
    63: "HAILO_STREAM_ABORT",
    64: "HAILO_DRIVER_NOT_INSTALLED",
    71: "HAILO_OUT_OF_FW_MEMORY",
    73: "HAILO_DEVICE_IN_USE",
    74: "HAILO_OUT_OF_PHYSICAL_DEVICES",
    75: "HAILO_INVALID_DEVICE_ARCHITECTURE",
    76: "HAILO_INVALID_DRIVER_VERSION",
    77: "HAILO_RPC_FAILED",
    78: "HAILO_INVALID_SERVICE_VERSION",
    81: "HAILO_OUT_OF_HOST_CMA_MEMORY",
    82: "HAILO_QUEUE_IS_FULL",
    85: "HAILO_DRIVER_INVALID_RESPONSE",
    86: "HAILO_DRIVER_INVALID_IOCTL",
    87: "HAILO_DRIVER_TIMEOUT",
    89: "HAILO_CONNECTION_REFUSED",
    91: "HAILO_HEF_FILE_CORRUPTED",
    92: "HAILO_HEF_NOT_SUPPORTED",
    93: "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
    96: "HAILO_DEVICE_NOT_CONNECTED",
    97: "HAILO_DEVICE_TEMPORARILY_UNAVAILABLE",
}


class HailoRTStatusException(Exception):
    """Of the extension: its argument is the status."""


class HailoRTException(Exception):
    pass


class HailoRTTimeout(HailoRTException):
    pass


class HailoRTInvalidHEFException(HailoRTException):
    pass


class HailoRTHEFNotCompatibleWithDevice(HailoRTException):
    pass


class HailoRTDriverOperationFailedException(HailoRTException):
    pass


class HailoCommunicationClosedException(HailoRTException):
    pass


_OWN = {
    4: HailoRTTimeout("Received a timeout - hailort has failed because a timeout had occurred"),
    26: HailoRTInvalidHEFException("Invalid HEF. See hailort.log for more information"),
    36: HailoRTDriverOperationFailedException("Failure in hailort driver ioctl. run 'dmesg | grep hailo'"),
    62: HailoCommunicationClosedException("Communication closed failure. Check server-client connection"),
}


def _may_fail(call: str) -> None:
    control = _control()
    if control.get("at") != call:
        return
    if control.get("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while control.get("hang"):
        time.sleep(60)
    status = int(control["status"])
    own = _OWN.get(status, HailoRTException(f"libhailort failed with error: {status} ({STATUS[status]})"))
    raise own from HailoRTStatusException(str(status))


class HailoSchedulingAlgorithm(enum.Enum):
    NONE = 0
    ROUND_ROBIN = 1


class FormatType(enum.Enum):
    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class FormatOrder(enum.Enum):
    NHWC = 1
    NC = 5
    HAILO_NMS_BY_CLASS = 22
    HAILO_NMS_BY_SCORE = 23


class _Stream:
    """See `InferModel.InferStream`."""

    def __init__(self, name: str, shape: tuple[int, ...], kind: FormatType, order: FormatOrder) -> None:
        self.name, self.shape = name, list(shape)
        self.format = SimpleNamespace(type=kind, order=order)
        self.is_nms = "NMS" in order.name

    def set_format_type(self, kind: FormatType) -> None:
        self.format = SimpleNamespace(type=kind, order=self.format.order)

    def set_nms_score_threshold(self, threshold: float) -> None:
        assert self.is_nms
        assert 0 <= threshold <= 1

    def set_nms_iou_threshold(self, threshold: float) -> None:
        assert self.is_nms
        assert 0 <= threshold <= 1


class _Buffer:
    """See `ConfiguredInferModel.Bindings.InferStream`."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self.buffer: Any = None

    def set_buffer(self, buffer: Any) -> None:
        if not buffer.flags.c_contiguous:
            raise HailoRTException("Buffer must be C_CONTIGUOUS")
        assert list(buffer.shape) == self._stream.shape, (buffer.shape, self._stream.shape)
        assert buffer.dtype.name == self._stream.format.type.name.lower(), (buffer.dtype, self._stream.format)
        self.buffer = buffer


class _Bindings:
    def __init__(self, model: "InferModel") -> None:
        self._inputs = {name: _Buffer(model.input(name)) for name in model.input_names}
        self._outputs = {name: _Buffer(model.output(name)) for name in model.output_names}

    def input(self, name: str) -> _Buffer:
        return self._inputs[name]

    def output(self, name: str) -> _Buffer:
        return self._outputs[name]


class ConfiguredInferModel:
    def __init__(self, model: "InferModel") -> None:
        self._model = model
        self._broken = False
        self._priority = 16

    def create_bindings(self, input_buffers: Any = None, output_buffers: Any = None) -> _Bindings:
        bindings = _Bindings(self._model)
        for name, buffer in (input_buffers or {}).items():
            bindings.input(name).set_buffer(buffer)
        for name, buffer in (output_buffers or {}).items():
            bindings.output(name).set_buffer(buffer)
        return bindings

    def set_scheduler_priority(self, priority: int) -> None:
        assert 0 <= priority <= 31

    def wait_for_async_ready(self, timeout_ms: int = 1000, frames_count: int = 1) -> None:
        assert timeout_ms > 0
        assert frames_count == 1

    def run(self, bindings: list[_Bindings], timeout: int) -> None:
        assert timeout > 0
        if self._broken:  # "after an asynchronous error the whole pipeline is shut down"
            raise HailoRTException("libhailort failed with error: 63 (HAILO_STREAM_ABORT)")
        try:
            _may_fail("run")
        except HailoRTException:
            self._broken = True
            raise
        [one] = bindings
        self._model.compute(one)

    def shutdown(self) -> None:
        pass


class InferModel:
    """The bundled reader of digits: grey pixels (32, 24, 1), uint8, to eleven scores; or outputs that a test states."""

    def __init__(self, hef: bytes) -> None:
        stated = _control().get("outputs")
        if stated is None:
            self._inputs = {"digits/input_layer1": _Stream("digits/input_layer1", (32, 24, 1), *_PIXELS)}
            self._outputs = {"digits/softmax1": _Stream("digits/softmax1", (11,), FormatType.UINT8, FormatOrder.NC)}
        else:
            side = _control().get("side", 640)
            self._inputs = {"net/input_layer1": _Stream("net/input_layer1", (side, side, 3), *_PIXELS)}
            self._outputs = {
                one["name"]: _Stream(one["name"], tuple(one["shape"]), FormatType.UINT8, FormatOrder[one["order"]])
                for one in stated
            }
        assert isinstance(hef, bytes)

    @property
    def input_names(self) -> list[str]:
        return list(self._inputs)

    @property
    def output_names(self) -> list[str]:
        return list(self._outputs)

    def input(self, name: str = "") -> _Stream:
        return self._inputs[name]

    def output(self, name: str = "") -> _Stream:
        return self._outputs[name]

    def configure(self) -> ConfiguredInferModel:
        _may_fail("configure")
        return ConfiguredInferModel(self)

    def compute(self, bindings: _Bindings) -> None:
        stated = _control().get("outputs")
        if stated is None:
            scores = _read_digit(bindings.input("digits/input_layer1").buffer)
            bindings.output("digits/softmax1").buffer[:] = scores
            return
        for one in stated:
            buffer = bindings.output(one["name"]).buffer
            flat = buffer.reshape(-1)
            flat[:] = 0
            values = np.array(one["values"], buffer.dtype)
            flat[: len(values)] = values


_PIXELS = (FormatType.UINT8, FormatOrder.NHWC)
_sessions: list[Any] = []


def _read_digit(pixels: Any) -> Any:
    import onnxruntime

    if not _sessions:
        path = os.environ["EDGE_AGENT_DIGITS"]
        _sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    tensor = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    session = _sessions[0]
    return session.run(None, {session.get_inputs()[0].name: tensor})[0][0]


class _VDeviceParams:
    def __init__(self) -> None:
        self.scheduling_algorithm = HailoSchedulingAlgorithm.ROUND_ROBIN
        self.group_id = "UNIQUE"
        self.multi_process_service = False
        self.device_count = 1


class _Device:
    class control:
        @staticmethod
        def get_chip_temperature() -> Any:
            _may_fail("get_chip_temperature")
            return SimpleNamespace(ts0_temperature=50.5, ts1_temperature=51.25, sample_count=1)


class VDevice:
    def __init__(self, params: _VDeviceParams | None = None) -> None:
        _may_fail("VDevice")
        self.params = params
        self._pid = os.getpid()
        if seen := _control().get("seen"):
            assert params is not None
            Path(seen).write_text(json.dumps({**vars(params), "scheduling_algorithm": ""}))

    @staticmethod
    def create_params() -> _VDeviceParams:
        return _VDeviceParams()

    def create_infer_model(self, source: bytes, name: str = "") -> InferModel:
        assert os.getpid() == self._pid, "InferModel can be created only from the process VDevice was created in."
        _may_fail("create_infer_model")
        return InferModel(source)

    def get_physical_devices(self) -> list[_Device]:
        return [_Device()]

    def release(self) -> None:
        pass
