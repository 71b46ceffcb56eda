import json
import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.sources.lines import MAX_LINE, Csv, Json, Lines, ReadingParser

FORMATS: dict[str, Callable[[], ReadingParser]] = {"json": Json, "csv": Csv}

# What termux-sensor prints: an object that is empty at first, then one of several lines for each reading.
TERMUX = """{}
{
  "LSM6DSO Acceleration Sensor": {
    "values": [
      -0.1,
      0.5,
      9.75
    ]
  }
}
{
  "LSM6DSO Acceleration Sensor": {
    "values": [
      -0.2,
      0.25,
      9.5
    ]
  }
}
"""


def read(parser: str, text: str | Iterable[str], channels: tuple[str, ...] | None = None, **options: Any) -> Any:
    """What comes of a stream: ([names, rows], …), and in between the texts of errors."""
    lines = Lines(FORMATS[parser](), channels, None, **options)
    found: list[Any] = []
    for part in [text] if isinstance(text, str) else text:
        found += lines.feed(part.encode())
    return [
        str(item) if isinstance(item, InputError) else (item.channels, item.values.tolist())
        for item in [*found, *lines.end()]
    ]


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        ("json", '{"x": 1, "y": 2.5}\n{"y": 4, "x": 3}\n', [(("x", "y"), [[1, 2.5], [3, 4]])]),
        ("json", "[1, 2]\n[3, 4]\n", [((), [[1, 2], [3, 4]])]),
        ("json", '{"values": [1, 2]}\n{"values": [3, 4]}\n', [((), [[1, 2], [3, 4]])]),
        ("json", "1.5\n2\n", [((), [[1.5], [2]])]),
        ("json", '{"id": "a", "ok": true, "t": 20}\r\n', [(("t",), [[20]])]),
        ("json", '{"gyro": {"x": 1, "y": 2}, "t": 3}\n', [(("gyro.x", "gyro.y", "t"), [[1, 2, 3]])]),
        ("csv", "1,2\n3,4\n", [((), [[1, 2], [3, 4]])]),
        ("csv", "x,y\r\n1,2\r\n3,4\r\n", [(("x", "y"), [[1, 2], [3, 4]])]),
        ("csv", '"x", "y"\n\n1 , -2e3\n', [(("x", "y"), [[1, -2000]])]),
    ],
)
def test_readings_are_taken_with_the_names_that_they_have(parser: str, text: str, expected: Any) -> None:
    assert read(parser, text) == expected


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        ("json", '{"x": 1, "y": 2, "z": 3}\n', [(("z", "x"), [[3, 1]])]),
        ("json", "[1, 2]\n", [(("z", "x"), [[1, 2]])]),
        ("csv", "x,y,z\n1,2,3\n", [(("z", "x"), [[3, 1]])]),
        ("csv", "1,2\n", [(("z", "x"), [[1, 2]])]),
    ],
)
def test_channels_that_are_stated_choose_by_name_or_name_the_columns(parser: str, text: str, expected: Any) -> None:
    assert read(parser, text, ("z", "x")) == expected


def test_a_reading_of_several_lines_is_one() -> None:
    name = "LSM6DSO Acceleration Sensor"
    [(names, rows)] = read("json", TERMUX)
    assert names == (f"{name}.0", f"{name}.1", f"{name}.2")
    assert rows == [pytest.approx([-0.1, 0.5, 9.75]), pytest.approx([-0.2, 0.25, 9.5])]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_stream_may_be_cut_anywhere(size: int) -> None:
    for parser, text in (("json", TERMUX), ("csv", "x,y\n1.5,2\n3,4.25\n")):
        whole = [row for _, rows in read(parser, text) for row in rows]
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        assert [row for _, rows in read(parser, parts) for row in rows] == whole


@pytest.mark.parametrize(
    ("parser", "line", "error"),
    [
        ("json", "hello", "expected JSON, found: hello"),
        ("json", '{"x": 1 "y": 2}', 'expected JSON, found: {"x": 1 "y": 2}'),
        ("json", "}", "expected JSON, found: }"),
        ("json", '{"x": 1}', "a reading without y: it has x"),
        ("json", '{"x": 1, "y": null}', "y is no finite number: None"),
        ("json", '{"x": 1, "y": true}', "y is no finite number: True"),
        ("json", '{"x": NaN, "y": 2}', "x is no finite number: nan"),
        ("json", '{"x": -Infinity, "y": 2}', "x is no finite number: -inf"),
        ("json", '{"x": 1e39, "y": 2}', "x is no finite number: 1e+39"),
        ("json", '{"x": ' + "9" * 5000 + ', "y": 2}', 'expected JSON, found: {"x": ' + "9" * 74 + "..."),
        ("json", "[" * 9000 + "]" * 9000, "expected JSON, found: " + "[" * 80 + "..."),
        ("csv", "nan,2", "x is no finite number: nan"),
        ("csv", "1,", "y is no finite number: "),
        ("csv", "1", "a line of 1 fields, not 2: 1"),
        ("csv", "1,2,3", "a line of 3 fields, not 2: 1,2,3"),
        ("csv", "rebooting \x1b[31m", r"no numbers in it: rebooting \x1b[31m"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error_and_the_next_one_is_fine(parser: str, line: str, error: str) -> None:
    good = {"json": '{"x": 1, "y": 2}\n', "csv": "1,2\n"}[parser]
    before = {"json": good, "csv": "x,y\n1,2\n"}[parser]
    reading = (("x", "y"), [[1, 2]])
    assert read(parser, f"{before}{line}\n{good}") == [reading, error, reading]


@pytest.mark.parametrize("parser", FORMATS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_byte_order_marks_and_line_ends_are_no_part_of_readings(parser: str, end: str, start: str) -> None:
    text = {"json": '{"x": 1}#{"x": 2}#', "csv": "x#1#2#"}[parser].replace("#", end)
    assert [row for _, rows in read(parser, start + text) for row in rows] == [[1], [2]]
    bytewise = [names for names, _ in read(parser, list(start + text))]
    assert set(bytewise) == {("x",)}


# Lines of 64 kB, each the worst for one step of one parser.
HARMFUL = {
    "quotes": '"' * 65_000,
    "escaped quotes": '\\"' * 32_000,
    "an escaped quote within a string": '{"a": "' + '\\"' * 32_000,
    "backslashes": "\\" * 65_000,
    "pairs of quotes": '""' * 32_000,
    "opening brackets": "[" * 65_000,
    "objects in objects": '{"a":' * 13_000,
    "digits": "9" * 65_000,
    "decimals": "0." + "9" * 64_000,
    "an exponent": "1e" + "9" * 64_000,
    "commas": "," * 65_000,
    "numbers": "[" + "1," * 30_000 + "1]",
    "a long name over many numbers": '{"' + "k" * 30_000 + '": [' + "1," * 15_000 + "1]}",
    "names in names": '{"abcdefgh":' * 900 + "1" + "}" * 900,
    "a name that counts for nothing": '{"values":' * 900 + "[" + "1," * 20_000 + "1]" + "}" * 900,
    "spaces": " " * 65_000,
    "surrogates": '"' + "\\ud800" * 9_000 + '"',
}


@pytest.mark.parametrize("parser", FORMATS)
@pytest.mark.parametrize("kind", HARMFUL)
def test_no_line_takes_long(parser: str, kind: str) -> None:
    lines = Lines(FORMATS[parser](), None, None)
    began = time.thread_time()
    found = list(lines.feed(f"{HARMFUL[kind]}\n".encode() * 2))
    assert time.thread_time() - began < 0.5
    assert len(found) <= 4
    assert all(len(str(one)) < 300 for one in found if isinstance(one, InputError))


def test_a_line_that_comes_byte_by_byte_takes_no_longer() -> None:
    lines, began = Lines(Json(), None, None), time.thread_time()
    for _ in range(65_000):
        assert list(lines.feed(b'"')) == []
    assert time.thread_time() - began < 2


def test_a_string_that_is_not_closed_does_not_wait_for_the_next_line() -> None:
    assert read("json", '{"x": "1}\n{"x": 2}\n') == ['expected JSON, found: {"x": "1}', (("x",), [[2]])]
    assert read("json", '{"x{": 1}\n') == [(("x{",), [[1]])]
    assert read("json", r'{"x\\": 2, "y\"}": 3}' + "\n") == [(("x\\", 'y"}'), [[2, 3]])]


def test_a_reading_that_is_cut_off_costs_only_itself() -> None:
    text = '{"x": 1}\n{"x": {"values"\n{"x": 2}\n{"x": 3}\n'
    assert read("json", text) == [(("x",), [[1]]), 'a reading that is cut off: {"x": {"values"', (("x",), [[2], [3]])]


@pytest.mark.parametrize("parser", FORMATS)
def test_a_line_without_an_end_is_bounded(parser: str) -> None:
    parts = ["1\n", *["7" * 10_000] * 20, "\n2\n"]
    assert read(parser, parts) == [((), [[1]]), f"a line of more than {MAX_LINE} bytes", ((), [[2]])]


def test_a_document_without_an_end_is_bounded() -> None:
    parts = ["[1]\n", *[' "a": {\n' * 1000] * 10]
    found = read("json", parts)
    assert found[0] == ((), [[1]])
    assert f"a reading of more than {MAX_LINE} bytes" in found


def test_a_stream_that_ends_within_a_line_says_so() -> None:
    assert read("csv", "1\n2") == [((), [[1]]), "the stream ended within a line"]


def test_where_a_stream_begins_in_the_middle_of_a_line_that_line_is_left_out() -> None:
    assert read("csv", "2.5,3\n1,2\n", begins_anywhere=True) == [((), [[1, 2]])]


def test_text_before_the_first_numbers_is_a_header_only_if_it_fits() -> None:
    assert read("csv", "Booting\n1,2\n") == [((), [[1, 2]])]
    assert read("csv", "Booting\nx,y\n1,2\n") == ["no numbers in it: Booting", (("x", "y"), [[1, 2]])]


def test_a_header_that_comes_again_is_no_error() -> None:
    assert read("csv", "x,y\n1,2\nx,y\n3,4\n") == [(("x", "y"), [[1, 2], [3, 4]])]


def test_numbers_beyond_a_bound_are_refused() -> None:
    assert read("csv", ",".join("1" * 300) + "\n") == ["a reading of 300 numbers: 1 to 256 are taken"]


def test_garbage_is_never_fatal() -> None:
    random.seed(1)
    for parser in FORMATS.values():
        lines = Lines(parser(), None, None)
        for _ in range(200):
            for item in lines.feed(random.randbytes(random.randrange(2000))):
                assert isinstance(item, InputError | Series)
                if isinstance(item, Series):
                    assert all(map(math.isfinite, item.values.ravel().tolist()))
                else:
                    json.dumps(str(item))
                    assert str(item).isprintable()
