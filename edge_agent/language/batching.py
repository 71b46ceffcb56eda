"""Several answers at once: what they have to read next is read in one batch (continuous batching)."""

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.language import CHUNK
from edge_agent.language.generation import Answer, Generation, Part, Steps

End = Callable[[Answer | Exception], None]
"""Takes an answer, or why there is none."""


@dataclass(slots=True, eq=False)
class _Running:
    """An answer in progress.

    Attributes:
        part: what it has to read next.
    """

    steps: Steps
    end: End
    part: Part


class Batcher:
    """Answers several jobs at once. An answer joins the others at any time, and leaves when it is complete.

    Args:
        generation: the model.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._running: list[_Running] = []  # in the order in which they came

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running

    def add(self, steps: Steps, end: End) -> None:
        """Begins an answer: one more than before, and not more than the capacity of the model."""
        try:
            part = next(steps)
        except StopIteration as stop:
            end(stop.value)
        except Exception as error:  # noqa: BLE001 - the runtimes' exceptions have no common base
            end(error)
        else:
            self._running.append(_Running(steps, end, part))

    def step(self) -> None:
        """Reads one batch: the next token of each answer, and of prompts as much as `CHUNK`, the oldest first."""
        parts = self._choose()
        try:
            if together := [part for part in parts if not part.alone]:
                self._generation.read(together)
            for part in parts:
                if part.alone:
                    self._generation.read([part])
        except Exception as error:  # noqa: BLE001 - see `add`
            # What has been read is not known of any of them.
            self._generation.reset()
            failed, self._running = self._running, []
            for running in failed:
                running.steps.close()
                running.end(error)
            return
        before, self._running = self._running, []
        for running in before:
            self.add(running.steps, running.end)

    def _choose(self) -> list[Part]:
        chosen, room = list[Part](), CHUNK
        for part in (running.part for running in self._running):
            if part.of_prompt:
                if len(part.tokens) > room:
                    continue
                room -= len(part.tokens)
            chosen.append(part)
        return chosen
