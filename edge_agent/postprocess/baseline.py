"""What is usual for one reading, learned from the readings themselves: robust statistics by time of day.

Each visit of an hour of the day leaves a summary: the 5 % quantile, the median and the 95 % quantile of its readings.
The last seven visits of each hour are kept. What is expected in an hour is the median of these summaries, moved along
their trend, the median of the slopes between all pairs of days (Theil-Sen estimator,
https://en.wikipedia.org/wiki/Theil-Sen_estimator). Its spread is that of the readings within a visit together with
the median absolute deviation of the visits (https://en.wikipedia.org/wiki/Median_absolute_deviation). Quantiles, since
a reading may have two usual levels, as the power of a refrigerator has. An hour with fewer than four visits is
judged by all of them.

A change of level within the expected band is found by cumulative sums (CUSUM, Page 1954,
https://en.wikipedia.org/wiki/CUSUM) of how far readings are beyond the 5 % or 95 % quantile.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, Literal, NamedTuple

from edge_agent.settings.statistics import Statistics

Reason = Literal["level", "change", "stuck", "gap"]

VISITS = 7
"""Visits that are kept of each hour of the day."""
SAMPLE = 60
"""Readings that are kept of the present visit; if more come, every second, fourth, … of them."""
LEAST = 12
"""Readings without which nothing is judged."""
ENOUGH_VISITS = 4
"""Visits without which an hour is judged by all hours, and without which there is no trend."""
SIGMAS = 1.645
"""How many standard deviations from the median the 5 % and 95 % quantiles of a normal distribution are."""
MAD_SIGMA = 1.4826
"""The standard deviation of a normal distribution in units of its median absolute deviation."""
RELATIVE_SPREAD = 0.005
"""The least standard deviation, as a fraction of the level."""
# CUSUM: the distance that does not count, in reaches (from the median to a quantile), the sum that is an alarm, and how
# many pieces of the time of learning each count as one reading: readings that follow each other closely are alike.
ALLOWANCE, LIMIT, PIECES = 1.25, 8.0, 100
# A reading is stuck, or missing, after this many times the longest time without a change, or between two readings, that
# was usual, and not before that many readings, or seconds.
PATIENCE, STUCK_READINGS, LEAST_GAP = 3.0, 10, 60.0


class Band(NamedTuple):
    """What is expected now.

    Attributes:
        low, high: the 5 % and 95 % quantiles.
        middle: the median.
        lower, upper: readings beyond these are unusual.
    """

    low: float
    middle: float
    high: float
    lower: float
    upper: float


class Visit(NamedTuple):
    """The summary of an hour: day number, 5 % quantile, median, 95 % quantile."""

    day: int
    low: float
    middle: float
    high: float


class Verdict(NamedTuple):
    """What is to be said of a reading.

    Attributes:
        expected: the lower and upper end of the band; None while it is learned.
        score: 0: in the middle of the band; above 1: outside; None while the band is learned.
        reason: why it is unusual; None: it is usual.
    """

    expected: tuple[float, float] | None
    score: float | None
    reason: Reason | None


class Longest:
    """The longest time of each of the last days, of the time without a change for example."""

    def __init__(self, kept: object) -> None:
        pairs = kept if isinstance(kept, list) else []
        self.days = {int(day): float(span) for day, span in pairs}

    def note(self, day: int, span: float) -> None:
        """Takes a time, in seconds."""
        self.days[day] = max(span, self.days.get(day, 0.0))
        while len(self.days) > VISITS:
            del self.days[min(self.days)]

    @property
    def usual(self) -> float:
        """The longest of all, in seconds."""
        return max(self.days.values(), default=0.0)

    def as_json(self) -> list[list[float]]:
        """For `__init__`."""
        return [[day, round(span, 1)] for day, span in self.days.items()]


class Baseline:
    """Judges the readings of one channel, and learns from those that are usual. Not thread-safe.

    Args:
        options: of the detector.
        kept: what `as_json` has returned earlier; empty: nothing is known yet.

    Attributes:
        last_at: when the last reading was taken, in seconds since the epoch.
    """

    def __init__(self, options: Statistics, kept: Mapping[str, Any]) -> None:
        self._options = options
        self._first: float | None = kept.get("first")
        self._count = int(kept.get("count", 0))
        self._took = float(kept.get("took", 0.0))
        self._step = float(kept.get("step", 0.0))
        self._visits = {
            int(hour): [Visit(int(one[0]), *map(float, one[1:4])) for one in visits]
            for hour, visits in kept.get("visits", {}).items()
        }
        day, hour, self._thinning, *sample = kept.get("present", (0, -1, 1))
        self._now, self._sample, self._seen = (int(day), int(hour)), [float(one) for one in sample], 0
        self._still, self._waits = Longest(kept.get("still")), Longest(kept.get("waits"))
        self._last: float | None = None
        self.last_at = self._since = 0.0
        self._same = 0
        self._sums = [0.0, 0.0]
        self._band: Band | None = None

    @property
    def is_learning(self) -> bool:
        """Whether too little is known for a judgement."""
        if self._first is None or self._count < LEAST:
            return True
        learn = self._options.learn
        return self._count < learn if isinstance(learn, int) else self._took < learn

    @property
    def _learned_in(self) -> float:
        """How long it took to learn, in seconds."""
        learn = self._options.learn
        if not isinstance(learn, int):
            return learn
        return max(self._took, 1e-3)

    @property
    def overdue_at(self) -> float | None:
        """When the next reading is missing, in seconds since the epoch; None: not known."""
        if self._last is None or self.is_learning:
            return None
        return self.last_at + max(PATIENCE * self._waits.usual, LEAST_GAP)

    def judge(self, value: float, at: float) -> Verdict:
        """Judges a reading; `learn` or `skip` must follow.

        Args:
            value: the reading.
            at: when it was taken, in seconds since the epoch.
        """
        self._enter(at)
        if self.is_learning or (band := self._expected()) is None:
            return Verdict(None, None, None)
        away = value - band.middle
        score = away / (band.upper - band.middle) if away >= 0 else away / (band.lower - band.middle)
        changed = self._accumulate(value, at, band)
        same = value == self._last
        stuck = self._step > 0 and same and self._same + 1 >= STUCK_READINGS
        stuck = stuck and at - self._since > PATIENCE * self._still.usual
        reason: Reason | None = "level" if score > 1 else "change" if changed else "stuck" if stuck else None
        return Verdict((band.lower, band.upper), score, reason)

    def skip(self, value: float, at: float) -> None:
        """Takes note of a reading from which nothing is to be learned, since it is unusual."""
        self._follow(value, at, learns=False)

    def learn(self, value: float, at: float) -> None:
        """Learns from a reading that is usual."""
        if self._first is None:
            self._first = at
        if self.is_learning:
            self._took = at - self._first
        self._count += 1
        self._follow(value, at, learns=True)
        if self._seen % self._thinning == 0:
            self._sample.append(value)
            if self._seen < SAMPLE // 2 or self._seen % 8 == 0:
                self._band = None
            if len(self._sample) > SAMPLE:
                self._sample, self._thinning = self._sample[::2], self._thinning * 2
        self._seen += 1

    def as_json(self) -> dict[str, Any]:
        """What is known, in a form that JSON can hold."""
        return {
            "first": self._first,
            "count": self._count,
            "took": round(self._took, 3),
            "step": self._step,
            "visits": {
                hour: [[one.day, *(float(f"{value:.6g}") for value in one[1:])] for one in visits]
                for hour, visits in self._visits.items()
            },
            "present": [*self._now, self._thinning, *(float(f"{value:.6g}") for value in self._sample)],
            "still": self._still.as_json(),
            "waits": self._waits.as_json(),
        }

    def _follow(self, value: float, at: float, *, learns: bool) -> None:
        """Records how long a reading has not changed, and how long it has taken to come."""
        day = self._now[0]
        if self._last is None:
            self._since, self._same = at, 0
        else:
            difference = abs(value - self._last)
            if learns:
                self._waits.note(day, max(0.0, at - self.last_at))
                if difference > 0 or self.is_learning:  # else it may be about to be stuck
                    self._still.note(day, max(0.0, at - self._since))
                if difference > 0:
                    self._step = min(difference, self._step or difference)
            self._same += 1
            if difference > 0:
                self._since, self._same = at, 0
        self._last, self.last_at = value, at

    def _enter(self, at: float) -> None:
        """Ends the visit of the hour before, when another one begins."""
        clock = time.localtime(at)
        now = (int(at + clock.tm_gmtoff) // 86400, clock.tm_hour)
        if now == self._now:
            return
        if self._sample:
            visits = self._visits.setdefault(self._now[1], [])
            visits.append(Visit(self._now[0], *_quantiles(self._sample)))
            del visits[:-VISITS]
        self._now, self._sample, self._seen, self._thinning, self._band = now, [], 0, 1, None

    def _expected(self) -> Band | None:
        """The band of this hour; None if nothing is known."""
        if self._band is not None:
            return self._band
        day, hour = self._now
        visits: Sequence[Visit] = self._visits.get(hour, ())
        if is_own := len(visits) >= ENOUGH_VISITS:
            slope = _slope(visits)
        else:
            slope, visits = 0.0, [one for several in self._visits.values() for one in several]
            if self._sample:
                visits = [*visits, Visit(day, *_quantiles(self._sample))]
        if not visits:
            return None
        low, middle, high = (
            median(one[place] + slope * (day - one.day) for one in visits) for place in range(1, len(Visit._fields))
        )
        between = MAD_SIGMA * median(abs(one.middle + slope * (day - one.day) - middle) for one in visits)
        if is_own:
            between = max(between, self._between_days())
        within = (high - low) / (2 * SIGMAS)
        floor = self._options.min_spread or max(self._step, RELATIVE_SPREAD * abs(middle), 1e-9)
        spread = max((within**2 + between**2) ** 0.5, floor)
        spread *= 1 + 2 / len(visits)  # a few visits tell less of it than many
        low, high = min(low, middle - SIGMAS * spread), max(high, middle + SIGMAS * spread)
        reach = (self._options.deviations - SIGMAS) * spread
        self._band = Band(low, middle, high, low - reach, high + reach)
        return self._band

    def _between_days(self) -> float:
        """The standard deviation of the median of an hour, from day to day; over all hours."""
        enough = [visits for visits in self._visits.values() if len(visits) >= ENOUGH_VISITS]
        away = [abs(one.middle - median(each.middle for each in visits)) for visits in enough for one in visits]
        return MAD_SIGMA * median(away)

    def _accumulate(self, value: float, at: float, band: Band) -> bool:
        """Whether the level has changed within the band."""
        passed = min(max(0.0, at - self.last_at) / (self._learned_in / PIECES), 1.0) if self._last is not None else 0.0
        reaches = ((value - band.middle) / (band.high - band.middle), (band.middle - value) / (band.middle - band.low))
        for side, reach in enumerate(reaches):
            self._sums[side] = min(max(0.0, self._sums[side] + passed * (min(reach, 4.0) - ALLOWANCE)), 2 * LIMIT)
        return max(self._sums) > LIMIT


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 5 % quantile, the median, and the 95 % quantile of at least one value."""
    ordered = sorted(values)
    cut = round(0.05 * (len(ordered) - 1))
    return ordered[cut], median(ordered), ordered[-1 - cut]


def _slope(visits: Sequence[Visit]) -> float:
    """By how much the median changes a day."""
    slopes = [(b.middle - a.middle) / (b.day - a.day) for a, b in combinations(visits, 2) if b.day != a.day]
    return median(slopes) if slopes else 0.0
