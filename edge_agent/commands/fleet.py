"""What the devices under a topic prefix publish: status, info, stats, results.

Any client of the broker may have written these messages, so they are not trusted: sizes, names and numbers are bounded,
invalid ones are ignored.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.commands import published

# What is subscribed to of each device. Results of a whole fleet would be too many: see `result_topic`.
KINDS = ("status", "info", "stats", "update")
MAX_ROWS = 20_000
MAX_MODELS = 64
MAX_PROBLEM = 500
MAX_LABELS = 3
# Steps of an update after which somebody may want to look.
UPDATE_TROUBLE = ("refused", "failed", "undecided", "rolled back", "damaged")


@dataclass(frozen=True, slots=True)
class Row:
    """A pipeline of a device, or a device without pipelines. Unknown values are None or "".

    Attributes:
        status: `online`, `offline`, or "" if it has not been published.
        pipeline: "" for a device without any.
        results_per_s: over the last two `stats`, or, after the first one, since the device's start.
        last_result: summary of the last result.
        last_at: when it came, seconds on the monotonic clock.
        latency_ms: from the queue to the result, on the device.
        accelerator: the one in use.
        fallback: why it is not the first one of the configured list.
        waiting: results in the outbox.
        lost: results that were discarded.
        problem: why there are no results.
        update: the step of each model's latest update, on the device.
        update_problem: why the last check or update has failed, on the device.
    """

    device: str
    status: str
    pipeline: str = ""
    results_per_s: float | None = None
    last_result: str = ""
    last_at: float | None = None
    latency_ms: float | None = None
    model: str = ""
    accelerator: str = ""
    fallback: str = ""
    waiting: int | None = None
    lost: int | None = None
    problem: str = ""
    update: str = ""
    update_problem: str = ""

    @property
    def in_trouble(self) -> bool:
        """Whether the row needs attention."""
        return self.status != "online" or bool(self.fallback or self.lost or self.problem or self.update_problem)


@dataclass(slots=True)
class _Pipeline:
    configured: bool = False
    problem: str = ""
    model: str = ""
    accelerator: str = ""
    fallback: str = ""
    produced: float = 0.0
    results_per_s: float | None = None
    waiting: int | None = None
    lost: int | None = None
    last_result: str = ""
    last_at: float | None = None
    latency_ms: float | None = None


@dataclass(slots=True)
class _Device:
    status: str = ""
    problem: str = ""
    update: str = ""
    update_problem: str = ""
    has_info: bool = False
    has_stats: bool = False
    boot_id: str = ""
    uptime_s: float | None = None
    pipelines: dict[str, _Pipeline] = field(default_factory=dict)


class Fleet:
    """All devices under a prefix, from their messages; may be updated and read in different threads.

    Attributes:
        left_out: number of messages that were invalid, or of more devices than there is room for.
        full: whether there were more devices and pipelines than there is room for.
    """

    def __init__(self, prefix: str) -> None:
        self.left_out = 0
        self.full = False
        self._prefix = f"{prefix}/"
        self._devices: dict[str, _Device] = {}
        self._count = 0
        self._lock = threading.Lock()

    def result_topic(self, row: Row) -> str:
        """Where a pipeline publishes its results."""
        return f"{self._prefix}{row.device}/{row.pipeline}/result"

    def receive(self, topic: str, payload: bytes, now: float) -> None:
        """Updates the fleet from a message.

        Args:
            topic: with the prefix.
            payload: of the message.
            now: seconds on the monotonic clock.
        """
        with self._lock:
            if not self._take(topic.removeprefix(self._prefix).split("/"), payload, now):
                self.left_out += 1

    def _take(self, levels: Sequence[str], payload: bytes, now: float) -> bool:
        if len(payload) > published.MAX_PAYLOAD or not published.is_name(levels[0]):
            return False
        if levels[1:] == ["status"]:
            return self._take_status(levels[0], payload)
        document = published.document(payload)
        match levels:
            case [name, "info" | "stats" | "update" as what] if document is not None:
                take = {"info": self._take_info, "stats": self._take_stats, "update": self._take_update}[what]
                return take(name, document)
            case [name, pipeline, "result"] if document is not None and published.is_name(pipeline):
                return self._take_result(name, pipeline, document, now)
        return levels[1:] in (["info"], ["stats"], ["update"]) and not payload  # a retained message is deleted

    def _take_status(self, name: str, payload: bytes) -> bool:
        if not payload:  # the retained message was deleted: the device has been removed
            gone = self._devices.pop(name, None)
            self._count -= 1 + len(gone.pipelines) if gone else 0
        elif payload in (b"online", b"offline") and (device := self._device(name)):
            device.status = payload.decode()
        else:
            return False
        return True

    def _take_info(self, device_id: str, document: dict[str, Any]) -> bool:
        device = self._device(device_id)
        if device is None:
            return False
        device.has_info = True
        device.problem = published.text(document.get("problem"), MAX_PROBLEM)
        models = published.mapping(document, "models")
        for pipeline in device.pipelines.values():
            pipeline.configured = False
        for key in published.mapping(document, "pipelines"):
            if (known := self._pipeline(device, key)) is None:
                continue
            known.configured = True
            facts = published.mapping(published.mapping(document, "pipelines"), key)
            known.problem, name = published.text(facts.get("problem"), MAX_PROBLEM), str(facts.get("model", ""))
            model = published.mapping(models, name)
            known.model = published.cut(f"{name} {published.text(model.get('version'))}".strip())
            known.accelerator = published.text(published.mapping(model, "accelerator").get("in_use"))
            known.fallback = published.text(published.mapping(model, "accelerator").get("fallback"))
        return True

    def _take_stats(self, name: str, document: dict[str, Any]) -> bool:
        device = self._device(name)
        if device is None:
            return False
        boot_id, uptime = published.text(document.get("boot_id")), published.number(document.get("uptime_s"))
        began = device.uptime_s or 0.0
        again = boot_id == device.boot_id and uptime is not None and uptime > began
        for key in published.mapping(document, "pipelines"):
            if (known := self._pipeline(device, key)) is None:  # the counters of events have names with a /
                continue
            counts = published.mapping(published.mapping(document, "pipelines"), key)
            produced = published.number(counts.get("produced")) or 0.0
            if again and uptime:
                known.results_per_s = round(max(0.0, produced - known.produced) / (uptime - began), 3)
            elif uptime:
                known.results_per_s = round(
                    max(0.0, produced - (published.number(counts.get("restored")) or 0.0)) / uptime, 3
                )
            known.produced = produced
            known.waiting = int(published.number(counts.get("queued")) or 0)
            known.lost = int(
                sum(published.number(count) or 0 for count in published.mapping(counts, "discarded").values())
            )
        device.has_stats, device.boot_id, device.uptime_s = True, boot_id, uptime
        return True

    def _take_update(self, name: str, document: dict[str, Any]) -> bool:
        device = self._device(name)
        if device is None:
            return False
        steps, problem = [], published.text(document.get("error"), MAX_PROBLEM)
        models = published.mapping(document, "models")
        for key in list(models)[:MAX_MODELS]:
            facts = published.mapping(models, key)
            step = published.text(facts.get("step"))
            steps.append(f"{key}: {step} {published.text(facts.get('version'))}".strip())
            if not problem and step in UPDATE_TROUBLE:
                problem = f"{steps[-1]}: {published.text(facts.get('reason'), MAX_PROBLEM)}"
        device.update, device.update_problem = (
            published.cut(", ".join(steps), MAX_PROBLEM),
            published.cut(problem, MAX_PROBLEM),
        )
        return True

    def _take_result(self, name: str, key: str, document: dict[str, Any], now: float) -> bool:
        device = self._device(name)
        if device is None or (pipeline := self._pipeline(device, key)) is None:
            return False
        pipeline.last_result, pipeline.last_at = in_words(document), now
        pipeline.latency_ms = published.number(published.mapping(document, "timing_ms").get("total"))
        return True

    def _device(self, name: str) -> _Device | None:
        if name not in self._devices:
            if self._count >= MAX_ROWS:
                self.full = True
                return None
            self._count += 1
            self._devices[name] = _Device()
        return self._devices[name]

    def _pipeline(self, device: _Device, name: str) -> _Pipeline | None:
        if name not in device.pipelines:
            if not published.is_name(name):
                return None
            if self._count >= MAX_ROWS:
                self.full = True
                return None
            self._count += 1
            device.pipelines[name] = _Pipeline(configured=not device.has_info)
        return device.pipelines[name]

    def rows(self) -> list[Row]:
        """A row for each pipeline that runs, by device and name; one for a device without any."""
        with self._lock:
            return [row for name, device in sorted(self._devices.items()) for row in _rows(name, device)]

    def has_stats(self) -> bool:
        """Whether every device that is online has published its counters."""
        with self._lock:
            return all(device.has_stats for device in self._devices.values() if device.status == "online")


def _rows(name: str, device: _Device) -> list[Row]:
    rows = [
        Row(
            name,
            device.status,
            key,
            pipeline.results_per_s if device.status == "online" else None,
            pipeline.last_result,
            pipeline.last_at,
            pipeline.latency_ms,
            pipeline.model,
            pipeline.accelerator,
            pipeline.fallback,
            pipeline.waiting,
            pipeline.lost,
            (pipeline.problem or device.problem) if device.status == "online" else "",
            device.update,
            device.update_problem,
        )
        for key, pipeline in sorted(device.pipelines.items())
        if pipeline.configured
    ]
    problem = device.problem if device.status == "online" else ""
    update, trouble = device.update, device.update_problem
    return rows or [Row(name, device.status, problem=problem, update=update, update_problem=trouble)]


def in_words(result: dict[str, Any]) -> str:
    """Summarises a result."""
    predictions = result.get("predictions")
    found = [item for item in predictions if isinstance(item, dict)] if isinstance(predictions, list) else []
    if not found:
        return "nothing"
    if any("box" in item or "area" in item for item in found):
        return _counts(found)
    first = found[0]
    label = published.text(first.get("label"))
    if "region" in first:
        best = {published.text(item.get("region")): published.text(item.get("label")) for item in reversed(found)}
        label = published.cut(" ".join(reversed(best.values())))
    elif isinstance(vector := first.get("vector"), list):
        label = f"vector of {len(vector)}"
    elif "text" in first:
        label = published.text(first["text"])
    elif (value := published.number(first.get("value", first.get("score")))) is not None:
        label = published.cut(f"{label} {value:g}".strip())
    elif (confidence := published.number(first.get("confidence"))) is not None:
        label = published.cut(f"{label} {confidence:.0%}")
    return label


def _counts(found: Sequence[dict[str, Any]]) -> str:
    """Counts of the most common labels."""
    counts = Counter(published.text(item.get("label")) or "?" for item in found)
    more = ", …" if len(counts) > MAX_LABELS else ""
    return published.cut(", ".join(f"{count} {name}" for name, count in counts.most_common(MAX_LABELS)) + more)
