"""A fleet as a table for people, and as a document for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_agent.commands.fleet import MAX_ROWS, Row
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

MINUTE, HOUR, DAY = 60, 3600, 86400


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        share: weight in the distribution of the remaining width; 0: the column is as wide as its content.
        least_width: of the terminal; the column is left out on a narrower one.
    """

    title: str
    share: int = 0
    right: bool = False
    least_width: int = 0


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


def table(rows: Sequence[Row], width: int, now: float) -> "Table":
    """A line for each row.

    Args:
        rows: in the order in which they are shown.
        width: of the terminal, in characters.
        now: seconds on the monotonic clock.
    """
    from rich.table import Table

    columns = [column for column in COLUMNS if width >= column.least_width]
    made = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(
            column.title,
            width=len(column.title) if column.share else None,  # the least width of a column that has a share
            ratio=column.share or None,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        cells = _cells(row, now)
        made.add_row(*(cells[column.title] for column in columns))
    return made


def _cells(row: Row, now: float) -> dict[str, "Text"]:
    from rich.text import Text

    away = row.status != "online"
    texts = {
        "device": row.device,
        "pipeline": row.pipeline,
        "status": row.status or "?",
        "/s": "" if row.results_per_s is None else _number(row.results_per_s),
        "last result": row.problem or row.last_result,
        "ago": "" if row.last_at is None else _ago(now - row.last_at),
        "ms": "" if row.latency_ms is None else _number(row.latency_ms),
        "model": row.model,
        "on": f"{row.accelerator} !" if row.fallback else row.accelerator,
        "outbox": "" if row.waiting is None else f"{row.waiting}" + (f" -{row.lost}" if row.lost else ""),
    }
    styles = {"status": "red" if away else "green", "on": "yellow" if row.fallback else ""}
    styles["last result"] = "red" if row.problem else ""
    styles["outbox"] = "red" if row.lost else ""
    # Text, not a string: content from devices must not be interpreted as markup.
    return {
        title: Text(text, "dim" if away and title != "status" else styles.get(title, ""))
        for title, text in texts.items()
    }


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
            facts = asdict(row)
            for key in ("device", "status", "pipeline", "last_at", "update", "update_problem"):
                del facts[key]
            age = None if row.last_at is None else round(now - row.last_at, 1)
            device["pipelines"].append({"name": row.pipeline} | facts | {"last_result_age_s": age})
    return list(found.values())
