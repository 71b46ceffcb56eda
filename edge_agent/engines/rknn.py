"""RKNN models on the NPU of a Rockchip board, with `rknn-toolkit-lite2`."""

from collections.abc import Iterable
from pathlib import Path

from edge_agent.engines import Engine
from edge_agent.engines.accelerators import Target
from edge_agent.engines.chip_engine import ChipEngine
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.modelfile.chips import LOADS, accelerator_of
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system import chips as machine

LIBRARY = "rknnlite"
# Strings that end in U+0000, such as `radxa,rock-5b` and `rockchip,rk3588`.
COMPATIBLE = Path("/proc/device-tree/compatible")
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
    check_board(facts.compiled.target if facts.compiled else "", board())
    inputs = [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in facts.inputs]
    return ChipEngine(file, target, LIBRARY, HINTS, {"inputs": inputs})


def board() -> str:
    """The Rockchip chip of this machine, such as `rk3588`; "" if it has none that is known."""
    if (named := machine.stated()) is not None:
        return next((chip for chip in named if accelerator_of(chip) == "rknn"), "")
    try:
        return chip_of(COMPATIBLE.read_bytes().decode(errors="replace").split("\0"))
    except OSError:
        return ""


def chip_of(names: Iterable[str]) -> str:
    """The Rockchip chip in the names of a device tree, such as `rockchip,rk3588`; "" if none is known."""
    # The chip is called by a variant at times: rk3588s.
    models = [name.partition(",")[2] for name in names if name.startswith("rockchip,")]
    return next((chip for chip in sorted(LOADS, reverse=True) for name in models if name.startswith(chip)), "")


def check_board(compiled_for: str, chip: str) -> None:
    """Checks that a file is for the chip of this board, before the driver sees it.

    Raises:
        ModelError: it is not, or this is no such board.
    """
    if not chip:
        raise ModelError(f"this machine has no Rockchip NPU: {COMPATIBLE} names none")
    if compiled_for not in LOADS[chip]:
        raise ModelError(
            f"the file is compiled for {compiled_for}, and this board has an {chip}: convert it for {chip}"
        )
