"""How things are compared: in turns, in pairs, and again when somebody else was busy."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import Broker, foreign_cores
from benchmarks.versions import PRESENT, Version

# Cores that others may keep busy during a measurement, else it is made again, at most so often.
QUIET = 0.08
REPEATS = 3
# How long a calm moment is, in seconds, and for how long one is waited for before an attempt.
MOMENT = 0.25
PATIENCE = 20.0
FOREIGN = "foreign_cores"

Measured = dict[str, float]
Turns = dict[str, list[Measured]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every benchmark needs.

    Attributes:
        folder: for configurations and logs; its `jpegs` folder holds the inputs.
        jpegs: the inputs.
        broker: the one that all talk through.
        cores: how many the programs run on.
        rounds: how many turns each contender gets.
        count: inputs a turn.
        minutes: how long memory is watched.
        idle_seconds: how long idleness is watched.
        before: the version that the present one is compared with, if any.
    """

    folder: Path
    jpegs: Sequence[bytes]
    broker: Broker
    cores: int
    rounds: int
    count: int
    minutes: float
    idle_seconds: float
    before: Version | None = None

    @property
    def versions(self) -> list[Version]:
        """The present one, called `daemon`, and the one before."""
        return [PRESENT] if self.before is None else [PRESENT, self.before]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        goal: its number.
        what: what is divided by what, or measured.
        value: the median.
        low, high: the least and the most of the rounds.
        wanted: `>= 2.0`, or empty where it is told for information.
        unit: empty for a ratio.
    """

    goal: int
    what: str
    value: float
    low: float
    high: float
    wanted: str = ""
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value is as wanted; None where nothing is."""
        if not self.wanted:
            return None
        relation, limit = self.wanted.split()
        return self.value >= float(limit) if relation == ">=" else self.value <= float(limit)


@dataclass(slots=True)
class Outcome:
    """Of one benchmark: lines for the table, and the measurements that they come from."""

    figures: list[Figure] = field(default_factory=list)
    measured: dict[str, Turns] = field(default_factory=dict)

    @property
    def foreign_cores(self) -> float:
        """How many cores others kept busy during the turns; the median."""
        turns = [turn for contenders in self.measured.values() for measured in contenders.values() for turn in measured]
        return statistics.median([turn[FOREIGN] for turn in turns if FOREIGN in turn] or [0.0])

    @property
    def calm(self) -> bool:
        """Whether the machine did hardly anything else."""
        return self.foreign_cores <= QUIET

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        turns = {
            benchmark: {name: [_rounded(turn) for turn in measured] for name, measured in contenders.items()}
            for benchmark, contenders in self.measured.items()
        }
        return {
            "figures": [asdict(figure) | {"met": figure.met} for figure in self.figures],
            "calm": self.calm,
            "turns": turns,
        }


def _rounded(measured: Measured) -> Measured:
    return {name: round(value, 4) for name, value in measured.items()}


def take_turns(rounds: int, contenders: dict[str, Callable[[], Measured]], *, calm: bool = True) -> Turns:
    """Lets each contender be measured once a round, every second round in the opposite order.

    Args:
        rounds: how many.
        contenders: by name.
        calm: whether the measurement suffers when others are busy.
    """
    turns: Turns = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
        for name in order:
            turns[name].append(_quietly(contenders[name]) if calm else contenders[name]())
    return turns


class Patience:
    """How long a whole run may wait, in seconds, for others to leave the machine alone."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait_for_a_calm_moment(self) -> None:
        """Returns after a while all the same."""
        began = time.monotonic()
        most = min(self.left, PATIENCE)
        while time.monotonic() - began < most and foreign_cores(lambda: time.sleep(MOMENT))[1] > QUIET:
            pass
        self.left -= time.monotonic() - began


# Not to be used up on a machine that is not calm at all: then things are measured as it is, and the figures say so.
patience = Patience(300)


def _quietly(measure: Callable[[], Measured]) -> Measured:
    """The first measurement during which nobody else was busy, or the one during which they were least so."""
    attempts: list[Measured] = []
    for _ in range(REPEATS):
        patience.wait_for_a_calm_moment()
        began = time.monotonic()
        measured, foreign = foreign_cores(measure)
        attempts.append(measured | {FOREIGN: foreign})
        if foreign <= QUIET or patience.left <= 0:
            break
        patience.left -= time.monotonic() - began
    return min(attempts, key=lambda attempt: attempt[FOREIGN])


def compare(
    goal: int, what: str, ours: Sequence[float], theirs: Sequence[float], wanted: str = "", *, difference: bool = False
) -> Figure:
    """The ratio (or the difference, in MiB) of two series, round by round, so that a slow spell hits both alike."""
    pairs = zip(ours, theirs, strict=True)
    values = [a - b if difference else a / b for a, b in pairs]
    return summary(goal, what, values, wanted, "MiB" if difference else "")


def against_before(goal: int, what: str, key: str, turns: Turns, *, difference: bool = False) -> list[Figure]:
    """The present version against the one before, which had its turns in between; none if only one was measured."""
    if "before" not in turns:
        return []
    sign = "-" if difference else "/"
    ours, theirs = (column(turns[name], key) for name in ("daemon", "before"))
    return [compare(goal, f"{what}, daemon {sign} version before", ours, theirs, difference=difference)]


def summary(goal: int, what: str, values: Sequence[float], wanted: str = "", unit: str = "") -> Figure:
    """Median and spread of a series."""
    return Figure(goal, what, statistics.median(values), min(values), max(values), wanted, unit)


def column(turns: Sequence[Measured], key: str) -> list[float]:
    """One value of each turn."""
    return [turn[key] for turn in turns]
