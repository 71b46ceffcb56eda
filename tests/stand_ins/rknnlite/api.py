"""Stands in for `rknn-toolkit-lite2`: https://github.com/airockchip/rknn-toolkit2/tree/master/rknn-toolkit-lite2.

Importing it breaks Python's logging, failures are -1 or None, and the reason is only written to the output, all as in
the real one. The file that `EDGE_AGENT_STAND_IN` names says what fails: `at`, the name of a call, and `says`, `hang` or
`crash`; and what comes out: `outputs`, or with `digits` what the bundled reader of digits gives.
"""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

logging.root.handlers.clear()
logging.disable(logging.CRITICAL)


def _control() -> dict[str, Any]:
    path = os.environ.get("EDGE_AGENT_STAND_IN")
    found: dict[str, Any] = json.loads(Path(path).read_text()) if path else {}
    return found


def _fails(call: str) -> bool:
    control = _control()
    if control.get("at") != call:
        return False
    if control.get("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    while control.get("hang"):
        time.sleep(60)
    os.write(1, control.get("says", "").encode())
    return True


_sessions: list[Any] = []


def _read_digit(pixels: Any) -> Any:
    """The bundled reader of digits: grey pixels (1, 32, 24, 1) to eleven scores."""
    import onnxruntime

    if not _sessions:
        path = os.environ["EDGE_AGENT_DIGITS"]
        _sessions.append(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]))
    [session] = _sessions
    tensor = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return session.run(None, {session.get_inputs()[0].name: tensor})[0]


class RKNNLite:
    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1 = 3
    NPU_CORE_0_1_2 = 7
    NPU_CORE_ALL = 0xFFFF

    def __init__(self, verbose: bool = False, verbose_file: str | None = None) -> None:
        self._loaded = self._running = False

    def load_rknn(self, path: str) -> int:
        if _fails("load_rknn"):
            return -1
        self._loaded = Path(path).read_bytes().startswith(b"RKNN")
        return 0 if self._loaded else -1

    def init_runtime(self, target: str | None = None, core_mask: int = 0) -> int:
        if _fails("init_runtime"):
            return -1
        assert self._loaded
        self._running = True
        os.write(1, b"W rknn-toolkit-lite2 version: 2.3.2\nI RKNN: [14:09:40.197] RKNN Driver Information\n")
        if seen := _control().get("seen"):
            Path(seen).write_text(json.dumps({"core_mask": core_mask}))
        return 0

    def inference(
        self, inputs: list[Any], data_type: str | None = None, data_format: str | None = None
    ) -> list[Any] | None:
        assert self._running
        if _fails("inference"):
            return None
        stated = _control().get("outputs")
        if stated is None and _control().get("digits"):
            return [_read_digit(inputs[0])]
        if stated is None:
            return [inputs[0].astype(np.float32).mean(axis=(1, 2))]
        made = []
        for one in stated:
            array = np.zeros(one["shape"], np.float32)
            for place, value in one.get("values", []):
                array[tuple(place)] = value
            made.append(array)
        return made

    def get_sdk_version(self) -> str:
        return "RKNN VERSION:\n  API: 2.3.2\n  DRV: 0.9.8\nAPI version: 2.3.2"

    def release(self) -> None:
        self._running = False
