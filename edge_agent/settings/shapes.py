"""Places in a picture, in pixels or, if no number is above 1, in fractions of its width and height."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field


def _four_numbers(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != len(("x1", "y1", "x2", "y2")):
        raise ValueError(f"needs four numbers, [x1, y1, x2, y2] (got {len(value)})")
    return value


def _with_area(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = value
    if min(x1, y1) < 0 or x2 <= x1 or y2 <= y1:
        raise ValueError("needs 0 <= x1 < x2 and 0 <= y1 < y2")
    return value


Region = Annotated[tuple[float, float, float, float], BeforeValidator(_four_numbers), AfterValidator(_with_area)]


def _two_numbers(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) != len(("x", "y")):
        raise ValueError(f"needs two numbers, [x, y] (got {len(value)})")
    return value


def _an_outline(value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if any(min(point) < 0 for point in value):
        raise ValueError("needs numbers >= 0")
    edges = zip(value, (*value[1:], value[0]), strict=True)
    if not sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges):
        raise ValueError("needs corners that enclose an area")
    return value


Point = Annotated[tuple[float, float], BeforeValidator(_two_numbers)]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=100), AfterValidator(_an_outline)]
