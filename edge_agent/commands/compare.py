"""`models compare`: accuracy against latency and memory of several models on the same data."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.evaluate import add_run_arguments, evaluated, evaluation_options, with_runtime
from edge_agent.commands.model_arguments import MODEL
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

if TYPE_CHECKING:
    from edge_agent.evaluation import plots
    from edge_agent.system.worker_process import Channel


def add_action(actions: Subparsers) -> None:
    """Adds the action and its arguments."""
    parser = actions.add_parser("compare", help="accuracy, latency and memory of several models on the same data")
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    parser.add_argument("data", type=Path, metavar="DATA", help="labelled data, as for `evaluate`")
    parser.add_argument("--accelerators", nargs="+", default=[None], metavar="A", help="each of these (cpu)")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=between(1, 64),
        default=[None],
        metavar="N",
        help="each of these numbers of threads",
    )
    add_run_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="folder to draw comparison.png into")


def run(args: argparse.Namespace) -> int:
    """Evaluates each model with each setting in a process of its own; returns the exit code: 1 if one failed.

    Raises:
        ConfigError: the data or the mapping can't be read, or the models have different tasks.
        MissingExtraError: a figure is asked for, and nothing here draws it.
    """
    from edge_agent.commands.benchmarking import CRASHED, in_process
    from edge_agent.evaluation.datasets import open_dataset

    if args.plot is not None:
        from edge_agent.evaluation import plots

        plots.check()
    evaluation_options(args)
    open_dataset(args.data, args.split)  # before the first model runs
    rows: list[dict[str, Any]] = []
    settings = [(model, a, t) for model in args.models for a in args.accelerators for t in args.threads]
    try:
        for model, accelerator, threads in settings:
            print(f"{printable(_named(model, accelerator, threads))}: measuring", file=sys.stderr)
            request = {key: value for key, value in vars(args).items() if key not in ("run", "models", "debug", "plot")}
            request |= {"data": str(args.data), "map": None if args.map is None else str(args.map)}
            stated = {"model": model, "accelerator": accelerator, "threads": threads}
            rows.append(stated | (in_process(__name__, **request | stated) or {"error": CRASHED}))
    except KeyboardInterrupt:
        if not rows:
            raise
    tasks = {row["task"] for row in rows if "task" in row}
    if len(tasks) > 1:
        raise ConfigError([f"models of different tasks can't be compared: {', '.join(sorted(tasks))}"])
    mark(rows)
    if args.plot is not None and (points := _points(rows)):
        print(printable(str(plots.draw_comparison(points, main_metric(rows), args.plot))), file=sys.stderr)
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    return 1 if len(rows) < len(settings) or any("error" in row or row["failed"] for row in rows) else 0


def main(channel: "Channel") -> None:
    """The process of one evaluation."""
    from edge_agent import settings
    from edge_agent.evaluation import report
    from edge_agent.evaluation.datasets import open_dataset

    request = channel.receive()
    args = argparse.Namespace(
        **request | {"data": Path(request["data"]), "map": request["map"] and Path(request["map"])}
    )
    try:
        options, limits = evaluation_options(args)
        model = with_runtime(settings.Model(path=Path(args.model)), args)
        found = report.document(
            evaluated(model, open_dataset(args.data, args.split), options, limits), args.model, args.data
        )
    except EdgeAgentError as error:
        channel.send({"error": str(error)})
    else:
        channel.send({key: value for key, value in found.items() if key not in ("per_class", "model")})


def mark(rows: Sequence[dict[str, Any]]) -> None:
    """Sets `best` of each row: whether no other is at least as right and as fast, and better in one of the two."""
    from edge_agent.evaluation.report import LESS_IS_BETTER, MAIN

    def figures(row: dict[str, Any]) -> tuple[float, float] | None:
        metric = MAIN[row["task"]] if "task" in row else ""
        value, latency = row.get("metrics", {}).get(metric), row.get("latency_ms", {}).get("p50")
        if value is None or latency is None:
            return None
        return (-value if metric in LESS_IS_BETTER else value), -latency

    known = [figures(row) for row in rows]
    for row, own in zip(rows, known, strict=True):
        others = [other for other in known if other is not None and own is not None and other != own]
        row["best"] = own is not None and not any(
            other[0] >= own[0] and other[1] >= own[1] for other in others if own is not None
        )


def main_metric(rows: Sequence[dict[str, Any]]) -> str:
    """The measure by which models of a task are compared."""
    from edge_agent.evaluation.report import MAIN

    return MAIN[next(row["task"] for row in rows if "task" in row)]


def _points(rows: Sequence[dict[str, Any]]) -> "list[plots.Point]":
    from edge_agent.evaluation import plots

    measured = [row for row in rows if "task" in row and row["latency_ms"]["p50"] is not None]
    metric = main_metric(measured) if measured else ""
    return [
        plots.Point(
            _named(Path(row["model"]).name, row["accelerator"], row["threads"]),
            row["metrics"][metric],
            row["interval"].get(metric),
            row["latency_ms"]["p50"],
            row["memory_mb"],
            row["best"],
        )
        for row in measured
        if row["metrics"].get(metric) is not None
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a line for each row, the fastest first."""
    from rich.console import Console
    from rich.table import Table

    usable = sorted((row for row in rows if "error" not in row), key=lambda row: row["latency_ms"]["p50"] or 0)
    if usable:
        metric = main_metric(usable)
        names = {row["model"]: Path(row["model"]).name for row in usable}
        short = len(set(names.values())) == len(names)
        table = Table(box=None, pad_edge=False)
        for name in ("model", metric, "95 %", "p50 ms", "a second", "memory MB", ""):
            table.add_column(name, justify="left" if name in ("model", "") else "right", no_wrap=name != "model")
        for row in usable:
            interval = row["interval"].get(metric)
            table.add_row(
                printable(_named(names[row["model"]] if short else row["model"], row["accelerator"], row["threads"])),
                _figure(row["metrics"].get(metric)),
                "" if interval is None else f"{_figure(interval[0])} to {_figure(interval[1])}",
                f"{row['latency_ms']['p50'] or 0:.1f}",
                f"{row['per_second'] or 0:.1f}",
                f"{row['memory_mb']:.1f}",
                "*" if row["best"] else "",
            )
        Console().print(table)
        print("* nothing here is both more accurate and faster")
    for row in rows:
        if "error" in row:
            print(
                printable(f"{_named(row['model'], row['accelerator'], row['threads'])}: {row['error']}"),
                file=sys.stderr,
            )


def _named(model: str, accelerator: str | None, threads: int | None) -> str:
    parts = [*([accelerator] if accelerator else []), *([counted(threads, "thread")] if threads else [])]
    return f"{model} ({', '.join(parts)})" if parts else model


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
