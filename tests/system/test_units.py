import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.system.units import format_size, parse_duration, parse_sides, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64", 64),
        (64, 64),
        ("64B", 64),
        ("500kB", 500_000),
        ("500KB", 500_000),
        ("64MB", 64_000_000),
        ("64M", 64_000_000),
        (" 64 MB ", 64_000_000),
        ("1.5GB", 1_500_000_000),
        ("2TB", 2_000_000_000_000),
        ("1KiB", 1024),
        ("64 MiB", 64 * 2**20),
        (".5GiB", 2**29),
        ("4.35MB", 4_350_000),
    ],
)
def test_a_size_is_a_number_of_bytes_with_a_decimal_or_binary_prefix(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2),
        (2, 2),
        (0.25, 0.25),
        ("0.25", 0.25),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("250us", 0.00025),
        ("500ms", 0.5),
        ("2 s", 2.0),
        ("5m", 300.0),
        ("5min", 300.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "1XB", "1 M B", "1e3", "1,5MB", "٣MB", "1" * 16, None, True, 1.5, [], "1iB", "64mb"]
)
def test_what_is_no_size_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"^must be a size such as 64MB$"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 x", "1e3", "1,5s", "٣s", "1h30m", "1" * 16, None, True, []])
def test_what_is_no_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match=r"^must be a duration such as 500ms, 2s or 5m$"):
        parse_duration(text)


@given(st.text(st.sampled_from("0123456789.kKMGTiB umshd"), max_size=20) | st.text())
def test_what_is_a_size_or_a_duration_is_finite_and_not_negative(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            assert 0 <= parse(text) < 10**30


def test_sizes_are_written_with_the_prefix_that_keeps_them_short() -> None:
    written = [format_size(size) for size in (0, 999, 1000, 4_100_000, 2_500_000_000, 7_000_000_000_000)]
    assert written == ["0 B", "999 B", "1.0 kB", "4.1 MB", "2.5 GB", "7000.0 GB"]


@pytest.mark.parametrize(
    ("text", "sides"), [("640x480", (640, 480)), (" 8192 x 1 ", (8192, 1)), ("320", (320, 320)), (320, (320, 320))]
)
def test_sides_are_a_width_and_a_height_or_one_number(text: object, sides: tuple[int, int]) -> None:
    assert parse_sides(text) == sides


@pytest.mark.parametrize(
    "text", ["", "0", "0x5", "640x", "x480", "640x480x3", "8193", "-1x5", "1e3", 1.5, True, None, [1]]
)
def test_other_sides_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be width x height in pixels, such as 640x480"):
        parse_sides(text)
