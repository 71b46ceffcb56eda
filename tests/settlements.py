"""Watches over the ends of inputs: in every test, each input that a pipeline takes ends exactly once."""

import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from edge_agent.counters import Settlement
from edge_agent.samples import Sample


@contextmanager
def every_input_ends_once() -> Iterator[list[str]]:
    """Fails, at its end, if an input has ended twice or was released without an end; gives what is wrong so far."""
    defects: list[str] = []
    created = False

    def counting(settlement: Settlement, *arguments: Any) -> None:
        nonlocal created
        created = True
        original(settlement, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        original = Settlement.__init__
        patch.setattr(Settlement, "__init__", counting)
        patch.setattr(Settlement, "report_defect", staticmethod(defects.append))
        yield defects
        if created:
            with warnings.catch_warnings():
                # What an earlier test has left behind is not this one's.
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()  # an input in a cycle of references is released here, not in a later test
    assert not defects, f"an input {'; '.join(defects)}"


def ended(samples: Sequence[Sample]) -> list[Sample]:
    """The same samples, which a test has taken out of a queue itself; they are given up."""
    for sample in samples:
        sample.settlement.give_up("failed")
    return list(samples)
