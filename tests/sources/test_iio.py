"""Industrial I/O devices in a made-up sysfs, with a FIFO as the character device."""

import contextlib
import math
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.sources import iio, iio_device, reader
from edge_agent.sources.iio_device import Element, channels, find, layout
from tests.sources.contract import Readings, ReadingsContract, SpoilableReadingsContract
from tests.sources.listener import Listener

# As Linux shows an accelerometer with a thermometer, an ADC of which one input is scaled, and a barometer that gives
# values without a scale.
TREE = {
    "iio:device0": {
        "name": "lsm6dsl_accel",
        "label": "lid",
        "in_accel_x_raw": "100",
        "in_accel_y_raw": "-200",
        "in_accel_z_raw": "16384",
        "in_accel_scale": "0.000598",
        "in_temp_raw": "1000",
        "in_temp_scale": "3.90625",
        "in_temp_offset": "6400",
        "sampling_frequency": "52.0",
        "sampling_frequency_available": "12.5 26.0 52.0 104.0",
        "buffer/enable": "0",
        "buffer/length": "2",
        "scan_elements/in_accel_x_en": "0",
        "scan_elements/in_accel_x_index": "0",
        "scan_elements/in_accel_x_type": "le:s16/16>>0",
        "scan_elements/in_accel_y_en": "0",
        "scan_elements/in_accel_y_index": "1",
        "scan_elements/in_accel_y_type": "le:s16/16>>0",
        "scan_elements/in_accel_z_en": "0",
        "scan_elements/in_accel_z_index": "2",
        "scan_elements/in_accel_z_type": "le:s16/16>>0",
        "scan_elements/in_timestamp_en": "1",
        "scan_elements/in_timestamp_index": "3",
        "scan_elements/in_timestamp_type": "le:s64/64>>0",
    },
    "iio:device1": {
        "name": "ads1015",
        "in_voltage0_raw": "812",
        "in_voltage0_scale": "3.0",
        "in_voltage1_raw": "7",
    },
    "iio:device10": {"name": "bmp280", "in_pressure_input": "101.325"},
}


class Machine:
    """Sysfs and /dev of a machine with these sensors."""

    def __init__(self, folder: Path) -> None:
        self.sysfs, self.dev = folder / "sysfs", folder / "dev"
        self.dev.mkdir(parents=True)
        for device, files in TREE.items():
            for name, content in files.items():
                file = self.sysfs / device / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{content}\n")
        os.mkfifo(self.dev / "iio:device0")
        self._fifo = os.open(self.dev / "iio:device0", os.O_RDWR)
        self.written = 0

    def set(self, file: str, content: str) -> None:
        # At once, as the kernel does it.
        (self.sysfs / "new").write_text(content)
        (self.sysfs / "new").rename(self.sysfs / "iio:device0" / file)

    def get(self, file: str) -> str:
        return (self.sysfs / "iio:device0" / file).read_text().strip()

    def push(self, count: int) -> None:
        """Puts scans of three axes into the buffer: n, -n, 2n."""
        for _ in range(count):
            self.written += 1
            os.write(self._fifo, struct.pack("<3h", self.written, -self.written, 2 * self.written))

    def unplug(self) -> None:
        shutil.rmtree(self.sysfs / "iio:device0")
        (self.dev / "iio:device0").unlink()
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fifo)

    def listener(self, **keys: Any) -> Listener:
        return Listener({"type": "iio", "device": "lsm6dsl_accel"} | keys, self.sysfs)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path)
    monkeypatch.setattr(iio_device, "ROOT", made.sysfs)
    monkeypatch.setattr(iio, "DEV", made.dev)
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.2)
    yield made
    made.close()


AXES = ["accel_x", "accel_y", "accel_z"]


class TestPolled(SpoilableReadingsContract):
    @pytest.fixture
    def setup(self, machine: Machine) -> Readings:
        def spoil() -> None:
            machine.set("in_accel_y_raw", "")

        def fix(_: int) -> None:
            machine.set("in_accel_y_raw", "-200")

        return Readings(
            open=lambda: machine.listener(rate=200, channels=AXES),
            origin={"device", "channels"},
            feed=fix,
            spoil=spoil,
        )


class TestBuffered(ReadingsContract):
    @pytest.fixture
    def setup(self, machine: Machine) -> Readings:
        return Readings(
            open=lambda: machine.listener(buffered=True, channels=AXES), origin={"device"}, feed=machine.push
        )


@pytest.mark.parametrize("device", [0, "0", "lsm6dsl_accel", "lid"])
def test_a_device_is_found_by_number_name_or_label(device: int | str, machine: Machine) -> None:
    assert find(device, machine.sysfs).name == "iio:device0"


def test_a_device_that_is_not_there_is_answered_with_those_that_are(machine: Machine) -> None:
    with machine.listener(device="gyro", rate=10) as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == [
        "iio gyro: there is no such device: is its driver loaded? There is: 0 (lid), 1 (ads1015), 10 (bmp280)"
    ]


def test_values_are_in_the_kernel_s_units_which_are_told(machine: Machine) -> None:
    with machine.listener(rate=100) as listener:
        listener.wait_for_readings(1)
    [series, *_] = listener.series
    assert series.channels == (*AXES, "temp")
    assert series.rate == 100
    assert series.values[0].tolist() == pytest.approx(
        [100 * 0.000598, -200 * 0.000598, 16384 * 0.000598, (1000 + 6400) * 3.90625]
    )
    origin = listener.samples[0].origin
    assert origin["device"] == "lid"
    assert origin["channels"]["accel_x"] == {"unit": "m/s²", "scale": 0.000598, "offset": 0}
    assert origin["channels"]["temp"] == {"unit": "m°C", "scale": 3.90625, "offset": 6400}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (1, {"voltage0": (2436, "mV"), "voltage1": (7, "")}),
        (10, {"pressure": (101.325, "kPa")}),
    ],
)
def test_a_channel_without_a_scale_has_no_unit_unless_the_kernel_has_applied_it(
    device: int, expected: dict[str, Any], machine: Machine
) -> None:
    found = {channel.name: (channel.read(), channel.unit) for channel in channels(find(device, machine.sysfs), None)}
    assert found == expected


def test_a_channel_that_is_not_there_is_answered_with_those_that_are(machine: Machine) -> None:
    with pytest.raises(SourceError) as caught:
        channels(find(0, machine.sysfs), ["accel_x", "anglvel_x"])
    assert str(caught.value) == "has no channel anglvel_x; there is: accel_x, accel_y, accel_z, temp"


def test_readings_come_at_the_rate_that_is_asked_for(machine: Machine) -> None:
    with machine.listener(rate=100) as listener:
        listener.wait_for_readings(50)
    first, last = listener.samples[0], listener.samples[49]
    assert last.captured - first.captured >= 0.48


def test_a_sensor_that_disappears_is_noticed_said_once_and_found_again(machine: Machine) -> None:
    with machine.listener(rate=100, channels=AXES) as listener:
        listener.wait_for_readings(3)
        machine.unplug()
        listener.wait_for(lambda listener: len(listener.troubles) >= 2, "that it is gone, and that it stays away")
        plugged_in_again = Machine(machine.sysfs.parent / "again")
        (plugged_in_again.sysfs / "iio:device0").rename(machine.sysfs / "iio:device0")
        listener.wait_for(lambda listener: any(series.gap for series in listener.series), "readings again")
        plugged_in_again.close()
    assert listener.troubles[0] == "iio lsm6dsl_accel: iio:device0 is gone: was it unplugged?"
    assert listener.troubles[1].startswith("iio lsm6dsl_accel: there is no such device")
    assert len(listener.troubles) == 2


def test_the_buffer_is_set_up_for_the_wanted_channels_and_switched_off_again(machine: Machine) -> None:
    machine.set("buffer/enable", "1")  # left on by a program that was killed
    with machine.listener(buffered=True, channels=["accel_z", "accel_x"], rate=104) as listener:
        listener.wait_for(lambda _: machine.get("buffer/enable") == "1", "the buffer is switched on")
        listener.wait_for(lambda _: machine.get("buffer/length") == "208", "the buffer is large enough")
        enabled = {name: machine.get(f"scan_elements/in_{name}_en") for name in (*AXES, "timestamp")}
        assert enabled == {"accel_x": "1", "accel_y": "0", "accel_z": "1", "timestamp": "0"}
        assert machine.get("sampling_frequency") == "104"
    assert machine.get("buffer/enable") == "0"
    assert listener.troubles == []


def test_scans_of_the_buffer_are_readings_at_the_device_s_rate(machine: Machine) -> None:
    with machine.listener(buffered=True, channels=["accel_z", "accel_x", "accel_y"]) as listener:
        listener.wait_for(lambda _: machine.get("buffer/enable") == "1", "the buffer is switched on")
        machine.push(1000)
        listener.wait_for_readings(1000)
    expected = np.array([[2 * n, n, -n] for n in range(1, 1001)]) * 0.000598
    assert np.allclose(listener.values, expected)
    assert {series.rate for series in listener.series} == {52}
    assert {series.channels for series in listener.series} == {("accel_z", "accel_x", "accel_y")}


def test_a_device_without_a_buffer_says_so(machine: Machine) -> None:
    with machine.listener(device=1, buffered=True) as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == ["iio 1: has no buffer: leave out `buffered`, and state a rate"]


def test_a_channel_that_is_not_in_the_buffer_is_named(machine: Machine) -> None:
    with machine.listener(buffered=True) as listener:
        listener.wait_for(lambda listener: listener.troubles, "it is said")
    assert listener.troubles == ["iio lsm6dsl_accel: has no temp in its buffer"]


@pytest.mark.parametrize(
    ("element", "stored", "expected"),
    [
        (Element("a", 0, "<i2", 16, 0), b"\xff\xff", -1),
        (Element("a", 0, "<i2", 12, 4), b"\xf0\x7f", 2047),
        (Element("a", 0, "<i2", 12, 4), b"\x0f\x80", -2048),
        (Element("a", 0, ">i2", 12, 4), b"\x80\x00", -2048),
        (Element("a", 0, "<u2", 12, 0), b"\xff\xff", 4095),
        (Element("a", 0, ">u4", 24, 8), b"\xff\xff\xff\x00", 2**24 - 1),
        (Element("a", 0, ">i4", 24, 8), b"\x80\x00\x00\xff", -(2**23)),
        (Element("a", 0, "<u8", 64, 0), b"\xff" * 8, 2.0**64),
        (Element("a", 0, "<i8", 64, 0), b"\xff" * 8, -1),
        (Element("a", 0, "<u1", 8, 0), b"\xfe", 254),
    ],
)
def test_numbers_of_all_kinds_are_read_as_the_kernel_writes_them(
    element: Element, stored: bytes, expected: float
) -> None:
    assert element.value(np.frombuffer(stored, element.dtype).astype(np.int64)).tolist() == [expected]


def test_elements_of_different_size_lie_at_multiples_of_their_size() -> None:
    elements = [Element("a", 0, "<i2", 16, 0), Element("b", 1, "<u1", 8, 0), Element("t", 3, "<i8", 64, 0)]
    scan = layout(elements)
    assert scan.fields is not None
    assert [scan.fields[name][1] for name in "abt"] == [0, 2, 8]
    assert scan.itemsize == 16
    assert layout(elements[:1]).itemsize == 2
    assert layout(elements[:2]).itemsize == 4
    assert math.prod(layout([]).shape) == 1
