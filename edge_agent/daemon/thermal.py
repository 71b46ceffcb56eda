"""The temperature of the device, and how far live sources are slowed down because of it.

Everything is read from /sys: temperatures, the cooling devices by which the kernel lowers the CPU's frequency
(https://docs.kernel.org/driver-api/thermal/sysfs-api.html), and on a Raspberry Pi the firmware's flags, the same as
`vcgencmd get_throttled` (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled). The limits of
cpufreq are not used: they may as well have been set by the owner.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.system.text import read_attribute

log = logging.getLogger(__name__)

READ_EVERY = 5.0
# Seconds. A step takes effect only after a while.
STEP_EVERY = 10.0
STEP = 2.0
# °C below `slow_down_at` at which live sources speed up again.
HYSTERESIS = 5.0
# °C; some drivers report nonsense for a sensor that is off.
PLAUSIBLE = (-40.0, 150.0)
FIRMWARE = Path("devices/platform/soc/soc:firmware/get_throttled")
# Flags of the firmware for the present state; those from bit 16 on are set if it has occurred since the start.
NOW = 0b1111
_CPU = re.compile(r"cpu|soc|pkg|package|core|big|little", re.IGNORECASE)
_CPU_COOLING = re.compile(r"cpufreq|processor|cpu-idle", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heat:
    """The sensors' readings; None where there is no sensor.

    Attributes:
        temperature: of the CPU, in °C.
        throttled: whether the CPU is throttled, because of its temperature or its power supply.
    """

    temperature: float | None
    throttled: bool | None


def read_heat(sys: Path) -> Heat:
    """Reads all sensors.

    Args:
        sys: the folder /sys.
    """
    zones = list(_zones(sys / "class" / "thermal"))
    # A phone has dozens of zones, some of them of its battery.
    temperatures = [celsius for name, celsius in zones if _CPU.search(name)] or [celsius for _, celsius in zones]
    signs = list(_signs_of_throttling(sys))
    return Heat(max(temperatures, default=None), any(signs) if signs else None)


def _zones(folder: Path) -> Iterator[tuple[str, float]]:
    for zone in folder.glob("thermal_zone*"):
        celsius = (_number(zone / "temp") or 0.0) / 1000
        if celsius and PLAUSIBLE[0] < celsius < PLAUSIBLE[1]:
            yield _text(zone / "type"), celsius


def _signs_of_throttling(sys: Path) -> Iterator[bool]:
    if (word := _number(sys / FIRMWARE, 16)) is not None:
        yield bool(int(word) & NOW)
    for device in (sys / "class" / "thermal").glob("cooling_device*"):
        if _CPU_COOLING.search(_text(device / "type")) and (state := _number(device / "cur_state")) is not None:
            yield state > 0


def _number(file: Path, base: int = 10) -> float | None:
    try:
        return int(_text(file), base)
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return read_attribute(file)
    except OSError:
        return ""  # the sensor is off, or this user may not read it


class Thermal:
    """Watches the temperature, and sets the share of its work that a live source may do.

    Args:
        options: the thresholds; may be replaced at any time.
        sys: the folder /sys; default: `EDGE_AGENT_SYS`, or /sys.

    Attributes:
        factor: that share, above 0 to 1.
    """

    def __init__(self, options: settings.Thermal, sys: Path | None = None) -> None:
        self.options = options
        self.factor = 1.0
        self._sys = Path(os.environ.get("EDGE_AGENT_SYS", "/sys")) if sys is None else sys
        self._heat = Heat(None, None)
        self._next_step = 0.0

    def update(self, now: float) -> None:
        """Reads the sensors, and slows down or speeds up by one step where that is due.

        Args:
            now: on the monotonic clock.
        """
        self._heat = read_heat(self._sys)

        if (wanted := self._wanted()) == self.factor or now < self._next_step:
            return
        self._next_step = now + STEP_EVERY
        before, self.factor = self.factor, wanted
        log.debug("thermal: factor %g, before %g (%s)", wanted, before, self._in_words())
        if before == 1:
            log.warning("%s: slowing down live sources", self._in_words())
        elif wanted == 1:
            log.info("%s: live sources at full rate again", self._in_words())

    def _wanted(self) -> float:
        limit, celsius = self.options.slow_down_at, self._heat.temperature
        if limit == "never":
            return 1.0
        if self._heat.throttled or (celsius is not None and celsius >= limit):
            return max(self.options.min_rate, self.factor / STEP)
        if celsius is None or celsius <= limit - HYSTERESIS:
            return min(1.0, self.factor * STEP)
        return self.factor

    def _in_words(self) -> str:
        celsius = "" if self._heat.temperature is None else f"{self._heat.temperature:.0f} °C"
        throttled = "the CPU is throttled" if self._heat.throttled else ""
        return ", ".join(filter(None, (celsius, throttled))) or "no sensor"

    def as_dict(self) -> dict[str, Any]:
        """As published in `stats`."""
        celsius = self._heat.temperature
        return {
            "temperature_c": None if celsius is None else round(celsius, 1),
            "throttled": self._heat.throttled,
            "factor": self.factor,
        }
