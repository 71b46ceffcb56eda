import json

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
    values = read_numbers(data)
    assert values.tolist() == [1, 2.5, -3]
    assert values.dtype == np.float32


def test_nested_lists_keep_their_shape() -> None:
    assert read_numbers(b"[[1, 2], [3, 4], [5, 6]]").shape == (3, 2)


@pytest.mark.parametrize("first", [b"[", b"{"])
def test_raw_numbers_may_begin_with_the_byte_of_a_bracket(first: bytes) -> None:
    data = first + b"\x00\x80\x3f" + b"\x00\x00\x00\x40"
    assert read_numbers(data)[1] == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "found an empty message"),
        (b"\x00\x01\x02\x03\x04", "found 5 bytes that begin with 00 01 02 03 04"),
        (b"[1, 2", "found JSON that can't be read"),
        (b"[1, NaN]", "NaN is no number"),
        (b"[1, -Infinity]", "-Infinity is no number"),
        (b"[1e300]", "expected numbers, found inf at place 0"),
        (np.array([1, np.nan], "<f4").tobytes(), "expected numbers, found nan at place 1"),
        (b'{"value": [1]}', "found JSON without `values`: value"),
        (b'{"values": 3}', "found JSON with something else in it: 3"),
        (b'["1", "2"]', "found JSON with something else in it"),
        (b"[true]", "found JSON with something else in it"),
        (b"[null, 1]", "found JSON with something else in it"),
        (b"[[1, 2], [3]]", "expected lists that are alike in length"),
        (b"[" * 100_000, "found JSON that can't be read"),
        (b"[" + b"1," * 2_000_000 + b"1]", "expected at most 4000000 bytes of JSON, found 4000003"),
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
        assert np.isfinite(read_numbers(data)).all()
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal


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
    assert np.array_equal(read_numbers(json.dumps(values.tolist()).encode()), read_numbers(values.tobytes()))
