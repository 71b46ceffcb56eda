"""How a model is run on the CPU."""

from dataclasses import dataclass
from typing import Any

from edge_agent.modelfile.identity import FileIdentity


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model is run on the CPU.

    Attributes:
        engines: how many inferences may run at the same time.
        threads: CPU threads of each.
        gain: how many times as many inferences a second it makes as one engine on the usual number of threads does
            with the original file; None: not measured.
        int8: a file that computes the same in int8, to be run in place of the original; None: there is none, or it is
            not better.
        int8_refused: why an int8 file was made and is not used; "" where it is, or none was made.
    """

    engines: int = 1
    threads: int = 1
    gain: float | None = None
    int8: FileIdentity | None = None
    int8_refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the cache and for another process."""
        return self.facts() | {"int8": self.int8 and self.int8.as_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tuning":
        """What `as_json` has returned."""
        return cls(**value | {"int8": value["int8"] and FileIdentity.from_json(value["int8"])})

    def facts(self) -> dict[str, Any]:
        """As published in `info`."""
        return {
            "engines": self.engines,
            "threads": self.threads,
            "gain": self.gain,
            "int8": self.int8 is not None,
            "int8_refused": self.int8_refused,
        }

    def describe(self) -> str:
        """One line for a person."""
        return self.in_words(self.facts())

    @staticmethod
    def in_words(facts: dict[str, Any]) -> str:
        """One line for a person, of what `facts` has returned."""
        parts = [f"engines: {facts['engines']}", f"threads: {facts['threads']}"]
        parts += ["as int8"] if facts["int8"] else []
        parts += [] if facts["gain"] is None else [f"{facts['gain']:.1f} times the inferences of one engine"]
        refused = f"; not as int8: {facts['int8_refused']}" if facts["int8_refused"] else ""
        return ", ".join(parts) + refused
