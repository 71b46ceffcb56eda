"""A fleet as a table for people, and as a document for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.commands.fleet import MAX_ROWS, Row
from edge_agent.commands.text_table import Cell, Column, Line, fitted
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from rich.text import Text

MINUTE, HOUR, DAY = 60, 3600, 86400


COLUMNS = (
    Column("device", 3),
    Column("pipeline", 2, least_width=30),
    Column("status"),
    Column("/s", right=True, least_width=50),
    Column("last result", 4, least_width=40),
    Column("ago", right=True, least_width=110),
    Column("ms", right=True, least_width=60),
    Column("model", 3, least_width=80),
    Column("on", least_width=72),
    Column("outbox", right=True, least_width=66),
)


# Of a pipeline, in the JSON document.
_FACTS = (
    "results_per_s",
    "last_result",
    "latency_ms",
    "model",
    "accelerator",
    "fallback",
    "waiting",
    "lost",
    "problem",
)


def table(rows: Sequence[Row], width: int, now: float) -> Iterator[Line]:
    """A line for each row, after one with the titles.

    Args:
        rows: in the order in which they are shown.
        width: of the terminal, in characters.
        now: seconds on the monotonic clock.
    """
    return fitted(COLUMNS, [_cells(row, now) for row in rows], width)


def _cells(row: Row, now: float) -> list[Cell]:
    away = row.status != "online"
    dim = "dim" if away else ""
    return [
        Cell(row.device, dim),
        Cell(row.pipeline, dim),
        Cell(row.status or "?", "red" if away else "green"),
        Cell("" if row.results_per_s is None else _number(row.results_per_s), dim),
        Cell(row.problem or row.last_result, dim or ("red" if row.problem else "")),
        Cell("" if row.last_at is None else _ago(now - row.last_at), dim),
        Cell("" if row.latency_ms is None else _number(row.latency_ms), dim),
        Cell(row.model, dim),
        Cell(f"{row.accelerator} !" if row.fallback else row.accelerator, dim or ("yellow" if row.fallback else "")),
        Cell(
            "" if row.waiting is None else f"{row.waiting}" + (f" -{row.lost}" if row.lost else ""),
            dim or ("red" if row.lost else ""),
        ),
    ]


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:.3g}"  # noqa: PLR2004 - up to four digits


def _ago(seconds: float) -> str:
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def line(text: str, style: str = "dim") -> "Text":
    """A line below the table."""
    from rich.text import Text

    return Text(printable(text), style)


def summary(rows: Sequence[Row], shown: Sequence[Row], left_out: int, *, full: bool = False) -> list[str]:
    """The number of devices, the meaning of the marks in the table, and what is not in it."""
    everything = {row.device: row.status for row in rows}
    if not everything:
        return ["no messages from devices yet: is the prefix right, and may this user read the topics below it?"]
    online = sum(status == "online" for status in everything.values())
    count = f"{counted(len(everything), 'device')}, {online} online"
    if full:
        count += f"; more than {MAX_ROWS} lines: there are others, which are not shown"
    if len(shown) < len(rows):
        count += f"; {len(shown)} of {counted(len(rows), 'line')}, those in trouble first"
    marks = ["! not the preferred accelerator"] if any(row.fallback for row in shown) else []
    marks += ["-N: lost results"] if any(row.lost for row in shown) else []
    marks += [f"{counted(left_out, 'invalid message')}"] if left_out else []
    return [count, *([", ".join(marks)] if marks else [])]


def problems(shown: Sequence[Row], most: int) -> list[str]:
    """What is wrong with the pipelines in the table and with updates, in full; its column has little room.

    Args:
        shown: the rows of the table.
        most: lines.
    """
    found = [f"{row.device} {row.pipeline}: {row.problem}" for row in shown if row.problem]
    updates = {row.device: row.update_problem for row in shown if row.update_problem}
    found += [f"{device} update: {problem}" for device, problem in updates.items()]
    if len(found) <= most:
        return found
    return [*found[: most - 1], f"and {counted(len(found) - most + 1, 'more problem')}"]


def in_room(rows: list[Row], lines: int) -> list[Row]:
    """The rows that fit on the screen; if not all fit, those in trouble first."""
    if len(rows) <= lines:
        return rows
    return sorted(rows, key=lambda row: not row.in_trouble)[: max(1, lines)]


def devices(rows: Sequence[Row], now: float) -> list[dict[str, Any]]:
    """A JSON document: a list of devices, each with its pipelines."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        device = found.setdefault(row.device, {"device_id": row.device, "status": row.status or None})
        if row.update:
            device |= {"update": row.update, "update_problem": row.update_problem or None}
        device.setdefault("pipelines", [])
        if row.pipeline:
            facts = {key: getattr(row, key) for key in _FACTS}
            age = None if row.last_at is None else round(now - row.last_at, 1)
            device["pipelines"].append({"name": row.pipeline} | facts | {"last_result_age_s": age})
    return list(found.values())


def print_document(head: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> None:
    """Prints one JSON document, a line for each device: with all of it indented, Python takes ten times as long."""
    print(json.dumps(head)[:-1] + ', "devices": [')
    print(",\n".join(map(json.dumps, devices)) + "]}")
