"""What every source promises, whatever it reads from. A test module for a source inherits from these classes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.errors import InputError
from edge_agent.samples import Series
from tests.broker import PATIENCE, wait_until
from tests.sources.listener import Listener
from tests.sources.stage import Stage

QUICK_S = 0.5 * PATIENCE
# Where a program has to end, on a machine with other things to do; one that does not want to is given longer.
SOON_S = 1.5
# The longest that a stream may take to open.
OPENED_S = 15.0


@dataclass(frozen=True)
class Setup:
    """A source and how to make it give something.

    Attributes:
        open: a new stage with the source.
        feed: makes so many good items come; for a source that reads what is already there, it does nothing.
        spoil: makes an item come that can't be used; of a finite source, before it is opened.
        origin: keys that `origin` has.
        total: number of items of a finite source.
    """

    open: Callable[[], Stage]
    origin: set[str]
    feed: Callable[[int], None] = lambda _: None
    spoil: Callable[[], None] = lambda: None
    total: int = 0


class SourceContract:
    """Of every source. A subclass has a fixture `setup`."""

    def test_a_sample_says_when_and_where_it_was_taken(self, setup: Setup) -> None:
        wall, monotonic = time.time(), time.monotonic()
        with setup.open() as stage:
            setup.feed(3)
            samples = list(stage.wait_for_results(3))
        for sample in samples:
            assert wall <= sample.captured_at <= time.time()
            assert monotonic <= sample.captured <= time.monotonic()
            assert setup.origin <= set(sample.origin)
        assert [sample.captured for sample in samples] == sorted(sample.captured for sample in samples)

    def test_to_stop_is_quick_and_nothing_comes_afterwards(self, setup: Setup) -> None:
        with setup.open() as stage:
            setup.feed(3)
            stage.wait_for_results(1)
            seconds = stage.stop()
            captured = stage.counts()["captured"]
            began = time.monotonic()
            stage.pipeline.finish(time.monotonic() + 10)
            stage.pipeline.close(time.monotonic() + 10)
            seconds += time.monotonic() - began
            assert stage.pipeline.ended
            assert stage.counts()["captured"] == captured
            assert stage.counts()["in_progress"] == 0
        assert seconds < QUICK_S

    def test_to_stop_is_quick_before_anything_has_come(self, setup: Setup) -> None:
        with setup.open() as stage:
            began = time.monotonic()
            stage.stop()
            stage.pipeline.finish(time.monotonic() + 10)
            stage.pipeline.close(time.monotonic() + 10)
            assert time.monotonic() - began < QUICK_S

    def test_no_thread_is_left_behind(self, setup: Setup) -> None:
        before = set(threading.enumerate())
        with setup.open() as stage:
            setup.feed(1)
            stage.wait_for_results(1)
        # One that is just opening a stream ends once it is open.
        wait_until(
            lambda: not [one for one in set(threading.enumerate()) - before if not _of_a_server(one)],
            OPENED_S,
            "all threads have ended",
        )

    def test_the_counters_balance_at_every_moment(self, setup: Setup) -> None:
        with setup.open() as stage:
            setup.feed(20)
            stage.wait_for_results(10)
            stage.gate.clear()
            setup.feed(20)
            looks = stage.looks
            stage.wait_for(lambda stage: stage.looks > looks + 10, "the counters are looked at while nothing moves")
            stage.gate.set()
        assert stage.looks > 10
        assert stage.imbalances == []
        counts = stage.counts()
        assert counts["inferred"] == counts["produced"] == counts["acknowledged"] == len(stage.results)


class SpoilableContract(SourceContract):
    """Of sources whose items may be damaged one by one."""

    def test_an_item_that_cannot_be_used_is_counted_and_the_rest_goes_on(self, setup: Setup) -> None:
        if setup.total:
            setup.spoil()
        with setup.open() as stage:
            if not setup.total:
                setup.spoil()
            setup.feed(1)
            stage.wait_for_results(max(1, setup.total))
            stage.wait_for(lambda stage: stage.given_up, "the bad item is reported")
            assert stage.counts()["dropped"]["invalid"] == 1
            [(sample, error)] = stage.given_up
        assert isinstance(error, InputError)
        assert setup.origin <= set(sample.origin)


class LosslessContract(SourceContract):
    """Of sources that slow the sender down when the consumer is slow."""

    def test_a_slow_consumer_loses_nothing(self, setup: Setup) -> None:
        count = setup.total or 40
        with setup.open() as stage:
            stage.gate.clear()
            setup.feed(count)
            stage.wait_for(lambda stage: stage.counts()["produced"], "a result that can't get out")
            assert stage.results == []
            stage.gate.set()
            stage.wait_for_results(count)
        counts = stage.counts()
        assert (counts["captured"], counts["inferred"]) == (count, count)
        assert set(counts["dropped"].values()) == {0}


class FiniteContract(LosslessContract):
    """Of sources that have an end."""

    def test_a_finite_source_closes_its_intake_at_its_end(self, setup: Setup) -> None:
        with setup.open() as stage:
            stage.wait_until_ended()
            assert len(stage.results) == setup.total
            assert stage.troubles == []


class LiveContract(SourceContract):
    """Of sources whose newest item matters more than every item."""

    def test_a_slow_consumer_gets_the_newest_and_the_rest_is_counted(self, setup: Setup) -> None:
        with setup.open() as stage:
            stage.wait_for_results(1)
            stage.gate.clear()
            before = stage.counts()["captured"]
            stage.wait_for(lambda stage: stage.counts()["captured"] > before + 20, "more than the consumer can take")
            stage.results.clear()
            opened = time.monotonic()
            stage.gate.set()
            # One result and one prepared sample were at the gate; behind them only the newest has waited.
            third = stage.wait_for_results(3)[2]
            assert third.captured > opened - 0.2
            counts = stage.counts()
        assert counts["dropped"]["superseded"] >= 15
        assert sum(counts["dropped"].values()) == counts["dropped"]["superseded"]


@dataclass(frozen=True)
class Readings:
    """A source of readings and how to make it give some.

    Attributes:
        open: a new listener with the source.
        origin: keys that `origin` has.
        feed: makes so many readings come; for a source that gives them by itself, it does nothing.
        spoil: makes one come that can't be used.
    """

    open: Callable[[], Listener]
    origin: set[str]
    feed: Callable[[int], None] = lambda _: None
    spoil: Callable[[], None] = lambda: None


class ReadingsContract:
    """Of every source of readings or sound. A subclass has a fixture `setup`."""

    def test_readings_say_when_and_where_they_were_taken(self, setup: Readings) -> None:
        wall, monotonic = time.time(), time.monotonic()
        with setup.open() as listener:
            setup.feed(5)
            listener.wait_for_readings(5)
        for sample in listener.samples:
            assert wall <= sample.captured_at <= time.time()
            assert monotonic <= sample.captured <= time.monotonic()
            assert setup.origin <= set(sample.origin)
        assert len({series.values.shape[1] for series in listener.series}) == 1
        assert {str(series.values.dtype) for series in listener.series} == {"float32"}
        assert not any(series.gap for series in listener.series)

    def test_to_stop_is_quick_and_nothing_comes_afterwards(self, setup: Readings) -> None:
        with setup.open() as listener:
            setup.feed(3)
            listener.wait_for_readings(3)
            assert listener.stop() < SOON_S
            before = len(listener.samples)
            setup.feed(3)
        assert len(listener.samples) == before

    def test_to_stop_is_quick_before_anything_has_come(self, setup: Readings) -> None:
        with setup.open() as listener:
            assert listener.stop() < SOON_S

    def test_no_thread_is_left_behind(self, setup: Readings) -> None:
        before = set(threading.enumerate())
        with setup.open() as listener:
            setup.feed(3)
            listener.wait_for_readings(3)
        assert set(threading.enumerate()) - before == set()


class SpoilableReadingsContract(ReadingsContract):
    """Of sources whose readings may be damaged one by one."""

    def test_a_reading_that_cannot_be_used_is_told_and_leaves_a_gap(self, setup: Readings) -> None:
        with setup.open() as listener:
            setup.feed(3)
            listener.wait_for_readings(3)
            setup.spoil()
            listener.wait_for(lambda listener: listener.errors, "the bad reading is told")
            setup.feed(3)
            listener.wait_for(lambda listener: not isinstance(listener.samples[-1].data, InputError), "readings again")
        assert len(listener.errors) == 1
        # Elsewhere there may be gaps too: a machine that is busy misses readings of its own accord.
        bad = next(at for at, sample in enumerate(listener.samples) if isinstance(sample.data, InputError))
        after = listener.samples[bad + 1].data
        assert isinstance(after, Series)
        assert after.gap
        assert listener.troubles == []


def _of_a_server(thread: threading.Thread) -> bool:
    return "process_request" in thread.name
