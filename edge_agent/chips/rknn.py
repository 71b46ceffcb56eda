"""RKNN models on Rockchip's NPUs, through `rknnlite.api`: https://github.com/airockchip/rknn-toolkit2.

Importing it breaks Python's logging, it reports failures as -1 or None, and says why only on its output, which is read
here: https://github.com/rockchip-linux/rknn-toolkit2/issues/312.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.chips.serving import ChipError, serve
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.worker_process import Channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Status codes of the C interface, rknn_api.h, that messages name.
STATUS = {
    "RKNN_ERR_FAIL": -1,
    "RKNN_ERR_TIMEOUT": -2,
    "RKNN_ERR_DEVICE_UNAVAILABLE": -3,
    "RKNN_ERR_MALLOC_FAIL": -4,
    "RKNN_ERR_PARAM_INVALID": -5,
    "RKNN_ERR_MODEL_INVALID": -6,
    "RKNN_ERR_CTX_INVALID": -7,
    "RKNN_ERR_INPUT_INVALID": -8,
    "RKNN_ERR_OUTPUT_INVALID": -9,
    "RKNN_ERR_DEVICE_UNMATCH": -10,
    "RKNN_INCOMPATILE_PRE_COMPILE_MODEL": -11,
    "RKNN_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION": -12,
    "RKNN_ERR_TARGET_PLATFORM_UNMATCH": -13,
}
_STDOUT, _STDERR = 1, 2
# Bytes at the end of what the library has written in one call that are searched for a reason.
_MAX_SAID = 16_384
_PICTURE = 4
_SENTENCE = re.compile("[A-Za-z]{3}")
_NO_REASONS = ("Catch exception", "Traceback", "File ")


def main(channel: Channel) -> None:
    """The process."""
    serve(channel, Rknn)


class Rknn:
    """See `Chip`.

    Args:
        request: `file`; `inputs`: facts of the input tensors, which the library does not report; `options`: cores.

    Raises:
        ChipError: see `Chip`.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._said = os.memfd_create("said")
        os.dup2(self._said, _STDOUT)
        os.dup2(self._said, _STDERR)
        self.inputs: list[dict[str, Any]] = request["inputs"]
        try:
            from rknnlite.api import RKNNLite

            self._lite: Any = RKNNLite(verbose=False)
            with FileIdentity.from_json(request["file"]).copied() as path:
                self._check(self._lite.load_rknn(str(path)), "load_rknn")
        except ImportError as error:
            raise ChipError(str(error)) from error
        cores = str(request["options"].get("cores", "auto")).upper()
        masks = {} if cores == "AUTO" else {"core_mask": getattr(RKNNLite, f"NPU_CORE_{cores}", None)}
        if None in masks.values():
            raise ChipError(f"this rknnlite has no core mask NPU_CORE_{cores}")
        self._check(self._lite.init_runtime(**masks), "init_runtime")
        self.runtime = f"RKNN {self._version()}"
        blank = [np.zeros([max(1, size) for size in one["shape"]], one["dtype"]) for one in self.inputs]
        self.outputs = [
            {"name": f"output{at}", "shape": list(array.shape), "dtype": array.dtype.name}
            for at, array in enumerate(self.run(blank, 0.0))
        ]

    def run(self, arrays: Sequence["NDArray[Any]"], timeout: float) -> list["NDArray[Any]"]:
        """See `Chip.run`; the library has no time limit of its own."""
        del timeout
        self._forget()
        layout = {"data_format": "nhwc"} if all(array.ndim == _PICTURE for array in arrays) else {}
        outputs = self._lite.inference(inputs=[np.ascontiguousarray(array) for array in arrays], **layout)
        if outputs is None:
            raise self._error("inference")
        return [np.asarray(output) for output in outputs]

    def temperature(self) -> float | None:
        """See `Chip.temperature`: the chip is the board's own, whose temperature the agent reports."""
        return None

    def close(self) -> None:
        """See `Chip.close`."""
        self._lite.release()

    def _check(self, code: Any, call: str) -> None:
        if code != 0:
            raise self._error(call)

    def _error(self, call: str) -> ChipError:
        """Why a call has failed, from what the library has written meanwhile."""
        size = os.fstat(self._said).st_size
        text = os.pread(self._said, _MAX_SAID, max(0, size - _MAX_SAID)).decode(errors="replace")
        name = next((name for name in STATUS if name in text), "")
        lines = [found[1].strip() for found in re.finditer(r"^E (?:RKNN: \[[\d:.]+\] )?(.+)$", text, re.MULTILINE)]
        reasons = [line for line in lines if _SENTENCE.search(line) and not line.startswith(_NO_REASONS)]
        return ChipError(f"{call} failed: {reasons[0] if reasons else name or 'no reason given'}", STATUS.get(name, 0))

    def _forget(self) -> None:
        os.ftruncate(self._said, 0)
        os.lseek(self._said, 0, os.SEEK_SET)

    def _version(self) -> str:
        found = re.search(r"(?:API|librknnrt) version:? ?v?(\d[\w.]*)", str(self._lite.get_sdk_version()))
        return found[1] if found else "of unknown version"


if TYPE_CHECKING:
    from edge_agent.chips.serving import Chip

    _: type[Chip] = Rknn
