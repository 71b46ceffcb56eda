"""Linux industrial I/O (IIO) sensors: each reading is polled, or readings are taken from the kernel's buffer."""

import logging
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from edge_agent import settings
from edge_agent.errors import InputError, SourceError
from edge_agent.samples import Sample, Series
from edge_agent.sources import Context, iio_device
from edge_agent.sources.iio_device import Channel, Element
from edge_agent.sources.reader import Reader
from edge_agent.sources.streams import SampleBuilder
from edge_agent.system.text import read_attribute

log = logging.getLogger(__name__)

DEV = Path("/dev")
# How often a quiet device is checked for `stopping`.
_POLL_MS = 200
# Length of the kernel's buffer in seconds, and its minimum in readings.
_SECONDS, _READINGS = 2, 128
_CHUNK = 65536


class Sensor:
    """Readings of a device, as they arrive."""

    live = True

    def __init__(self, source: settings.IioSource) -> None:
        self.name = f"iio {source.device}"
        self.stall_timeout = source.stall_timeout
        self._settings = source
        self._broken = False

    def samples(self, stopping: threading.Event) -> Iterator[Sample | None]:
        """One reading per sample or, from the buffer, all that have arrived; `origin` has the units."""
        try:
            folder = iio_device.find(self._settings.device, iio_device.ROOT)
            channels = iio_device.channels(folder, self._settings.channels)
            facts = {
                channel.name: {"unit": channel.unit, "scale": channel.scale, "offset": channel.offset}
                for channel in channels
            }
            samples_of = SampleBuilder({"device": iio_device.name_of(folder), "channels": facts}, broken=self._broken)
            log.debug("%s: opened %s: %s", self.name, folder, ", ".join(facts))
            if self._settings.buffered:
                readings = self._buffered(folder, channels, stopping)
            else:
                readings = self._polled(channels, stopping)
            for found in readings:
                self._broken = True
                yield from samples_of([found])
        except SourceError as error:
            raise SourceError(f"{self.name}: {error}") from None

    def _polled(self, channels: list[Channel], stopping: threading.Event) -> Iterator[Series | InputError]:
        rate = self._settings.rate or 1.0
        names = tuple(channel.name for channel in channels)
        due, late, reported = time.monotonic(), False, False
        while not stopping.wait(max(0.0, due - time.monotonic())):
            try:
                values = np.array([[channel.read() for channel in channels]], np.float32)
            except InputError as error:
                yield error
            else:
                yield Series(values, names, rate, gap=late)
            due += 1 / rate
            if late := time.monotonic() > due + 1 / rate:
                due = time.monotonic()
                if not reported:
                    log.warning("%s: can't be read %g times a second: readings are missing", self.name, rate)
                reported = True

    def _buffered(
        self, folder: Path, channels: list[Channel], stopping: threading.Event
    ) -> Iterator[Series | InputError]:
        with _buffer(folder, channels, self._settings.rate) as (descriptor, elements, rate):
            scan = iio_device.layout(elements)
            of = {element.name: element for element in elements}
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            rest = b""
            while not stopping.is_set():
                if not poller.poll(_POLL_MS):
                    continue
                data = os.read(descriptor, _CHUNK - _CHUNK % scan.itemsize)
                if not data:
                    raise SourceError("the buffer has ended: was the device unplugged?")
                rest += data
                whole = len(rest) - len(rest) % scan.itemsize
                scans, rest = np.frombuffer(rest[:whole], scan), rest[whole:]
                if len(scans):
                    values = [_real(channel, of[channel.name], scans[channel.name]) for channel in channels]
                    yield Series(
                        np.stack(values, axis=1).astype(np.float32), tuple(channel.name for channel in channels), rate
                    )


def _real(
    channel: Channel, element: Element, stored: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Values (readings,) in the channel's unit from stored numbers (readings,)."""
    return (element.value(stored.astype(np.int64)) + channel.offset) * channel.scale


@contextmanager
def _buffer(
    folder: Path, channels: list[Channel], rate: float | None
) -> Iterator[tuple[int, list[Element], float | None]]:
    """Enables the buffer for these channels, and disables it at the end.

    Yields:
        File descriptor, elements of a scan, readings per second (None if the device does not state it).

    Raises:
        SourceError: it can't be enabled.
    """
    buffer, scan = folder / "buffer", folder / "scan_elements"
    if not buffer.is_dir():
        raise SourceError("has no buffer: leave out `buffered`, and state a rate")
    missing = [channel.name for channel in channels if not (scan / f"in_{channel.name}_en").exists()]
    if missing:
        raise SourceError(f"has no {missing[0]} in its buffer")
    path = DEV / folder.name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is in use by another program" if error.errno == 16 else error.strerror  # noqa: PLR2004 - EBUSY
        raise SourceError(f"{path} can't be opened: {why}") from None
    try:
        _write(buffer / "enable", 0)  # may have been left enabled by a program that was killed
        wanted = {f"in_{channel.name}_en" for channel in channels}
        for file in scan.glob("*_en"):
            _write(file, int(file.name in wanted))
        if rate is not None:
            _write(folder / "sampling_frequency", rate)
        real = _own_rate(folder) or rate
        _write(buffer / "length", max(_READINGS, round(_SECONDS * (real or 0))))
        _write(buffer / "enable", 1)
        elements = iio_device.elements(folder)  # the driver may have enabled more
        yield descriptor, elements, real
    finally:
        with suppress(SourceError):
            _write(buffer / "enable", 0)
        os.close(descriptor)


def _write(file: Path, value: float) -> None:
    try:
        file.write_text(f"{value:g}")
    except OSError as error:
        hint = {
            13: "this user may not write there (for the service: ProtectKernelTunables=no, and a udev rule)",
            22: "the device does not take it (a buffer needs a trigger: trigger/current_trigger)",
        }.get(error.errno or 0, "")
        raise SourceError(
            f"{file.parent.name}/{file.name} can't be set to {value:g}: {error.strerror} {hint}"
        ) from None


def _own_rate(folder: Path) -> float | None:
    try:
        return float(read_attribute(folder / "sampling_frequency"))
    except (OSError, ValueError):
        return None


def create(source: settings.IioSource, context: Context) -> Reader:  # noqa: ARG001 - every source is created alike
    """The source for the settings."""
    return Reader(Sensor(source))
