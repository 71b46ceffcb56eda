import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import InputError
from edge_agent.timeseries.numbers import SeriesPreprocess, read_numbers


@pytest.mark.parametrize(
    "data",
    [
        b"[1, 2.5, -3]",
        b' {"values": [1, 2.5, -3], "unit": "g"}',
        np.array([1, 2.5, -3], "<f4").tobytes(),
    ],
)
def test_numbers_come_as_json_or_as_raw_float32(data: bytes) -> None:
    values = read_numbers(data).values
    assert values.tolist() == [1, 2.5, -3]
    assert values.dtype == np.float32


def test_nested_lists_keep_their_shape() -> None:
    assert read_numbers(b"[[1, 2], [3, 4], [5, 6]]").values.shape == (3, 2)


@pytest.mark.parametrize("first", [b"[", b"{"])
def test_raw_numbers_may_begin_with_the_byte_of_a_bracket(first: bytes) -> None:
    data = first + b"\x00\x80\x3f" + b"\x00\x00\x00\x40"
    assert read_numbers(data).values[1] == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "found an empty message"),
        (b"\x00\x01\x02\x03\x04", "found 5 bytes that begin with 00 01 02 03 04"),
        (b"[1, 2", "found not valid JSON"),
        (b"[1, NaN]", "NaN is no number"),
        (b"[1, -Infinity]", "-Infinity is no number"),
        (b"[1e300]", "expected numbers, found inf at place 0"),
        (np.array([1, np.nan], "<f4").tobytes(), "expected numbers, found nan at place 1"),
        (b'{"value": [1]}', "found JSON without `values`, and without a number in it: value"),
        (b'{"x": 1, "y": 2}', "found JSON with the names x, y, whose order does not count: state input.channels"),
        (b'[{"x": 1}, {"y": 2}]', "expected a number called x in each JSON object, found x"),
        (b'{"x": 1' + b"0" * 400 + b"}", "expected numbers that fit into float32, found a larger one in x"),
        (b'{"values": 3}', "found JSON with something else in it: 3"),
        (b'["1", "2"]', "found JSON with something else in it"),
        (b"[true]", "found JSON with something else in it"),
        (b"[null, 1]", "found JSON with something else in it"),
        (b"[[1, 2], [3]]", "expected lists that are alike in length"),
        (b"[" * 100_000, "found JSON that is nested too deeply"),
        (b"[" + b"1," * 2_000_000 + b"1]", "expected at most 4000000 bytes of text, found 4000003"),
    ],
)
def test_what_is_no_row_of_numbers_is_refused_in_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_numbers(data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.one_of(st.binary(max_size=64), st.text('[]{}":,.-+eE0123456789truefalsnvx ', max_size=64).map(str.encode)))
def test_any_bytes_are_finite_numbers_or_one_sentence(data: bytes) -> None:
    refusal = ""
    try:
        assert np.isfinite(read_numbers(data).values).all()
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal


TEXTS: tuple[tuple[bytes, list[Any]], ...] = (
    (b"21.5", [21.5]),
    (b"21.50", [21.5]),
    (b"21.5\n", [21.5]),
    (b"21.5\r\n", [21.5]),
    (b"21.5123\0", [21.5123]),
    (b"\xef\xbb\xbf21.5", [21.5]),
    (b"-3e-2", [-0.03]),
    (b"0.1,0.2,9.81", [0.1, 0.2, 9.81]),
    (b"0.1, 0.2, 9.81\r\n", [0.1, 0.2, 9.81]),
    (b"0.1 0.2 9.81", [0.1, 0.2, 9.81]),
    (b"0.1;0.2;9.81", [0.1, 0.2, 9.81]),
    (b"0.1\t0.2\t9.81", [0.1, 0.2, 9.81]),
    (b"1\n2\n3\n", [1, 2, 3]),
    (b"1,2\n3,4\n5,6\n", [[1, 2], [3, 4], [5, 6]]),
    (b"1,2\r3,4\r", [[1, 2], [3, 4]]),
    (b"\xef\xbb\xbf[1, 2]", [1, 2]),
    (b'\xef\xbb\xbf{"values": [1, 2]}', [1, 2]),
)


@pytest.mark.parametrize(("data", "values"), TEXTS)
def test_printable_text_is_text(data: bytes, values: list[Any]) -> None:
    assert np.array_equal(read_numbers(data).values, np.array(values, np.float32))
    assert read_numbers(data).channels == ()


def test_a_header_names_the_columns() -> None:
    for data in (b"x,y,z\n1,2,3\n4,5,6\n", b'\xef\xbb\xbf"x", "y", "z"\r\n1, 2, 3\r\n4, 5, 6'):
        values, channels, _ = read_numbers(data)
        assert channels == ("x", "y", "z")
        assert values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read_numbers(b"x,y\n1,2").values.tolist() == [[1, 2]]


def test_json_objects_name_their_numbers_and_their_order_does_not_count() -> None:
    data = b'[{"y": 2, "x": 1, "at": "noon", "on": true}, {"x": 3, "on": false, "y": 4}]'
    values, channels, _ = read_numbers(data, wanted=("x", "y", "on"))
    assert channels == ("x", "y", "on")
    assert values.tolist() == [[1, 2, 1], [3, 4, 0]]
    assert read_numbers(b'{"t": 21.5, "unit": "C"}').values.tolist() == [[21.5]]
    with pytest.raises(InputError, match="expected a number called z in each JSON object, found y, x, at, on"):
        read_numbers(data, wanted=("z",))


def test_a_file_of_edge_impulse_states_channels_and_rate() -> None:
    payload: dict[str, Any] = {"interval_ms": 20, "sensors": [{"name": "x"}, {"name": "y"}], "values": [[1, 2], [3, 4]]}
    values, channels, rate = read_numbers(json.dumps({"signature": "0", "payload": payload}).encode())
    assert (values.tolist(), channels, rate) == ([[1, 2], [3, 4]], ("x", "y"), 50)
    for wrong in ({"sensors": [{"name": "x"}]}, {"sensors": 1}, {"values": [1, 2]}, {"values": None}):
        with pytest.raises(InputError):
            read_numbers(json.dumps({"payload": payload | wrong}).encode())
    assert read_numbers(json.dumps({"payload": payload | {"interval_ms": 0}}).encode()).rate is None


def test_what_is_no_whole_number_is_refused_where_the_model_takes_whole_numbers() -> None:
    bytes_ = SeriesPreprocess((3,), batched=True, dtype="uint8", scale=0, zero_point=0)
    assert bytes_([bytes_.real(np.array([0, 7, 255], np.float32))]).tolist() == [[0, 7, 255]]
    for wrong in 0.5, -1, 256:
        with pytest.raises(InputError, match="expected whole numbers, since the model takes uint8"):
            bytes_.real(np.array([1, 2, wrong], np.float32))
    table = SeriesPreprocess((2,), True, "float32", 0, 0, columns=("float32", "int64"))
    assert table.real(np.array([0.5, 3], np.float32)).tolist() == [0.5, 3]
    with pytest.raises(InputError, match=r"the model takes int64, found 0\.5"):
        table.real(np.array([3, 0.5], np.float32))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"null", "found the text null"),
        (b"true", "found the text true"),
        (b'"21.5"', 'found the text "21.5"'),
        (b"on\0\0", "bytes that begin with"),
        (b"nan", "found the text nan"),
        (b"1_0,2", "1_0 is no number"),
        (b"23 \xc2\xb0C", "found the text 23 °C, in which °C is no number"),
        (b"ok", "found the text ok"),
        (b"\n \t\n", "found an empty message"),
        (b"1,,3", "in which an empty place is no number"),
        (b"21,5;3", "in which 5;3 is no number"),
        (b"1,2\n3", "rows that are alike in length"),
        (b"x,x\n1,2", "columns with names that differ"),
        (b"x,y,z\n1,2", "rows that are alike in length"),
        (b"offline!", "state numbers: float32"),
        (b"9" * 400, "expected numbers, found inf"),
    ],
)
def test_text_that_holds_no_numbers_is_refused_and_never_taken_for_raw_floats(data: bytes, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_numbers(data + b"x" if says == "bytes that begin with" else data)
    assert says in str(caught.value)


@given(st.text(min_size=1, max_size=16).filter(lambda text: text.isascii() and text.isprintable()))
def test_no_printable_text_is_ever_raw_floats(text: str) -> None:
    try:
        found = read_numbers(text.encode()).values.ravel().tolist()
    except InputError:
        return
    written = text.strip().strip("[]").replace(",", " ").replace(";", " ").replace("[", " ").replace("]", " ").split()
    assert found == pytest.approx([float(np.float32(number)) for number in written], rel=1e-6)


def test_what_the_source_states_counts() -> None:
    assert read_numbers(b"21.5", "float32").values.tolist() == pytest.approx([6.5e-7], rel=0.01)
    assert read_numbers(b"21.5", "text").values.tolist() == [21.5]
    with pytest.raises(InputError, match="expected text, as the source states with `numbers`, found bytes: 00 00"):
        read_numbers(bytes(4), "text")


def test_readings_of_another_number_or_nesting_are_refused_with_both() -> None:
    numbers = SeriesPreprocess((49, 10, 1), True, "float32", 0.0, 0)
    assert numbers.real(np.zeros((49, 10), np.float32)).shape == (49, 10, 1)
    assert numbers.real(np.zeros(490, np.float32)).shape == (49, 10, 1)
    with pytest.raises(InputError, match="expected 49 x 10 numbers, found 10 x 49"):
        numbers.real(np.zeros((10, 49), np.float32))
    with pytest.raises(InputError, match="expected 49 x 10 numbers, found 489"):
        numbers.real(np.zeros(489, np.float32))
    with pytest.raises(InputError, match="found nan at place 3"):
        numbers.real(np.array([0] * 3 + [np.nan] + [0] * 486, np.float32))


def test_readings_are_normalised_each_channel_by_itself_and_quantised_as_the_file_says() -> None:
    numbers = SeriesPreprocess((2, 2), True, "int8", 0.5, -10, (1.0, 10.0), (2.0, 10.0))
    real = numbers.real(np.array([[1, 10], [3, 20]], np.float32))
    assert real.tolist() == [[0, 0], [1, 1]]
    tensor = numbers([real, real + 100])
    assert tensor.dtype == np.int8
    assert tensor.shape == (2, 2, 2)
    assert tensor[0].tolist() == [[-10, -10], [-8, -8]]
    assert tensor[1].max() == 127  # what the type can't hold is its end


def test_json_and_raw_numbers_are_the_same() -> None:
    values = np.random.default_rng(1).normal(size=32).astype(np.float32)
    assert np.array_equal(
        read_numbers(json.dumps(values.tolist()).encode()).values, read_numbers(values.tobytes()).values
    )


def test_values_beyond_a_quantized_input_are_counted() -> None:
    preprocess = SeriesPreprocess((4,), True, "int8", 0.1, 0)  # -12.8 to 12.7
    values = preprocess.real(np.array([0, 12.7, 13.5, -1000], np.float32))
    assert preprocess.out_of_range(values) == 2
    assert preprocess([values]).tolist() == [[0, 127, 127, -128]]
    assert SeriesPreprocess((4,), True, "float32", 0.0, 0).out_of_range(values) == 0
