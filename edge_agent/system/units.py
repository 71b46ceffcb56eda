"""Sizes and durations as people write them."""

import re

_NUMBER = r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})"
_SIZE = re.compile(rf"{_NUMBER}\s*([kKMGT]?i?)B?", re.ASCII)
_DURATION = re.compile(rf"{_NUMBER}\s*(us|ms|s|m|min|h|d)?", re.ASCII)
_SIDES = re.compile(r"(\d{1,5})(?:\s*x\s*(\d{1,5}))?", re.ASCII)
# Of a picture, in pixels.
MAX_SIDE = 8192
_SIZE_FACTORS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_FACTORS = {"ki": 2**10, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: object) -> int:
    """Bytes from `64MB`, `64 MiB`, `500kB` or a plain number.

    Raises:
        ValueError: not a size; the message says what is expected.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    factor = match and {**_SIZE_FACTORS, **_BINARY_FACTORS}.get(match[2])
    if not match or not factor:
        raise ValueError("must be a size such as 64MB")
    return round(float(match[1]) * factor)


def parse_duration(text: object) -> float:
    """Seconds from `500ms`, `2s`, `5m`, `1h`, `1d` or a plain number of seconds.

    Raises:
        ValueError: not a duration; the message says what is expected.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match:
        raise ValueError("must be a duration such as 500ms, 2s or 5m")
    return float(match[1]) * _SECONDS[match[2]]


def parse_sides(text: object) -> tuple[int, int]:
    """Width, height in pixels from `640x480`; from one number for a square.

    Raises:
        ValueError: it is neither; the message says what is expected.
    """
    match = _SIDES.fullmatch(str(text).strip()) if isinstance(text, str | int) else None
    if not match:
        raise ValueError("must be width x height in pixels, such as 640x480, at most 8192")
    width, height = int(match[1]), int(match[2] or match[1])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError("must be width x height in pixels, such as 640x480, at most 8192")
    return width, height


def counted(number: int, noun: str) -> str:
    """`1 prediction`, `2 predictions`: for nouns whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_size(size: float) -> str:
    """`4.1 MB` for 4100000 bytes."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - the step between decimal prefixes
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
