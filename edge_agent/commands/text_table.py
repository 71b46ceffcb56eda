"""A table with one line for each row, for thousands of rows: rich's own takes 1 to 3 ms a row.

The text of the cells must be free of control characters.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 1


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        share: weight in the distribution of the remaining width; 0: the column is as wide as its content.
        least_width: of the table; the column is left out of a narrower one.
    """

    title: str
    share: int = 0
    right: bool = False
    least_width: int = 0


class Cell(NamedTuple):
    """A text, and a style as rich has it."""

    text: str
    style: str = ""


Line = Sequence[Cell]


def fitted(columns: Sequence[Column], rows: Sequence[Line], width: int | None) -> Iterator[Line]:
    """The lines of a table: the titles, then each row, with cells that are padded or cut off.

    Args:
        columns: those of the cells of each row.
        rows: the cells.
        width: of the table, in characters; None: as wide as its content.
    """
    chosen = [index for index, column in enumerate(columns) if width is None or width >= column.least_width]
    lines = [[Cell(column.title, "bold") for column in columns], *rows]
    widths = _widths([columns[index] for index in chosen], [[line[index] for index in chosen] for line in lines], width)
    for line in lines:
        yield [
            Cell(_fit(line[index].text, size, right=columns[index].right) + " " * GAP, line[index].style)
            for index, size in zip(chosen, widths, strict=True)
        ]


def _widths(columns: Sequence[Column], lines: Iterable[Line], width: int | None) -> list[int]:
    sizes = [max(map(_length, (cell.text for cell in cells))) for cells in zip(*lines, strict=True)]
    if width is None:
        return sizes
    shared = [index for index, column in enumerate(columns) if column.share]
    for index in shared:
        sizes[index] = len(columns[index].title)
    left = width - sum(sizes) - GAP * len(columns)
    for _ in range(-left):  # content that is too wide for the table
        sizes[sizes.index(max(sizes))] -= 1
    shares = sum(columns[index].share for index in shared)
    for index in shared:
        part = max(0, left) * columns[index].share // shares
        left, shares = left - part, shares - columns[index].share
        sizes[index] += part
    return sizes


def _length(text: str) -> int:
    """In columns of a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _fit(text: str, size: int, *, right: bool) -> str:
    length = _length(text)
    if length > size:
        from rich.cells import set_cell_size

        return set_cell_size(text, size - 1) + "…"
    padding = " " * (size - length)
    return padding + text if right else text + padding


def as_text(line: Line) -> "Text":
    """A line as rich shows it."""
    from rich.text import Text

    return Text.assemble(*line, no_wrap=True, overflow="crop")


def write(lines: Iterable[Line], console: "Console") -> None:
    """Writes lines to the console's file, in colours if it has them."""
    from rich.style import Style

    for line in lines:
        if console.color_system is None:
            console.file.write("".join(cell.text for cell in line).rstrip() + "\n")
        else:
            console.file.write("".join(Style.parse(cell.style).render(cell.text) for cell in line) + "\n")
