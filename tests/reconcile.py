"""What went in held against what came out, over a whole scenario with any number of starts of agent and broker."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any

from edge_agent.counters import imbalance
from tests.broker import Message

Document = dict[str, Any]


class Ledger:
    """The results and the counters that a subscriber has received.

    Each method fails with a sentence if something does not add up.

    Args:
        messages: as they arrived.
    """

    def __init__(self, messages: Iterable[Message]) -> None:
        self.results: dict[str, list[Document]] = defaultdict(list)
        self.stats: list[Document] = []
        self.errors: list[Document] = []
        for message in list(messages):
            match message.topic.split("/")[2:]:
                case [pipeline, "result"]:
                    self.results[pipeline].append(json.loads(message.payload))
                case ["stats"]:
                    self.stats.append(json.loads(message.payload))
                case [_, "error"]:
                    self.errors.append(json.loads(message.payload))

    def different(self) -> int:
        """How many results there are, each counted once however often it was delivered."""
        return sum(len({(result["boot_id"], result["seq"]) for result in results}) for results in self.results.values())

    def answers(self, pipeline: str, inputs: Collection[str]) -> Counter[str]:
        """How often each input was answered, which is at least once; inputs are told apart by their topic.

        An input that was answered more than once was so because of a redelivery or a replay, and says so: at most one
        of its answers bears no mark.
        """
        results = self.results[pipeline]
        answered = Counter(result["input"]["topic"] for result in results)
        missing = set(inputs) - set(answered)
        assert not missing, f"{len(missing)} of {len(inputs)} inputs are not answered: {_some(missing)}"
        foreign = set(answered) - set(inputs)
        assert not foreign, f"{len(foreign)} answers to what was never asked: {_some(foreign)}"
        unmarked = Counter(result["input"]["topic"] for result in results if not _marked(result))
        doubles = [topic for topic, count in unmarked.items() if count > 1]
        assert not doubles, f"{len(doubles)} inputs are answered twice without a mark: {_some(doubles)}"
        return answered

    def without_gaps(self, pipeline: str, *, discarded: int = 0) -> None:
        """In every run of the agent, the results are numbered from 1, without gaps but for what was discarded."""
        numbers: dict[str, set[int]] = defaultdict(set)
        for result in self.results[pipeline]:
            numbers[result["boot_id"]].add(result["seq"])
        gaps = {boot: set(range(1, max(seen) + 1)) - seen for boot, seen in numbers.items()}
        missing = sum(map(len, gaps.values()))
        assert missing == discarded, f"{missing} results are missing, {discarded} are accounted for: {gaps}"

    def in_order(self, pipeline: str) -> None:
        """In every run, the live results come in order, and so do the replayed ones."""
        for replayed in (False, True):
            chosen = [result for result in self.results[pipeline] if result["replayed"] == replayed]
            for boot in {result["boot_id"] for result in chosen}:
                seen = [result["seq"] for result in chosen if result["boot_id"] == boot]
                first_seen = list(dict.fromkeys(seen))
                assert first_seen == sorted(first_seen), f"out of order (replayed: {replayed}): {first_seen}"

    def balanced(self) -> None:
        """The counters add up in every `stats` message, and every inference led to a result or was withheld."""
        for stats in self.stats:
            for pipeline, counts in stats["pipelines"].items():
                assert not imbalance(counts), f"{pipeline}: {imbalance(counts)}"
                results = counts["produced"] - counts["restored"] + counts["withheld"]
                lost = counts["inferred"] - results if not counts["in_progress"] else 0
                assert not lost, f"{pipeline}: {lost} inferred inputs led to nothing: {counts}"

    def last_counts(self, pipeline: str) -> Document:
        """The counters of the latest `stats` message."""
        counts: Document = self.stats[-1]["pipelines"][pipeline]
        return counts


def _marked(result: Document) -> bool:
    return bool(result["replayed"] or result["input"].get("redelivered"))


def _some(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)[:5])


def on(*levels: str) -> Callable[[Message], bool]:
    """Whether a message's topic ends with these levels."""
    return lambda message: message.topic.split("/")[-len(levels) :] == list(levels)
