"""Types for command lines."""

import argparse
import math
from collections.abc import Callable
from typing import TypeAlias

from edge_agent.system.units import parse_duration, parse_sides

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - argparse gives it no public name


def sides(text: str) -> str:
    """The type of an argument that is a width and height in pixels."""
    try:
        parse_sides(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (got {text!r})") from None
    return text


def between(low: float, high: float) -> Callable[[str], float]:
    """The type of an argument that is a number within bounds; a whole number if the bounds are integers."""

    def number(text: str) -> float:
        try:
            value = type(low)(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            kind = "whole number" if isinstance(low, int) else "number"
            raise argparse.ArgumentTypeError(f"must be a {kind} from {low:g} to {high:g} (got {text!r})")
        return value

    return number


def duration(low: float, high: float) -> Callable[[str], float]:
    """The type of an argument that is a duration within bounds in seconds, such as `500ms`, `2s` or a number."""

    def seconds(text: str) -> float:
        try:
            value = parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error} (got {text!r})") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g} seconds (got {text!r})")
        return value

    return seconds
