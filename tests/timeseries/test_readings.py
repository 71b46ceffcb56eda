"""Messages of sensors as they are published, and streams that are cut into readings."""

import json

import numpy as np
import pytest

from edge_agent.counters import Settlement
from edge_agent.errors import InputError
from edge_agent.samples import Sample, Series
from edge_agent.settings.statistics import Statistics
from edge_agent.timeseries.fields import MAX_MESSAGE, read_fields
from edge_agent.timeseries.numbers import NumberFormat, read_numbers
from edge_agent.timeseries.readings import ReadingCutter

# Zigbee2MQTT, MQTT topics and messages: https://www.zigbee2mqtt.io/guide/usage/mqtt_topics_and_messages.html
ZIGBEE2MQTT = b'{"temperature":27.34,"humidity":44.72,"battery":null,"linkquality":97}'
# Tasmota, a Sonoff Pow: https://github.com/arendst/Tasmota/issues/1621
TASMOTA = (
    b'{"Time":"2018-01-17T18:59:50","ENERGY":{"Total":1.956,"Yesterday":0.054,"Today":0.049,"Period":0,"Power":9,'
    b'"Factor":0.43,"Voltage":231,"Current":0.089}}'
)
# Shelly, status of a switch: https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Switch
SHELLY = (
    b'{"id":0,"source":"WS_in","output":false,"apower":0.5,"voltage":225.9,"aenergy":{"total":11.679,'
    b'"by_minute":[0,0,0],"minute_ts":1654511972},"temperature":{"tC":53.3,"tF":127.9}}'
)
NOTIFICATION = (
    b'{"src":"shellyplus1pm-a8","method":"NotifyStatus","params":{"ts":1654511972.1,"switch:0":{"apower":8.9}}}'
)
ESPHOME = b"21.5"  # each sensor has a topic of its own


@pytest.mark.parametrize(
    ("message", "fields", "found"),
    [
        (ZIGBEE2MQTT, ("temperature", "humidity"), {"temperature": 27.34, "humidity": 44.72}),
        (ZIGBEE2MQTT, ("temperature", "battery", "co2"), {"temperature": 27.34}),
        (TASMOTA, ("ENERGY.Power", "ENERGY.Voltage"), {"ENERGY.Power": 9, "ENERGY.Voltage": 231}),
        (SHELLY, ("apower", "temperature.tC", "output"), {"apower": 0.5, "temperature.tC": 53.3, "output": 0}),
        (NOTIFICATION, ("params.switch:0.apower",), {"params.switch:0.apower": 8.9}),
        (ESPHOME, ("temperature",), {"temperature": 21.5}),
        (b'{"a.b": {"c.d": 1}}', ("a.b.c.d",), {"a.b.c.d": 1}),
    ],
)
def test_fields_are_found_by_their_paths(message: bytes, fields: tuple[str, ...], found: dict[str, float]) -> None:
    assert read_fields(message, fields) == found


@pytest.mark.parametrize(
    "message",
    [b"", b"nan", b"\xff", b"[1]", b'{"humidity": 3}', b'{"temperature": "warm"}', b'{"temperature": 1e99}',
     b'{"temperature": NaN}', b'{"temperature": [1]}', b'{"temperature": null}',
     b"1" + b" " * MAX_MESSAGE],
)  # fmt: skip
def test_messages_without_a_number_there_are_refused(message: bytes) -> None:
    with pytest.raises(InputError):
        read_fields(message, ("temperature",))


def test_a_model_takes_all_fields_in_their_order() -> None:
    fields = {"humidity": "%", "temperature": "degC"}
    found = read_numbers(ZIGBEE2MQTT, fields)
    assert (found.channels, found.values.tolist()) == (
        ("humidity", "temperature"),
        [[np.float32(44.72), np.float32(27.34)]],
    )
    with pytest.raises(InputError):
        read_numbers(ZIGBEE2MQTT, {"temperature": "", "co2": "ppm"})


def cut(data: bytes | Series, at: float = 0.0, cutter: ReadingCutter | None = None) -> list[Sample]:
    return (cutter or detector())(Sample(data, 1000 + at, at, {}))


def detector(number_format: NumberFormat = None, **options: str) -> ReadingCutter:
    return ReadingCutter(Statistics.model_validate({"type": "statistics"} | options), number_format)


def readings(samples: list[Sample]) -> list[tuple[float, dict[str, float]]]:
    found = []
    for one in samples:
        assert isinstance(one.data, Series)
        [row] = one.data.values.tolist()
        found.append((one.captured, dict(zip(one.data.channels, row, strict=True))))
        one.settlement.done()
    return found


def test_each_reading_of_a_piece_is_a_sample_with_its_own_time() -> None:
    piece = Series(np.array([[1, 2], [3, 4]], np.float32), ("x", "y"), rate=10.0)
    assert readings(cut(piece, 5.0)) == [(4.9, {"x": 1, "y": 2}), (5.0, {"x": 3, "y": 4})]
    assert readings(cut(b"21.5")) == [(0.0, {"value": 21.5})]
    assert [type(one.data) for one in cut(b"warm")] == [InputError]


@pytest.mark.parametrize(("by", "value"), [("mean", 9.81), ("rms", 2.0), ("range", 4.0)])
def test_fast_readings_become_one_value_for_some_time(by: str, value: float) -> None:
    cutter, samples = detector(every="1s", by=by), list[Sample]()
    for number in range(301):  # gravity, and a vibration of 2 m/s² in a square wave
        piece = Series(np.array([[9.81 + (2 if number % 2 else -2)]], np.float32), ("z",))
        samples += cut(piece, number / 100, cutter)
    assert [found["z"] for _, found in readings(samples)] == pytest.approx([value] * 3, abs=1e-5)


def test_a_message_that_completes_nothing_is_done() -> None:
    done, cutter = list[int](), detector(every="10s")
    sample = Sample(json.dumps(1).encode(), 0.0, 0.0, {}, settlement=Settlement(lambda: done.append(1)))
    assert (cutter(sample), done) == ([], [1])
