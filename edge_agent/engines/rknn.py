"""RKNN models on the NPU of a Rockchip board, with `rknn-toolkit-lite2`."""

from edge_agent.engines import Engine
from edge_agent.engines.accelerators import Target
from edge_agent.engines.chip_engine import ChipEngine
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.chips import LOADS
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system import chips

LIBRARY = "rknnlite"
# How the names of Rockchip's chips begin.
_FAMILIES = ("rk", "rv")
_OLD_LIBRARY = "librknnrt.so is older than the file, or damaged: install the one of rknn-toolkit-lite2's version"
_OTHER_CHIP = "the file is compiled for another chip: convert it for this one"
# Status codes of https://github.com/airockchip/rknn-toolkit2/blob/master/rknpu2/runtime/Linux/librknn_api/include/rknn_api.h.
HINTS = {
    -1: "its library or driver has failed: run `edge-agent doctor`; in a container, the NPU needs privileges",
    -2: "the NPU does not answer: restart the machine if it stays so, and do not run RKLLM beside it",
    -3: "the NPU's driver is not there, or in use: run `edge-agent doctor`",
    -4: "free some memory of the machine",
    -6: _OLD_LIBRARY,
    -10: _OTHER_CHIP,
    -11: _OLD_LIBRARY,
    -12: _OLD_LIBRARY,
    -13: _OTHER_CHIP,
}


def load(file: FileIdentity, target: Target, threads: int) -> Engine:
    """Loads an RKNN file, which has to be for the chip of this board.

    Raises:
        ModelError: this is another board, the library is not there, or it refuses the file.
    """
    del threads  # the NPU computes
    facts = inspect.read(file.path)
    check_board(facts.compiled.target if facts.compiled else "")
    inputs = [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in facts.inputs]
    return ChipEngine(file, target, LIBRARY, HINTS, {"inputs": inputs})


def check_board(compiled_for: str) -> None:
    """Checks that a file is for the chip of this board, before the driver sees it.

    Raises:
        ModelError: it is not, or this is no such board.
    """
    here = [chip for chip in chips.present() if chip in LOADS and chip.startswith(_FAMILIES)]
    if not here:
        raise ModelError(f"this machine has no Rockchip NPU by /proc/device-tree/compatible or {chips.VARIABLE}")
    if not any(compiled_for in LOADS[chip] for chip in here):
        raise ModelError(
            f"the file is compiled for {compiled_for}, and this board has an {here[0]}: convert it for {here[0]}"
        )
