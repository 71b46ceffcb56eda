"""Figures of an evaluation, as PNG: confusion matrix, precision over recall, reliability, the worst mistakes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import EdgeAgentError, InputError, MissingExtraError
from edge_agent.evaluation.judging import Classified, Outcome
from edge_agent.evaluation.judging_pictures import Detected
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.evaluation.run import Run
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.preprocess.opencv import cv2
from edge_agent.system.terminal import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_NAMED, MAX_CURVES, MAX_NAME = 40, 10, 24
SHEET_COLUMNS, SHEET_ROWS, TILE = 5, 4, 224
DPI = 120
# Blue, green, red.
_RIGHT, _WRONG = (0, 120, 0), (0, 0, 190)


@dataclass(frozen=True, slots=True)
class Point:
    """One model in a comparison.

    Attributes:
        name: of the model and its setting.
        value: of the measure.
        interval: 95 % interval of it; None: unknown.
        latency: p50 in milliseconds.
        memory: in MB.
        best: whether no other is both more accurate and faster.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    latency: float
    memory: float
    best: bool


def check() -> None:
    """Checks that what draws is installed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import matplotlib.figure  # noqa: F401 - it is loaded when a figure is drawn
    except ImportError as error:
        raise MissingExtraError("drawing figures", "plot", error) from None


def draw(run: Run, dataset: Dataset, folder: Path) -> list[Path]:
    """Draws the figures that suit the task; returns their files.

    Args:
        run: the evaluation.
        dataset: that it was made on.
        folder: is made if it is not there.

    Raises:
        EdgeAgentError: a file can't be written.
    """
    drawn: list[Path] = []
    with _writing(folder):
        for name, figure in _figures(run):
            drawn.append(folder / name)
            figure.savefig(drawn[-1], dpi=DPI)
        sheet = _sheet(run, dataset)
        if sheet is not None:
            drawn.append(folder / "mistakes.png")
            drawn[-1].write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    return drawn


def draw_comparison(points: Sequence[Point], metric: str, folder: Path) -> Path:
    """Draws several models as `comparison.png`: accuracy over latency, and over memory; returns the file.

    Args:
        points: of the models.
        metric: name of the measure.
        folder: is made if it is not there.

    Raises:
        EdgeAgentError: the file can't be written.
    """
    figure, axes = _figure(11, 5, columns=2)
    for place, label in ((0, "latency (p50), ms"), (1, "memory, MB")):
        for number, point in enumerate(points, 1):
            across = (point.latency, point.memory)[place]
            color = "tab:blue" if point.best else "tab:gray"
            low, high = point.interval or (point.value, point.value)
            spread = [[max(0.0, point.value - low)], [max(0.0, high - point.value)]]
            axes[place].errorbar([across], [point.value], spread, fmt="o", color=color, capsize=2)
            axes[place].annotate(str(number), (across, point.value), (5, 4), textcoords="offset points", fontsize=8)
        axes[place].set(xlabel=label, ylabel=metric)
        axes[place].set_xlim(left=0)
    names = [f"{number} {_short(point.name)}{' *' if point.best else ''}" for number, point in enumerate(points, 1)]
    figure.suptitle("\n".join(", ".join(names[at : at + 4]) for at in range(0, len(names), 4)), fontsize=8)
    file = folder / "comparison.png"
    with _writing(folder):
        figure.savefig(file, dpi=DPI)
    return file


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise EdgeAgentError(f"{error.filename or folder}: can't be written: {error.strerror}") from error


def _figures(run: Run) -> Iterator[tuple[str, Any]]:
    judge = run.judge
    if isinstance(judge, Classified) and judge.outcomes:
        yield "confusion.png", confusion_figure(judge.confusion(), judge.names)
        yield "reliability.png", reliability_figure(judge.calibration())
    if isinstance(judge, Detected) and judge.curves:
        yield "precision_recall.png", curves_figure(judge)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def confusion_figure(matrix: "NDArray[np.float64]", names: list[str]) -> Any:
    """The matrix, each row divided by its sum. Of many classes, those are shown that are confused most, by name.

    Args:
        matrix: (classes, classes), the truth in rows.
        names: of the classes.
    """
    rows = np.flatnonzero(matrix.sum(axis=1))
    mistakes = matrix.sum(axis=1) - np.diag(matrix)
    shown, title = rows, f"{len(rows)} classes"
    if len(rows) > MAX_NAMED:
        # A class that is confused and the one that it is taken for stand beside each other.
        chosen: dict[int, None] = {}
        for row in rows[np.argsort(-mistakes[rows], kind="stable")]:
            others = matrix[row].copy()
            others[row] = 0
            for one in (int(row), int(others.argmax())) if others.any() else (int(row),):
                if len(chosen) < MAX_NAMED:
                    chosen[one] = None
        shown, title = np.array(list(chosen)), f"the {len(chosen)} classes that are confused most, of {len(rows)}"
    else:
        extra = np.flatnonzero(matrix[rows].sum(axis=0))
        shown = np.array([*rows, *(one for one in extra if one not in rows)])[: 2 * MAX_NAMED]
    part = matrix[np.ix_(shown, shown)] / np.maximum(matrix[shown].sum(axis=1, keepdims=True), 1)
    side = max(5.0, 2.5 + 0.24 * len(shown))
    figure, axes = _figure(side + 1, side)
    image = axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
    labels = [_short(names[one]) for one in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.set_xlabel("found")
    axes.set_ylabel("right")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the samples of a class")
    if len(shown) <= MAX_NAMED // 2:
        for row, column in zip(*np.nonzero(part), strict=True):
            color = "white" if part[row, column] > 0.5 else "black"  # noqa: PLR2004 - half of the scale
            count = f"{matrix[shown[row], shown[column]]:.0f}"
            axes.text(column, row, count, ha="center", va="center", fontsize=8, color=color)
    return figure


def reliability_figure(bins: "NDArray[np.float64]") -> Any:
    """How often the model is right, over how sure it is.

    Args:
        bins: see `metrics.calibration`.
    """
    figure, axes = _figure(5, 5)
    used, width = bins[bins[:, 0] > 0], 1 / len(bins)
    middles = (np.arange(len(bins)) + 0.5)[bins[:, 0] > 0] * width
    axes.bar(middles, used[:, 2], width * 0.95, label="share that is right", color="tab:blue")
    axes.plot(used[:, 1], used[:, 2], "o", color="tab:orange", label="mean confidence")
    axes.plot([0, 1], [0, 1], "--", color="gray", label="as sure as right")
    for middle, row in zip(middles, used, strict=True):
        axes.text(middle, 0.01, f"{row[0]:.0f}", ha="center", fontsize=7, color="white", rotation=90, va="bottom")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence of the first prediction", ylabel="share that is right")
    axes.set_title("reliability; in the bars: samples")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def curves_figure(judge: Detected) -> Any:
    """Precision over recall at an IoU (or OKS) of 0.5: the mean, and the classes with the most objects."""
    figure, axes = _figure(7, 5.5)
    ones, recalls = np.ones(len(judge.outcomes)), np.linspace(0, 1, 101)
    found: list[tuple[int, str, float, NDArray[np.float64]]] = []
    for label, curve in judge.curves.items():
        both = curve.curve(0, ones)
        if both is None:
            continue
        recall, precision = both[0][0], both[1][0]
        at = np.searchsorted(recall, recalls, side="left")
        values = (
            np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0)
            if len(precision)
            else 0 * recalls
        )
        found.append((curve.objects, label, float(values.mean()), values))
    found.sort(key=lambda one: -one[0])
    for objects, label, average, values in found[:MAX_CURVES]:
        axes.plot(recalls, values, linewidth=1, label=f"{_short(label)} {average:.2f} ({objects})")
    if len(found) > 1:
        mean = np.mean([one[3] for one in found], axis=0)
        axes.plot(recalls, mean, "k", linewidth=2.5, label=f"mean of {len(found)} {mean.mean():.2f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="AP50 (objects)")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _short(name: str) -> str:
    name = printable(name).replace("$", r"\$")
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _sheet(run: Run, dataset: Dataset) -> "NDArray[np.uint8] | None":
    """The pictures of the worst mistakes, with what is right and what was found: (height, width, 3), BGR."""
    worst = sorted(
        ((one, number) for one, number in zip(run.judge.outcomes, run.numbers, strict=True) if one.score < 1),
        key=lambda pair: -pair[0].badness,
    )
    tiles: list[NDArray[np.uint8]] = []
    for outcome, number in worst:
        tile = _tile(dataset.samples[number], outcome)
        if tile is not None:
            tiles.append(tile)
        if len(tiles) == SHEET_COLUMNS * SHEET_ROWS:
            break
    if not tiles:
        return None
    columns = min(SHEET_COLUMNS, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[at : at + columns]) for at in range(0, len(tiles), columns)])


def _tile(sample: LabelledSample, outcome: Outcome) -> "NDArray[np.uint8] | None":
    """A picture in a square with the boxes of what is there, and of what is not; below two lines. None: no picture."""
    if sample.path is None:
        return None
    try:
        pixels = decode_picture(sample.path.read_bytes()).pixels
    except (InputError, OSError):
        return None
    height, width = pixels.shape[:2]
    scale = (TILE - 8) / max(height, width)
    small = cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    objects = [one.scaled(width, height) if sample.relative else one for one in sample.objects or ()]
    for boxes, color in (([one.box for one in objects], _RIGHT), (outcome.boxes, _WRONG)):
        for box in boxes:
            x1, y1, x2, y2 = (round(edge * scale) for edge in box)
            cv2.rectangle(small, (x1, y1), (x2, y2), color, 1)
    tile = np.full((TILE + 44, TILE, 3), 255, np.uint8)
    top, left = (TILE - small.shape[0]) // 2, (TILE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    for line, (text, color) in enumerate(((outcome.expected, _RIGHT), (outcome.found, _WRONG))):
        shown = text.encode("ascii", "replace").decode()
        shown = shown if len(shown) <= 33 else f"{shown[:20]}..{shown[-11:]}"  # noqa: PLR2004 - as wide as a tile
        cv2.putText(tile, shown, (5, TILE + 15 + 18 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.38, color, 1, cv2.LINE_AA)
    return tile
