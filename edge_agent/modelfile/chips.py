"""Chips that files are compiled for, and which of those files each can load."""

# Chip -> the targets of files that it can load, as their compilers call them.
# Hailo: `hef_arch_to_device_compatible_archs` in
# https://github.com/hailo-ai/hailort/blob/master/hailort/libhailort/src/device_common/device_internal.cpp
# Rockchip: `target_platform` of https://github.com/airockchip/rknn-toolkit2; its examples use one file for RK3566 and
# RK3568.
LOADS: dict[str, tuple[str, ...]] = {
    "hailo8": ("HAILO8", "HAILO8P", "HAILO8R", "HAILO8L"),
    "hailo8l": ("HAILO8L",),
    "hailo10h": ("HAILO10H", "HAILO15H", "HAILO15M"),
    "hailo15h": ("HAILO10H", "HAILO15H", "HAILO15M"),
    "hailo15m": ("HAILO15M",),
    "hailo15l": ("HAILO15L",),
    "rk3562": ("rk3562",),
    "rk3566": ("rk3566", "rk3568"),
    "rk3568": ("rk3566", "rk3568"),
    "rk3576": ("rk3576",),
    "rk3588": ("rk3588",),
    "rv1103": ("rv1103",),
    "rv1103b": ("rv1103b",),
    "rv1106": ("rv1106",),
    "rv1106b": ("rv1106b",),
    "rv1126b": ("rv1126b",),
    "rk2118": ("rk2118",),
    "imx500": ("IMX500",),
}


def that_load(target: str) -> tuple[str, ...]:
    """The chips that can load files for a target, the one that it is called after first."""
    found = [chip for chip, targets in LOADS.items() if target in targets]
    return tuple(sorted(found, key=lambda chip: chip != target.lower()))


def accelerator_of(name: str) -> str:
    """The accelerator, as in `accelerators:`, that files for a chip run on; any other name is one itself."""
    if name not in LOADS:
        return name
    if name == "imx500":
        return name
    return "hailo" if name.startswith("hailo") else "rknn"


def loadable(chip: str) -> tuple[str, ...]:
    """The chips whose files a chip can load, the chip itself first."""
    targets = LOADS.get(chip, ())
    found = [other for other in LOADS if accelerator_of(other) == accelerator_of(chip) and _own(other) in targets]
    return tuple(sorted(found, key=lambda other: other != chip))


def _own(chip: str) -> str:
    """The target that is a chip's own."""
    return next((target for target in LOADS[chip] if target.lower() == chip), "")
