"""What a pipeline does when its model has found something: a message to a switch, an output line that is set.

Only what the configuration lists is ever done: topics and lines are stated there, and never made of what a model says.
"""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edge_agent import settings
from edge_agent.errors import EdgeAgentError
from edge_agent.publish.gpio import GpioLines
from edge_agent.samples import Prediction

log = logging.getLogger(__name__)

Send = Callable[[str, str, bool], None]
"""Takes a topic, a payload, and whether it is retained."""


class Actions:
    """The actions of one pipeline, taken in its own threads, one at a time.

    Args:
        pipeline: its name.
        device_id: as configured.
        actions: as configured.
        send: publishes a message.
        report: takes what has gone wrong.
    """

    def __init__(
        self,
        pipeline: str,
        device_id: str,
        actions: Sequence[settings.Action],
        send: Send,
        report: Callable[[EdgeAgentError], None],
    ) -> None:
        self._names = {"pipeline": pipeline, "device_id": device_id}
        numbered = list(enumerate(actions))
        self._of_results = [(number, action) for number, action in numbered if action.when.event is None]
        self._of_events = [(number, action) for number, action in numbered if action.when.event is not None]
        self._send = send
        self._report = report
        self._lines = GpioLines()
        self._due = [0.0] * len(actions)
        self._counts: Counter[str] = Counter()

    def on_result(self, predictions: Sequence[Prediction]) -> None:
        """Takes the actions for a result that was published.

        Args:
            predictions: of the result; each action is taken once, for the most confident one that it is meant for.
        """
        if not self._of_results:
            return
        found = [one.as_dict() for one in sorted(predictions, key=lambda one: -one.certainty)]
        for number, action in self._of_results:
            if (one := next(_meant(action.when, found), None)) is not None:
                self._take(number, action, one)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Takes the actions for an event, given as published."""
        for number, action in self._of_events:
            if action.when.event == event["event"] and any(_meant(action.when, [event])):
                self._take(number, action, event)

    def facts(self) -> dict[str, int]:
        """As published in `stats`."""
        return {name: self._counts[name] for name in ("done", "limited", "failed")}

    def close(self) -> None:
        """Ends pulses, and releases output lines."""
        self._lines.close()

    def _take(self, number: int, action: settings.Action, found: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now < self._due[number]:
            self._counts["limited"] += 1
            return
        self._due[number] = now + action.min_interval
        try:
            if action.publish is not None:
                self._send(action.publish.topic, self._payload(action.publish.payload, found), action.publish.retain)
            if action.gpio is not None:
                self._lines.set(action.gpio)
        except EdgeAgentError as error:
            self._counts["failed"] += 1
            self._report(EdgeAgentError(f"actions.{number}: {error}"))
        else:
            self._counts["done"] += 1
            log.info("%s: action %d, for %s", self._names["pipeline"], number, found.get("label", found.get("event")))

    def _payload(self, payload: str | Mapping[str, Any], found: Mapping[str, Any]) -> str:
        names = self._names | {name: str(found.get(name, "")) for name in ("label", "confidence")}
        filled_in = _filled_in(payload, names)
        return filled_in if isinstance(filled_in, str) else json.dumps(filled_in, ensure_ascii=False)


def _meant(when: settings.When, found: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Those predictions or events for which an action is meant."""
    for one in found:
        label, confidence = one.get("label"), one.get("confidence")
        if when.labels and label not in when.labels:
            continue
        if confidence is not None and confidence < when.min_confidence:
            continue
        if (when.zone, when.line) == (when.zone and one.get("zone"), when.line and one.get("line")):
            yield one


def _filled_in(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w{1,16})\}", lambda found: names.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: _filled_in(one, names) for key, one in value.items()}
    return [_filled_in(one, names) for one in value] if isinstance(value, list) else value
