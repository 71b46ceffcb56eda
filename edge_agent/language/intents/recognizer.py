"""From a request to intents, in one function: `Recognizer.recognize`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from edge_agent.language.intents.clauses import PLACEHOLDERS, PREFIX, Clause, split
from edge_agent.language.intents.lexicon import (
    AS_IT_IS,
    CONDITIONS,
    DETERMINERS,
    EACH,
    EVERYWHERE,
    FILLERS,
    HOME,
    HUMIDITY,
    JOINERS,
    LIGHT,
    LIGHT_UP,
    NEGATIONS,
    ORDINARY,
    QUANTITIES,
    QUESTIONS,
    SECONDS,
    SETTERS,
    TEMPERATURE,
    TIMER_CHANGES,
    WHERE,
)
from edge_agent.language.intents.names import Names
from edge_agent.language.intents.plain_words import in_plain_words
from edge_agent.language.intents.words import MAX_WORDS, words_of
from edge_agent.settings.intents import Device, Place

# What the model says of a clause. The last three are no intents that are passed on.
SWITCHES, OPENS = ("turn_on", "turn_off"), ("open", "close", "lock", "unlock")
ACTIONS = (*SWITCHES, *OPENS, "set", "adjust")
LABELS = (*ACTIONS, "state", "read", "timer", "negated", "none")
# Commands of a request, at most.
MAX_CLAUSES = 8
_JUST_NO = (("no",), ("nope",))
MAX_UNKNOWN = 1
OUTSIDE = "outside"

Classify = Callable[[str, Sequence[str]], tuple[str, float]]
"""A prompt and the labels; the label that the model gives it, and its probability."""


@dataclass(frozen=True, slots=True)
class _RefusedError(Exception):
    reason: str


class Recognizer:
    """Recognizes commands.

    Args:
        devices, places: that commands may name.
        words: that the model knows.
        min_probability: below it, the answer asks back.
    """

    def __init__(
        self, devices: Sequence[Device], places: Sequence[Place], words: Sequence[str], min_probability: float
    ) -> None:
        self._devices = devices
        self._names = Names(devices, places)
        self._seen = {*words, *PLACEHOLDERS}
        self._known = {*words, *CONDITIONS, *NEGATIONS, *TIMER_CHANGES, *SECONDS}
        self._spelled = {*self._known, *FILLERS, *JOINERS, *QUANTITIES, *self._names.words, *ORDINARY}
        self._spelled |= {*EVERYWHERE, *WHERE, *EACH, *HOME, *DETERMINERS, *LIGHT_UP}
        self._light = next((one for one in devices if LIGHT in (one.name, *one.also)), None)
        self._min_probability = min_probability

    def recognize(self, text: str, classify: Classify) -> list[dict[str, Any]]:
        """The intents of a request, at least one, in their order.

        Args:
            text: the request.
            classify: asks the model.

        Returns:
            Each has `intent`, and `device`, `place`, `value`, `time`, `in_minutes` and `for_minutes` as far as they are
            said. `none` has a `reason`: `negation`, `unknown_device`, `unknown_place`, `out_of_range`, `incomplete`,
            `unsupported`, `out_of_scope`, or `unsure` with a `guess`.
        """
        words = in_plain_words(words_of(text, self._spelled), self._names)
        clauses = split(words, self._names, self._known) if len(words) <= MAX_WORDS else []
        if len(words) > MAX_WORDS or len(clauses) > MAX_CLAUSES:
            return [_none("unsupported")]
        intents, carried = list[dict[str, Any]](), False
        for clause in clauses:
            carried = carried and clause.joiner != "but"
            if clause.is_negated and not clause.devices and "?" not in clause.words and len(clauses) > 1:
                # "turn the light on, no wait, don't": it is about what was said before, and about what follows.
                intents, carried = [_none("negation")] if intents else [], clause.words not in _JUST_NO
                continue
            intent = self._intent(self._with_light(clause), classify, negated=clause.is_negated or carried)
            if carried and not clause.devices and intent["intent"] == "none":
                continue
            carried = carried or intent == _none("negation")
            intents.append(intent)
        if not SECONDS.isdisjoint(words):  # what is left without them is another time
            intents = [_none("unsupported") if _takes_time(intent) else intent for intent in intents]
        return intents or [_none("negation" if carried else "out_of_scope")]

    def _with_light(self, clause: Clause) -> Clause:
        """A brightness is that of the light, if no device is named; so is a percentage of a place."""
        words = clause.words
        if clause.devices or self._light is None:
            return clause
        if "brightness" in words:
            at = words.index("brightness")
        elif clause.places and "$" in words and SETTERS.issuperset({*words} - {"$"}) and _is_percent(clause):
            at = next(i for i, word in enumerate(words) if word in ("to", "at", "$"))
        else:
            return clause
        return replace(clause, devices=(self._light,), words=(*words[:at], "@", *words[at:]))

    def _intent(self, clause: Clause, classify: Classify, *, negated: bool) -> dict[str, Any]:
        if clause.is_fragment and not clause.quantities and not clause.is_negated:
            return _none("unknown_device" if "?" in clause.words else "incomplete")
        prompt = PREFIX + " ".join(word if word in self._seen else "?" for word in clause.words)
        label, probability = classify(prompt, LABELS)
        if label == "negated" or (negated and label in (*ACTIONS, "timer")):
            return _none("negation")
        if label == "none":
            return _none("out_of_scope")
        try:
            intent = {"intent": label} | self._slots(clause, label)
        except _RefusedError as problem:
            return _none(problem.reason)
        if probability < self._min_probability:
            return _none("unsure") | {"guess": intent}
        return intent

    def _slots(self, clause: Clause, label: str) -> dict[str, Any]:
        where = _place(clause)
        if label == "read":
            return {"device": _sensor(clause)} | where
        if label == "state":
            return {"device": self._device(clause, label).name} | where
        when = _when(clause)
        _check_condition(clause.words)
        if label == "timer":
            if not TIMER_CHANGES.isdisjoint(clause.words):
                raise _RefusedError("unsupported")
            if not when:
                raise _RefusedError("incomplete")
            if any(one.kind == "value" for one in clause.quantities):
                raise _RefusedError("unsure")
            return when if "time" in when else {"for_minutes": next(iter(when.values()))}
        device = self._device(clause, label)
        if OUTSIDE in clause.words:
            raise _RefusedError("unknown_place")
        if clause.words.count("?") > MAX_UNKNOWN:
            raise _RefusedError("unsure")
        if not _fits(device, label) or (label != "set" and _stays(clause, when)):
            raise _RefusedError("unsupported")
        return {"device": device.name} | where | _value(clause, label, device) | when

    def _device(self, clause: Clause, label: str) -> Device:
        named = {device.name: device for device in clause.devices}
        values = [one for one in clause.quantities if one.kind == "value"]
        if not named and label == "set" and "?" not in clause.words and values and values[0].unit:
            heater = self._names.measured_in(values[0].unit, self._devices)
            named = {heater.name: heater} if heater else {}
        if clause.strange_device or not named:
            raise _RefusedError("unknown_device")
        if len(named) > 1:
            raise _RefusedError("unsure")
        return next(iter(named.values()))


def _is_percent(clause: Clause) -> bool:
    return all(one.unit == "percent" for one in clause.quantities if one.kind == "value")


def _place(clause: Clause) -> dict[str, str]:
    if clause.strange_place:
        raise _RefusedError("unknown_place")
    names = {place.name for place in clause.places}
    if len(names) > 1:
        raise _RefusedError("unsure")
    return {"place": names.pop()} if names else {}


def _fits(device: Device, label: str) -> bool:
    """Whether an action is one for a device of this kind."""
    return device.opens if label in OPENS else not (device.opens and label in SWITCHES)


def _stays(clause: Clause, when: Mapping[str, Any]) -> bool:
    """Whether it asks for nothing to be done: "leave the fan off"."""
    return not AS_IT_IS.isdisjoint(clause.words) and "for_minutes" not in when


def _check_condition(words: Sequence[str]) -> None:
    """An action must not be done at once where it depends on something, nor where the clause begins as a question."""
    if not CONDITIONS.isdisjoint(words) and ("if", "you") not in pairwise(words):
        raise _RefusedError("unsupported")
    if words[0] in QUESTIONS:
        raise _RefusedError("unsure")


def _takes_time(intent: Mapping[str, Any]) -> bool:
    return not {"in_minutes", "for_minutes"}.isdisjoint(intent)


def _none(reason: str) -> dict[str, Any]:
    return {"intent": "none", "reason": reason}


def _sensor(clause: Clause) -> str:
    if clause.strange_device or "?" in clause.words:
        raise _RefusedError("unsure")
    if not TEMPERATURE.isdisjoint(clause.words):
        return "temperature"
    if not HUMIDITY.isdisjoint(clause.words):
        return "humidity"
    raise _RefusedError("unsure")


def _when(clause: Clause) -> dict[str, Any]:
    said = [one for one in clause.quantities if one.kind != "value"]
    if any(one.value is None for one in said):
        raise _RefusedError("out_of_range")
    if len({one.kind for one in said}) < len(said):
        raise _RefusedError("unsure")
    kinds = {one.kind: int(one.value or 0) for one in said}
    when: dict[str, Any] = {}
    if "time" in kinds:
        when["time"] = f"{kinds['time'] // 60:02}:{kinds['time'] % 60:02}"
    return when | {f"{kind}_minutes": kinds[kind] for kind in ("in", "for") if kind in kinds}


def _value(clause: Clause, label: str, device: Device) -> dict[str, Any]:
    values = [one for one in clause.quantities if one.kind == "value"]
    if label == "adjust" or ("by" in clause.words and values):
        raise _RefusedError("incomplete")
    if not values and label != "set":
        return {}
    if not values:
        raise _RefusedError("incomplete")
    [value, *others] = values
    if others or label != "set" or value.unit not in ("", device.unit):
        raise _RefusedError("unsure")
    number = _within(value.value or 0.0, device)
    if not device.values[0] <= number <= device.values[1]:
        raise _RefusedError("out_of_range")
    return {"value": int(number) if number == int(number) else number}


def _within(number: float, device: Device) -> float:
    """The number, or for "maximum" and "minimum" the end of the device's range: the least light is not off."""
    least, most = device.values
    ends = {math.inf: most, -math.inf: least if device.opens else max(least, min(1.0, most))}
    return ends.get(number, number)
