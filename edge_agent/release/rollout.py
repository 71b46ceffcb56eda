"""The progress of a release in a fleet, from the retained messages on `P/update` and `P/status`.

Nothing is stored here: the state is at the broker and in the signed list.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.system.text import parse_json
from edge_agent.update.releases import Release

Progress = Literal["done", "failed", "silent", "under way", "waiting", "not meant"]
# Steps at which a device has taken a release, and has not passed its probation yet.
TAKEN = ("trying", "shadow", "activated", "probation")
# What follows a channel besides models, as `P/update` names it.
ALONE = ("agent", "config")
MAX_DOCUMENT = 200_000
MAX_DEVICES = 200_000
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One device.

    Attributes:
        online: whether it is connected.
        progress: of the release on this device.
        step: as the device publishes it.
        active: the version that is active.
        reason: why the release failed there, or why it is not there yet.
    """

    device_id: str
    online: bool
    progress: Progress
    step: str
    active: str
    reason: str


class Rollout:
    """Collects what devices publish about a release.

    A device that has taken the release and is offline is `silent`; after a while that is a failure of the release,
    until the device is heard again.

    Args:
        releases: the archives of the release, from the signed list.
        prefix: of all topics.
        silence: seconds after which silence is a failure, counted from when it is noticed.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        releases: Sequence[Release],
        prefix: str,
        silence: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._clock = clock
        self._offline_since: dict[str, float] = {}
        self.use(releases)
        self._prefix = prefix
        self._updates: dict[str, dict[str, Any]] = {}
        self._online: dict[str, bool] = {}

    def use(self, releases: Sequence[Release]) -> None:
        """Takes the archives as the signed list has them now: a step has made them for other devices."""
        self._release = releases[0]
        self._archives = {release.sha256 for release in releases}

    def received(self, topic: str, payload: bytes) -> bool:
        """Takes a message; returns whether it is usable."""
        device_id, _, kind = topic.removeprefix(f"{self._prefix}/").partition("/")
        if len(payload) > MAX_DOCUMENT or len(self._updates) + len(self._online) > MAX_DEVICES:
            return False
        if kind == "status":
            self._online[device_id] = payload == b"online"
            if payload == b"offline":
                self._offline_since.setdefault(device_id, self._clock())
            else:  # also if the message was deleted, with the device
                self._offline_since.pop(device_id, None)
            return True
        try:
            document = parse_json(payload)
            followed = [*document["models"].values(), *(document[key] for key in ALONE if key in document)]
            mine = [model for model in followed if model["channel"] == self._release.channel]
            for model in mine:
                model["refused"] = {str(key): str(reason) for key, reason in dict(model["refused"]).items()}
                model["active"] = dict(model["active"]) if model["active"] else {"version": "as configured"}
            error = str(document.get("error") or "")[:MAX_REASON]
            labels = [str(label) for label in document["labels"]]
            self._updates[device_id] = {"labels": labels, "models": mine, "error": error}
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def rows(self) -> list[Row]:
        """All devices that follow the release's channel, those that need attention first."""
        rows = [
            self._row(device_id, update, model)
            for device_id, update in self._updates.items()
            for model in update["models"]
        ]
        order: list[Progress] = ["failed", "silent", "under way", "waiting", "done", "not meant"]
        return sorted(rows, key=lambda row: (order.index(row.progress), row.device_id))

    def _row(self, device_id: str, update: dict[str, Any], model: dict[str, Any]) -> Row:
        release, active, step = self._release, model["active"], model.get("step")
        reason = model["refused"].get(release.name, "")
        under_way = model.get("version") == release.name and step not in ("committed", "idle", "rolled back")
        has_it = active.get("sha256") in self._archives
        taken = has_it or (model.get("version") == release.name and step in TAKEN)
        offline_since = self._offline_since.get(device_id)
        number = active.get("number")
        progress: Progress
        if reason:
            progress = "failed"
        elif taken and offline_since is not None:
            silent = self._clock() - offline_since
            progress = "failed" if silent >= self._silence else "silent"
            reason = "offline since it has taken the release"
        elif under_way:
            progress = "under way"
            reason = str(model.get("reason") or "")[:MAX_REASON]
        elif has_it or (isinstance(number, int) and number > release.number):
            progress = "under way" if model.get("on_probation") else "done"
        elif release.is_for(device_id, update["labels"]):
            progress = "waiting"
        else:
            progress = "not meant"
        if progress in ("under way", "waiting"):
            reason = reason or update["error"]
        online = self._online.get(device_id, False)
        return Row(device_id, online, progress, str(step), str(active.get("version")), reason)


def count(rows: list[Row]) -> Counter[Progress]:
    """The number of devices by progress."""
    return Counter(row.progress for row in rows)


def is_finished(rows: list[Row]) -> bool:
    """Whether every device that the release is for and that is online has it or has failed, and none has just left."""
    open_ones = [
        row for row in rows if row.progress == "silent" or (row.progress in ("under way", "waiting") and row.online)
    ]
    return bool(count(rows)["done"] + count(rows)["failed"]) and not open_ones
