"""A stand-in for the GPIO chips of libgpiod's binding, with its names, signatures and errors."""

import errno
from collections.abc import Mapping
from typing import Any

import gpiod
import pytest
from gpiod.line import Value


class Chip:
    """One chip at /dev/gpiochip0 with three lines; the last one belongs to somebody else.

    Attributes:
        written: what its lines have become, in order: name and value.
    """

    names = ("GPIO17", "GPIO27", "ACT_LED")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[str, Value]] = []
        self.held: set[str] = {"ACT_LED"}
        monkeypatch.setattr(gpiod, "request_lines", self.request_lines)

    def request_lines(
        self, path: str, config: Mapping[int | str, gpiod.LineSettings], consumer: str | None = None
    ) -> "Request":
        """See `gpiod.request_lines`."""
        if path != "/dev/gpiochip0":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        [(line, wanted)] = config.items()
        if isinstance(line, str) and line not in self.names:
            raise ValueError(f"unknown line name {line}")
        name = line if isinstance(line, str) else self.names[line]
        if name in self.held:
            raise OSError(errno.EBUSY, "Device or resource busy")
        assert consumer
        self.held.add(name)
        self.written.append((name, wanted.output_value))
        return Request(self, line, name)


class Request:
    """See `gpiod.LineRequest`."""

    def __init__(self, chip: Chip, line: int | str, name: str) -> None:
        self._chip, self._line, self._name = chip, line, name

    def set_value(self, line: int | str, value: Value) -> None:
        """See there."""
        assert line == self._line
        self._chip.written.append((self._name, value))

    def release(self) -> None:
        """See there."""
        self._chip.held.discard(self._name)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the stand-in has no {name}")
