"""The description of an IIO sensor in sysfs: its channels, their units, and the layout of its buffer.

The kernel's documentation: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-bus-iio.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import InputError, SourceError
from edge_agent.system.text import read_attribute

ROOT = Path("/sys/bus/iio/devices")

# Kind of channel -> unit of its values after offset and scale.
UNITS = {
    "accel": "m/s²",
    "altvoltage": "mV",
    "angl": "rad",
    "anglvel": "rad/s",
    "capacitance": "nF",
    "concentration": "%",
    "current": "mA",
    "distance": "m",
    "energy": "J",
    "gravity": "m/s²",
    "humidityrelative": "m%",
    "illuminance": "lx",
    "incli": "°",
    "magn": "G",
    "power": "mW",
    "pressure": "kPa",
    "resistance": "Ω",
    "temp": "m°C",
    "velocity": "m/s",
    "voltage": "mV",
}
_KIND = re.compile("[a-z]+")
_TYPE = re.compile(r"(be|le):([su])(\d+)/(8|16|32|64)>>(\d+)")


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity that a device measures: (raw + offset) * scale, in `unit`.

    Attributes:
        name: as in sysfs, without `in_` and what follows: `accel_x`.
        file: its content is the latest raw value.
        unit: "" if the kernel defines none.
    """

    name: str
    file: Path
    scale: float
    offset: float
    unit: str

    def read(self) -> float:
        """Reads the latest value, in `unit`.

        Raises:
            InputError: it can't be read at the moment.
            SourceError: the device is gone.
        """
        try:
            raw = float(read_attribute(self.file))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SourceError(f"{self.file.parent.name} is gone: was it unplugged?") from error
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) == 19:  # noqa: PLR2004 - ENODEV
                raise SourceError(f"{self.file.parent.name} is gone: was it unplugged?") from error
            reason = getattr(error, "strerror", None) or "no number"
            raise InputError(f"{self.name} can't be read: {reason}") from error
        return (raw + self.offset) * self.scale


@dataclass(frozen=True, slots=True)
class Element:
    """A channel in a scan of the buffer, and how it is stored there.

    Attributes:
        name: of the channel.
        index: its position in the order of the channels.
        dtype: numpy type of the stored number.
        bits: number of valid bits, from the least significant one after the shift.
        shift: by how many bits to the right.
    """

    name: str
    index: int
    dtype: str
    bits: int
    shift: int

    def value(
        self, stored: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    ) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """Raw values (readings,), float64, from stored numbers (readings,), int64: shifted and sign-extended."""
        unused = 64 - self.bits
        counted = (stored >> self.shift) << unused
        if self.dtype[1] == "u":
            return (counted.view(np.uint64) >> np.uint64(unused)).astype(np.float64)
        return (counted >> unused).astype(np.float64)


def find(device: int | str, root: Path) -> Path:
    """The folder of a device given by number, name or label.

    Raises:
        SourceError: there is none; lists those that exist.
    """
    folders = sorted(root.glob("iio:device*"), key=lambda folder: (len(folder.name), folder.name))
    for folder in folders:
        if str(device) in (folder.name.removeprefix("iio:device"), _text(folder / "name"), _text(folder / "label")):
            return folder
    known = ", ".join(f"{folder.name.removeprefix('iio:device')} ({name_of(folder)})" for folder in folders) or "none"
    raise SourceError(f"there is no such device: is its driver loaded? There is: {known}")


def name_of(folder: Path) -> str:
    """The device's label, else the driver's name for it."""
    return _text(folder / "label") or _text(folder / "name") or folder.name


def channels(folder: Path, wanted: Sequence[str] | None) -> list[Channel]:
    """The channels of a device: all, or the wanted ones in their order.

    Raises:
        SourceError: there is none, or one of the wanted ones is missing; lists those that exist.
    """
    found = {}
    for file in sorted(folder.glob("in_*_raw")) + sorted(folder.glob("in_*_input")):
        name = file.name.removeprefix("in_").rpartition("_")[0]
        if name not in found:
            found[name] = _channel(folder, name, file)
    missing = [name for name in wanted or () if name not in found]
    if missing or not found:
        known = ", ".join(found) or "none"
        raise SourceError(f"has no channel {missing[0] if missing else 'that can be read'}; there is: {known}")
    return [found[name] for name in wanted or found]


def elements(folder: Path) -> list[Element]:
    """The enabled elements of the buffer, in the order in which they are stored.

    Raises:
        SourceError: the driver describes one in an unknown way.
    """
    scan = folder / "scan_elements"
    found = []
    for file in scan.glob("in_*_en"):
        if _text(file) != "1":
            continue
        name = file.name.removesuffix("_en")
        kind = _text(scan / f"{name}_type")
        match = _TYPE.fullmatch(kind)
        if match is None:
            raise SourceError(f"the buffer has {name} as {kind!r}, which is not known here")
        order, sign, bits, storage, shift = match.groups()
        dtype = f"{'>' if order == 'be' else '<'}{'u' if sign == 'u' else 'i'}{int(storage) // 8}"
        index = int(_text(scan / f"{name}_index") or 0)
        found.append(Element(name.removeprefix("in_"), index, dtype, int(bits), int(shift)))
    return sorted(found, key=lambda element: element.index)


def layout(found: Sequence[Element]) -> "np.dtype[np.void]":
    """The type of one scan: each element is aligned to its size, the scan to that of its largest element."""
    offsets, end, largest = [], 0, 1
    for element in found:
        size = np.dtype(element.dtype).itemsize
        offsets.append(-(-end // size) * size)
        end, largest = offsets[-1] + size, max(largest, size)
    return np.dtype(
        {
            "names": [element.name for element in found],
            "formats": [element.dtype for element in found],
            "offsets": offsets,
            "itemsize": -(-end // largest) * largest,
        }
    )


def _channel(folder: Path, name: str, file: Path) -> Channel:
    match = _KIND.match(name)
    kind = match[0] if match else name
    if file.name.endswith("_input"):
        return Channel(name, file, 1.0, 0.0, UNITS.get(kind, ""))
    scale, offset = (_number(folder, name, kind, what) for what in ("scale", "offset"))
    return Channel(name, file, 1.0 if scale is None else scale, offset or 0.0, UNITS.get(kind, "") if scale else "")


def _number(folder: Path, name: str, kind: str, what: str) -> float | None:
    """Scale or offset of a channel: its own, or that of all channels of its kind."""
    for file in (folder / f"in_{name}_{what}", folder / f"in_{kind}_{what}"):
        try:
            return float(_text(file))
        except ValueError:
            continue
    return None


def _text(file: Path) -> str:
    try:
        return read_attribute(file)
    except OSError:
        return ""
