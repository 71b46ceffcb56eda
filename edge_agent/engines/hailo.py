"""HEF models on Hailo-8, 8L and 10H, with the HailoRT that the system has."""

from edge_agent.engines import Engine
from edge_agent.engines.accelerators import Target
from edge_agent.engines.chip_engine import ChipEngine
from edge_agent.modelfile import inspect
from edge_agent.modelfile.identity import FileIdentity

LIBRARY = "hailo_platform"
_SKEW = "driver, library and Python binding must be of one version: run `edge-agent doctor`"
_HELD = (
    "another process holds the device: stop it, or share it: `sudo systemctl enable --now hailort.service` "
    "(Hailo-8, 8L); hailo-ollama holds a 10H"
)
_RESET = "the device does not answer: if it stays so, restart the machine, and look at its power supply and temperature"
_OTHER_CHIP = "the file is compiled for another chip: use one for this chip (a Hailo-8L runs files for HAILO8L only)"
_FILE = "the file is damaged, or too new for this HailoRT: copy it again, or compile it with an older Dataflow Compiler"
_LOST = "the device is gone: look at `dmesg | grep -i hailo`"
# Status codes of https://github.com/hailo-ai/hailort/blob/master/hailort/libhailort/include/hailo/hailort.h.
HINTS = {
    3: "free some memory of the machine",
    4: _RESET,
    15: _SKEW,
    16: "the firmware is of another version than the library: run `edge-agent doctor`",
    23: "the firmware file is damaged: `sudo apt install --reinstall hailofw`",
    26: _FILE,
    36: f"the driver refuses: {_SKEW}; the reason is in `dmesg | grep -i hailo`",
    62: _LOST,
    63: _RESET,
    64: "its driver is not loaded: run `edge-agent doctor`",
    71: "the models do not fit the chip together: use a smaller one",
    73: _HELD,
    74: _HELD,
    75: _OTHER_CHIP,
    76: _SKEW,
    77: "HailoRT's service does not answer: `sudo systemctl restart hailort.service`",
    78: "HailoRT's service is of another version than the library: `sudo systemctl restart hailort.service`",
    81: "the kernel has no contiguous memory left: restart the machine",
    82: _RESET,
    85: _SKEW,
    86: _SKEW,
    87: _RESET,
    89: "HailoRT's service does not run: `sudo systemctl enable --now hailort.service`",
    91: _FILE,
    92: _FILE,
    93: _OTHER_CHIP,
    96: _LOST,
    97: _RESET,
}


def load(file: FileIdentity, target: Target, threads: int) -> Engine:
    """Loads a HEF file; its outputs are in the order of the file.

    Raises:
        ModelError: HailoRT is not there or refuses the file, or no chip is free.
    """
    del threads  # the chip computes
    names = [output.name for output in inspect.read(file.path).outputs]
    return ChipEngine(file, target, LIBRARY, HINTS, {"outputs": names})
