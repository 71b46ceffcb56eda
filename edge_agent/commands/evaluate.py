"""`evaluate`: how right a model is on labelled data, on this machine, by the same steps as in the daemon."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.model_arguments import MODEL, add_model_arguments, model_settings
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    from edge_agent import settings
    from edge_agent.evaluation.judging import Options
    from edge_agent.evaluation.labelled import Dataset
    from edge_agent.evaluation.report import Difference
    from edge_agent.evaluation.run import Limits, Run

MAX_CLASSES, MAX_MISTAKES, MAX_NAME = 15, 5, 30


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("evaluate", help="accuracy of a model on labelled data, on this machine")
    add_model_arguments(parser)
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="labelled data: a folder per class, COCO, YOLO, VOC, CSV"
    )
    parser.add_argument("--accelerator", metavar="A", help="what it runs on: `cpu` (default), `edgetpu`, …")
    parser.add_argument("--threads", type=between(1, 64), metavar="N", help="of the CPU")
    add_run_arguments(parser)
    parser.add_argument("--against", metavar="MODEL", help=f"another model on the same data: {MODEL}")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="folder to draw figures into, as PNG")
    parser.add_argument(
        "--record", action="store_true", help="write the figures into the bundle's model.yaml, which MODEL is"
    )
    parser.set_defaults(run=run)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds how the data are read, and what counts."""
    parser.add_argument("--map", type=Path, metavar="FILE", help="YAML, lines `label of the data: label of the model`")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="half of the data (test)")
    parser.add_argument("--top-k", type=between(1, 1000), metavar="N", help="most predictions of an input that count")
    parser.add_argument(
        "--min-confidence", type=between(0.0, 1.0), metavar="C", help="predictions below this do not count, 0 to 1"
    )
    parser.add_argument("--normal", metavar="LABEL", help="of normal samples, for anomaly models")
    parser.add_argument(
        "--false-alarms",
        type=between(0.0, 1.0),
        default=0.01,
        metavar="F",
        help="share of normal samples that the threshold of an anomaly model may report (0.01)",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints; returns the exit code: 1 if a sample could not be used, or if it was ended early.

    Raises:
        ConfigError: the data is not as expected, or does not fit the model.
        ModelError: a model can't be used.
        MissingExtraError: a figure is asked for, and nothing here draws it.
    """
    from edge_agent.evaluation import recorded, report
    from edge_agent.evaluation.datasets import open_dataset

    if args.plot is not None:
        from edge_agent.evaluation import plots

        plots.check()
    if args.record:
        recorded.check_folder(Path(args.model))
    options, limits = evaluation_options(args)
    other = None if args.against is None else _other(args)
    dataset = open_dataset(args.data, args.split)
    first = evaluated(with_runtime(model_settings(args), args), dataset, options, limits)
    runs = [first]
    if other is not None and not first.interrupted:
        runs.append(evaluated(with_runtime(other, args), dataset, options, limits))
    documents = [
        report.document(one, name, args.data) for one, name in zip(runs, (args.model, args.against), strict=False)
    ]
    if args.record and not first.interrupted:
        recorded.record(Path(args.model), first, dataset, documents[0])
        print(printable(f"{args.model}: recorded in model.yaml"), file=sys.stderr)
    compared = report.difference(*runs) if len(runs) > 1 else None
    if args.plot is not None:
        for path in plots.draw(first, dataset, args.plot):
            print(printable(str(path)), file=sys.stderr)
    if args.json:
        extra = {"against": documents[1], "difference": compared.document()} if compared else {}
        print(json.dumps(documents[0] | extra, indent=2))
    else:
        for one, found in zip(documents, runs, strict=True):
            show(one, found)
        if compared:
            show_difference(compared)
    return 1 if any(one.failures or one.interrupted for one in runs) else 0


def _other(args: argparse.Namespace) -> "settings.Model":
    """The settings of the model that the first one is compared with.

    What is stated of the first one (labels, say) counts for the other one where that says too little by itself.

    Raises:
        ModelError: it can't be read, or says too little.
    """
    from edge_agent import settings
    from edge_agent.errors import ModelError
    from edge_agent.models.io_spec import UnclearError, derive
    from edge_agent.models.resolve import ModelSource, resolve

    other, missing = settings.Model(path=Path(args.against)), ModelError("")
    for tried in (other, model_settings(args).model_copy(update={"path": other.path})):
        source = resolve(tried, Path.cwd())
        try:
            if isinstance(source, ModelSource):
                derive(source.file, source.stated)
        except UnclearError as error:
            missing = error
        else:
            return tried
    raise missing


def evaluation_options(args: argparse.Namespace) -> "tuple[Options, Limits]":
    """What the arguments state of the evaluation.

    Raises:
        ConfigError: the mapping of labels can't be read.
    """
    from edge_agent.evaluation.judging import Options
    from edge_agent.evaluation.labels import read_mapping
    from edge_agent.evaluation.run import Limits

    mapping = read_mapping(args.map) if args.map is not None else {}
    return Options(mapping, args.normal, args.false_alarms), Limits(args.top_k, args.min_confidence)


def with_runtime(model: "settings.Model", args: argparse.Namespace) -> "settings.Model":
    """The settings of a model with the accelerator and the threads that the arguments state.

    Raises:
        ConfigError: there is no such accelerator.
    """
    from edge_agent.errors import ConfigError
    from edge_agent.settings import AcceleratorName

    stated: dict[str, Any] = {}
    if args.accelerator is not None:
        if args.accelerator not in get_args(AcceleratorName):
            known = ", ".join(get_args(AcceleratorName))
            raise ConfigError([f"--accelerator: there is no {args.accelerator!r}; there are {known}"])
        stated["accelerators"] = (args.accelerator,)
    if args.threads is not None:
        stated["threads"] = args.threads
    return model.model_copy(update=stated)


def evaluated(options: "settings.Model", dataset: "Dataset", how: "Options", limits: "Limits") -> "Run":
    """Loads a model and evaluates it, with a line of progress.

    Raises:
        ConfigError: the data does not fit the model.
        ModelError: the model can't be used.
    """
    from edge_agent.evaluation import run as evaluation
    from edge_agent.models import language
    from edge_agent.models.budget import Budget
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.model import load_qualified
    from edge_agent.models.resolve import resolve
    from edge_agent.models.tuning import threads_of
    from edge_agent.system import memory

    before, name = memory.taken(), options.path.stem
    source = resolve(options, Path.cwd())
    with _progress(len(dataset), name) as progress:
        if isinstance(source, LanguageSource):
            speaker = language.load(name, options, source, lambda: None, threads_of(options), Budget(None))
            try:
                return evaluation.evaluate_language(speaker, dataset, progress, before)
            finally:
                speaker.close()
        model = load_qualified(name, source)
        try:
            return evaluation.evaluate(model, dataset, how, limits, progress, before)
        finally:
            model.close()


class _Progress:
    """Counts, and ends it at the first Ctrl-C."""

    def __init__(self) -> None:
        self.stopping = False
        self.show: Callable[[int], None] = lambda _: None

    def done(self, samples: int) -> None:
        """See `Progress`."""
        self.show(samples)

    def stop(self, *_: object) -> None:
        """Ends after the sample that is in work; a second Ctrl-C ends the program."""
        self.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _progress(samples: int, name: str) -> "Iterator[_Progress]":
    """Shows a bar with the time left on stderr, if that is a terminal."""
    progress = _Progress()
    before = signal.signal(signal.SIGINT, progress.stop)
    try:
        if not sys.stderr.isatty():
            yield progress
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(printable(name), total=samples)
            progress.show = lambda samples: bar.update(task, completed=samples)
            yield progress
    finally:
        signal.signal(signal.SIGINT, before)


def show(document: Mapping[str, Any], run: "Run") -> None:
    """Prints what came of an evaluation."""
    ended = ", ended early" if document["interrupted"] else ""
    left_out = f", {document['left_out']} left out" if document["left_out"] else ""
    print(printable(f"{document['model']}: {document['task']}, {document['samples']} samples{left_out}{ended}"))
    for key, value in document["metrics"].items():
        interval = document["interval"].get(key)
        place = f"  95 %: {_figure(interval[0])} to {_figure(interval[1])}" if interval else ""
        print(f"  {key:18} {_figure(value):>8}{place}")
    latency = document["latency_ms"]
    if latency["p50"] is not None:
        rate = f"; {document['per_second']:.1f} a second" if document["per_second"] else ""
        p50, p90, p99 = (f"{centile} {latency[centile]:.1f} ms" for centile in ("p50", "p90", "p99"))
        print(f"  latency            {p50}, {p90}, {p99}{rate}")
        print(f"  memory             {document['memory_mb']:.1f} MB")
    _show_classes(document["per_class"])
    worst = sorted((one for one in run.judge.outcomes if one.score < 1), key=lambda one: -one.badness)[:MAX_MISTAKES]
    if worst:
        print("worst mistakes")
        for one in worst:
            print(f"  {printable(one.where)}: {_short(one.expected)}, found {_short(one.found)}")
    for failure in document["failed"][:MAX_MISTAKES]:
        text = failure["error"]
        print(printable(text if text.startswith(failure["where"]) else f"{failure['where']}: {text}"), file=sys.stderr)
    if len(document["failed"]) > MAX_MISTAKES:
        print(f"and {len(document['failed']) - MAX_MISTAKES} more samples that could not be used", file=sys.stderr)


def _show_classes(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    keys = [key for key in rows[0] if key not in ("label", "taken_for")]
    width = max(len(_short(row["label"], MAX_NAME)) for row in rows[:MAX_CLASSES])
    print(f"{'class':{width + 2}} {'  '.join(f'{key:>9}' for key in keys)}")
    for row in rows[:MAX_CLASSES]:
        figures = "  ".join(f"{_figure(row.get(key)):>9}" for key in keys)
        mistake = f"  taken for {_short(row['taken_for'], MAX_NAME)}" if "taken_for" in row else ""
        print(f"  {_short(row['label'], MAX_NAME):{width}} {figures}{mistake}")
    if len(rows) > MAX_CLASSES:
        print(f"  and {len(rows) - MAX_CLASSES} more classes, each as good or better")


def show_difference(compared: "Difference") -> None:
    """Prints how two models differ."""
    print(f"the first less the second, on {compared.samples} samples")
    for key, value in compared.metrics.items():
        low, high = compared.interval.get(key, (float("nan"), float("nan")))
        verdict = "" if low > 0 or high < 0 else "  (may be chance)"
        print(f"  {key:18} {value:>+8.4f}  95 %: {low:+.4f} to {high:+.4f}{verdict}")
    if compared.differing:
        print(f"samples that they differ on: {len(compared.differing)} (right / the first / the second)")
        for row in compared.differing[:MAX_MISTAKES]:
            names = (_short(row[key]) for key in ("expected", "found", "against"))
            print(f"  {printable(row['where'])}: {' / '.join(names)}")


def _short(text: str, most: int = 44) -> str:
    """A text that fits into a line; its end, where the confidence is, stays."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 9]}…{text[-8:]}"


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
