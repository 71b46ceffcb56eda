"""The inventory of a fleet, from what its devices keep at the broker: `P/status`, `P/info` and `P/update`."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.commands import published
from edge_agent.release.rollout import ALONE
from edge_agent.samples import timestamp
from edge_agent.system.text import decode

MAX_DEVICES = 20_000
MAX_MODELS = 64
MAX_LABELS = 64
MAX_DRIFT = 100
MAX_REASON = 500
MAX_STAMP = 32
WHAT = ("status", "info", "update")
# The columns of the table, as `inventory` names them; lists are one cell each.
COLUMNS = (
    "device_id",
    "status",
    "last_heard",
    "version",
    "configuration",
    "config_release",
    "drift",
    "labels",
    "machine",
    "arch",
    "memory_mb",
    "disk_free_mb",
    "disk_size_mb",
    "models",
    "updates",
    "problem",
)
# A spreadsheet would execute a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Inventory:
    """All devices under a prefix; may be updated and read in different threads.

    Attributes:
        left_out: number of messages that were invalid, or of more devices than there is room for.
    """

    def __init__(self, prefix: str) -> None:
        self.left_out = 0
        self._prefix = f"{prefix}/"
        self._devices: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def receive(self, topic: str, payload: bytes) -> None:
        """Takes a message."""
        name, _, what = topic.removeprefix(self._prefix).partition("/")
        with self._lock:
            known = name in self._devices or len(self._devices) < MAX_DEVICES
            if not known or not published.is_name(name) or not self._take(name, what, payload):
                self.left_out += 1

    def _take(self, name: str, what: str, payload: bytes) -> bool:
        if what not in WHAT or len(payload) > published.MAX_PAYLOAD:
            return False
        if not payload:  # the retained message was deleted
            if what == "status":
                self._devices.pop(name, None)
            return True
        if what == "status":
            if payload not in (b"online", b"offline"):
                return False
            found: dict[str, Any] = {"status": decode(payload)}
        else:
            document = published.document(payload)
            if document is None:
                return False
            found = _of_info(document) if what == "info" else _of_update(document)
        self._devices.setdefault(name, {"status": None}).update(found)
        return True

    def devices(self) -> list[dict[str, Any]]:
        """The devices, by name.

        `last_heard` is now for one that is online; of another the last time that it has stated, by its own clock.
        """
        now = timestamp(time.time())
        with self._lock:
            known = sorted(self._devices.items())
        rows = []
        for name, facts in known:
            stamps = [facts[key] for key in ("info_at", "update_at") if facts.get(key)]
            heard = now if facts["status"] == "online" else max(stamps, default=None)
            others = {key: value for key, value in facts.items() if key not in ("status", "info_at", "update_at")}
            rows.append({"device_id": name, "status": facts["status"], "last_heard": heard} | others)
        return rows


def _of_info(document: dict[str, Any]) -> dict[str, Any]:
    machine, disk = (published.mapping(document, key) for key in ("machine", "disk"))
    labels = document.get("labels")
    models = published.mapping(document, "models")
    return {
        "info_at": published.text(document.get("at"), MAX_STAMP),
        "version": published.text(document.get("version")),
        "configuration": published.text(document.get("configuration")),
        "config_release": published.text(published.mapping(document, "configuration_release").get("release")),
        "drift": _drift(published.mapping(document, "configuration_release")),
        "labels": [published.text(one) for one in labels[:MAX_LABELS]] if isinstance(labels, list) else [],
        "machine": published.text(machine.get("name"), 100),
        "arch": published.text(machine.get("arch")),
        "memory_mb": _whole(machine.get("memory_mb")),
        "disk_free_mb": _whole(disk.get("free_mb")),
        "disk_size_mb": _whole(disk.get("size_mb")),
        "models": [_model(published.cut(key), published.mapping(models, key)) for key in list(models)[:MAX_MODELS]],
        "problem": published.text(document.get("problem"), MAX_REASON),
    }


def _drift(facts: dict[str, Any]) -> list[str]:
    """Keys of a device's own file that differ from the repository's configuration, or complete nothing of it."""
    found = [one for key in ("overridden", "unused") if isinstance(facts.get(key), list) for one in facts[key]]
    return [published.text(one) for one in found[:MAX_DRIFT]]


def _model(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "version": published.text(facts.get("version")),
        "sha256": published.text(facts.get("sha256"), 64),
        "accelerator": published.text(published.mapping(facts, "accelerator").get("in_use")),
    }


def _of_update(document: dict[str, Any]) -> dict[str, Any]:
    followed = published.mapping(document, "models") | {key: document[key] for key in ALONE if key in document}
    updates = []
    for key in list(followed)[: MAX_MODELS + len(ALONE)]:
        facts = published.mapping(followed, key)
        state = {name: published.text(facts.get(name)) for name in ("channel", "step", "version")}
        active = published.text(published.mapping(facts, "active").get("version"))
        reason = published.text(facts.get("reason"), MAX_REASON)
        pinned = facts.get("pinned") is True
        updates.append({"model": published.cut(key)} | state | {"active": active, "pinned": pinned, "reason": reason})
    return {
        "update_at": published.text(document.get("at"), MAX_STAMP),
        "checked_at": published.text(document.get("checked_at"), MAX_STAMP),
        "update_error": published.text(document.get("error"), MAX_REASON),
        "updates": updates,
    }


def _whole(value: object) -> int | None:
    found = published.number(value)
    return None if found is None else int(found)


def cells(device: Mapping[str, Any]) -> list[str]:
    """A row of the table, by `COLUMNS`. What came from devices is no formula in a spreadsheet."""
    return [_cell(device.get(column)) for column in COLUMNS]


def _cell(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "; ".join(_in_words(one) if isinstance(one, dict) else str(one) for one in value)
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _in_words(facts: Mapping[str, Any]) -> str:
    """`photos 3 7aad0c74c5e3 cpu` of a model, `photos: refused birds/4: …` of an update."""
    if "step" in facts:
        reason = f": {facts['reason']}" if facts["reason"] else ""
        pinned = " (pinned)" if facts["pinned"] else ""
        return f"{facts['model']}: {facts['step']} {facts['version']}".rstrip() + pinned + reason
    parts = (facts["name"], facts["version"], facts["sha256"][:12], facts["accelerator"])
    return " ".join(part for part in parts if part)
