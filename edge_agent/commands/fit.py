"""`models fit`: what a model file does not say, found from labelled pictures."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.model_arguments import add_model_arguments, model_settings

if TYPE_CHECKING:
    from edge_agent.fitting.fit import Fit
    from edge_agent.fitting.race import Standing
    from edge_agent.models.resolve import ModelSource

SHOWN = 12


def add_action(actions: Subparsers) -> None:
    """Adds the action `fit` to those of `models`."""
    parser = actions.add_parser("fit", help="find from labelled pictures what a model file does not say")
    add_model_arguments(parser)
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="labelled pictures: a folder for each class, COCO, CSV, …"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="BUNDLE", help="folder to make, or a .zip (MODEL-fitted)")


def run(args: argparse.Namespace) -> int:
    """Tries, prints the table, and writes a bundle if one combination is better beyond doubt; 1 if none is.

    Raises:
        ConfigError: the data can't be read.
        ModelError: the model can't be read or run, or the data does not fit it.
        EdgeAgentError: a picture can't be used.
    """
    from edge_agent.errors import ConfigError
    from edge_agent.evaluation.datasets import open_dataset
    from edge_agent.fitting.fit import fit
    from edge_agent.models.pack import About, pack_source
    from edge_agent.models.resolve import resolve_model

    options = model_settings(args)
    source = resolve_model(options, Path.cwd())
    name = source.file.path.stem
    out = args.out or Path(f"{name}-fitted")
    if out.exists():
        raise ConfigError([f"{out}: is there already: remove it, or name another place with --out"])
    if pictures := _unlabelled(args.data):
        return _rank(source, pictures, as_json=args.json)
    found = fit(source, open_dataset(args.data))
    if found.chosen is not None:
        pack_source(replace(source, stated=found.chosen), About(name, source.version, ""), [], out)
    if args.json:
        print(json.dumps(_document(found, out), indent=2))
    else:
        _show(found, out)
    if found.chosen is None:
        print(f"{source.file.path}: nothing is written: {found.reason}", file=sys.stderr)
        return 1
    return 0


def _unlabelled(data: Path) -> list[Path]:
    """The pictures of a folder that holds nothing else; none where there may be labels."""
    from edge_agent.sources.images import ENDINGS

    found = sorted(path for path in data.iterdir() if not path.name.startswith(".")) if data.is_dir() else []
    return found if all(path.is_file() and path.suffix.lower() in ENDINGS for path in found) else []


def _rank(source: "ModelSource", pictures: Sequence[Path], *, as_json: bool) -> int:
    """Ranks by self-consistency alone; returns 1, since nothing is decided."""
    from edge_agent.fitting.fit import rank

    rows = rank(source, pictures)
    if as_json:
        print(json.dumps({"path": None, "ranking": [{"choice": words, "score": one.score} for words, one in rows]}))
    else:
        width = max(len(words) for words, _ in rows)
        print(f"{'COMBINATION':{width}}  CERTAINTY")
        for words, one in rows[:SHOWN]:
            print(f"{words:{width}}  {one.score:9.2f}")
    print(
        f"{source.file.path}: nothing is written: the pictures have no labels. A model can be sure and wrong, so this "
        "order is a hint: put 20 of the pictures into a folder for each class",
        file=sys.stderr,
    )
    return 1


def _show(found: "Fit", out: Path) -> None:
    _table("COMBINATION", found.standings)
    if len(found.fits) > 1:
        print()
        _table("RESIZE", found.fits)
    if found.chosen is not None:
        print("\n".join(filter(None, (found.note, f"{out}: written"))))


def _table(title: str, rows: "Sequence[tuple[str, Standing[Any]]]") -> None:
    shown = rows[:SHOWN]
    width = max(len(title), *(len(words) for words, _ in shown))
    print(f"{title:{width}}  RIGHT  95 %         PICTURES")
    for words, one in shown:
        low, high = one.interval
        print(f"{words:{width}}  {one.accuracy:5.0%}  {low:4.0%} to {high:4.0%}  {one.samples:8}")
    if further := len(rows) - len(shown):
        print(f"and {further} more, which were further behind")


def _document(found: "Fit", out: Path) -> dict[str, Any]:
    return {
        "path": None if found.chosen is None else str(out),
        "reason": found.reason or None,
        "note": found.note or None,
        "combinations": [_row(words, one) for words, one in found.standings],
        "resize": [_row(words, one) for words, one in found.fits],
    }


def _row(words: str, one: "Standing[Any]") -> dict[str, Any]:
    return {
        "choice": words,
        "accuracy": one.accuracy,
        "interval": list(one.interval),
        "score": one.score,
        "samples": one.samples,
        "chance": one.chance,
    }
