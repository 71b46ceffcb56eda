"""The progress of a release in a fleet, from the retained messages on `P/update` and `P/status`.

Nothing is stored here: the state is at the broker and in the signed list.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.system.text import parse_json
from edge_agent.update.releases import Release

Progress = Literal["done", "failed", "under way", "waiting", "not meant"]
MAX_DOCUMENT = 200_000
MAX_DEVICES = 200_000


@dataclass(frozen=True, slots=True)
class Row:
    """One device.

    Attributes:
        online: whether it is connected.
        progress: of the release on this device.
        step: as the device publishes it.
        active: the version that is active.
        reason: why the release failed there.
    """

    device_id: str
    online: bool
    progress: Progress
    step: str
    active: str
    reason: str


class Rollout:
    """Collects what devices publish about a release.

    Args:
        release: from the signed list.
        prefix: of all topics.
    """

    def __init__(self, release: Release, prefix: str) -> None:
        self._release = release
        self._prefix = prefix
        self._updates: dict[str, dict[str, Any]] = {}
        self._online: dict[str, bool] = {}
        self.topics = (f"{prefix}/+/update", f"{prefix}/+/status")

    def received(self, topic: str, payload: bytes) -> bool:
        """Takes a message; returns whether it is usable."""
        device_id, _, kind = topic.removeprefix(f"{self._prefix}/").partition("/")
        if len(payload) > MAX_DOCUMENT or len(self._updates) + len(self._online) > MAX_DEVICES:
            return False
        if kind == "status":
            self._online[device_id] = payload == b"online"
            return True
        try:
            document = parse_json(payload)
            models = document["models"].values()
            mine = [model for model in models if model["channel"] == self._release.channel]
            for model in mine:
                model["refused"] = {str(key): str(reason) for key, reason in dict(model["refused"]).items()}
                model["active"] = dict(model["active"]) if model["active"] else {"version": "as configured"}
            self._updates[device_id] = {"labels": [str(label) for label in document["labels"]], "models": mine}
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def rows(self) -> list[Row]:
        """All devices that follow the release's channel, those that need attention first."""
        rows = [
            self._row(device_id, update["labels"], model)
            for device_id, update in self._updates.items()
            for model in update["models"]
        ]
        order: list[Progress] = ["failed", "under way", "waiting", "done", "not meant"]
        return sorted(rows, key=lambda row: (order.index(row.progress), row.device_id))

    def _row(self, device_id: str, labels: list[str], model: dict[str, Any]) -> Row:
        release, active = self._release, model["active"]
        reason = model["refused"].get(release.name, "")
        number = active.get("number")
        progress: Progress
        if reason:
            progress = "failed"
        elif model.get("version") == release.name and model.get("step") not in ("committed", "idle", "rolled back"):
            progress = "under way"
        elif active.get("sha256") == release.sha256 or (isinstance(number, int) and number > release.number):
            progress = "under way" if model.get("on_probation") else "done"
        elif release.is_for(device_id, labels):
            progress = "waiting"
        else:
            progress = "not meant"
        online = self._online.get(device_id, False)
        return Row(device_id, online, progress, str(model.get("step")), str(active.get("version")), reason)


def count(rows: list[Row]) -> Counter[Progress]:
    """The number of devices by progress."""
    return Counter(row.progress for row in rows)


def is_finished(rows: list[Row]) -> bool:
    """Whether every device that the release is for and that is online has it, or has failed."""
    open_ones = [row for row in rows if row.progress in ("under way", "waiting") and row.online]
    return bool(count(rows)["done"] + count(rows)["failed"]) and not open_ones
