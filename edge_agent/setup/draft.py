"""A first configuration file, with comments, from a few answers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config.editing import check_text, flow
from edge_agent.errors import ConfigError

HEAD = """\
# The configuration of edge-agent. `edge-agent schema` and docs/configuration.md explain every key.
# Check a change with `edge-agent check -c {name}`.
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a first configuration says.

    Attributes:
        device_id: name of the device; empty: the host name.
        broker: its address.
        username: at the broker; empty: none.
        password_file: with the password; empty: none.
        home_assistant: whether the device appears there by itself.
        listen: address and port of the page; empty: there is none.
        token_file: with the page's password; empty: none.
        pipeline: name of the only pipeline; empty: there is none yet.
        source: settings of its source.
        model: name in the registry, or path of a file.
        task: of the model; empty: not known.
        labels: that matter, of a detector.
    """

    device_id: str = ""
    broker: str = "mqtt://localhost"
    username: str = ""
    password_file: str = ""
    home_assistant: bool = False
    listen: str = ""
    token_file: str = ""
    pipeline: str = ""
    source: Mapping[str, Any] | None = None
    model: str = ""
    task: str = ""
    labels: Sequence[str] = ()


def text_of(draft: Draft, name: str = "agent.yaml") -> str:
    """The file.

    Args:
        draft: what it says.
        name: of the file, for its first lines.
    """
    lines = [HEAD.format(name=name)]
    device = f"device_id: {flow(draft.device_id)}" if draft.device_id else "#device_id: porch-pi"
    lines += [f"{device}   # in all topics, and in Home Assistant", "", "mqtt:", f"  url: {flow(draft.broker)}"]
    if draft.username:
        lines.append(f"  username: {flow(draft.username)}")
    if draft.password_file:
        lines.append(f"  password_file: {flow(draft.password_file)}")
    if draft.home_assistant:
        lines += ["", "# The device and what it finds appear in Home Assistant by themselves.", "home_assistant:"]
        lines.append("  enabled: true")
    if draft.listen:
        lines += ["", "# The page in a browser.", "http:", f"  listen: {flow(draft.listen)}"]
        if draft.token_file:
            lines += [f"  token_file: {flow(draft.token_file)}   # its first line is the password of the page"]
            lines.append("  edit: true   # those who know it may label samples and draw zones there")
    if draft.pipeline and draft.source is not None:
        lines += ["", "models:", "  main:", f"    path: {flow(draft.model)}", "", "pipelines:"]
        lines += [*pipeline_lines(draft)]
    return "\n".join(lines) + "\n"


def pipeline_lines(draft: Draft) -> list[str]:
    """The lines of the pipeline."""
    lines = [f"  {flow(draft.pipeline)}:", "    source:"]
    lines += [f"      {key}: {flow(value)}" for key, value in (draft.source or {}).items()]
    lines.append("    model: main")
    match draft.task:
        case "detection" | "pose" | "segmentation":
            if draft.labels:
                labels = flow(list(draft.labels))
                lines += ["    filters:", f"      labels: {labels}   # what matters; all others are dropped"]
                lines.append("      #zones: {door: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]}   # drawn on the page")
            lines.append("    min_confidence: 0.5")
            if draft.task == "detection":
                lines.append("    tracking: {lost_after: 5s}   # objects keep a number; events when they come and go")
        case "classification" | "ocr":
            lines += ["    top_k: 1", "    min_confidence: 0.4"]
    if draft.task in ("detection", "classification", "pose"):
        lines.append("    publish: {on_change: true, heartbeat: 1h}   # a result only if something has changed")
    return lines


def write(draft: Draft, path: Path, *, force: bool = False) -> None:
    """Checks the file and writes it; only its owner may read it, since addresses may contain passwords.

    Raises:
        ConfigError: there is such a file already, or an answer can't be used.
        OSError: it can't be written.
    """
    if path.exists() and not force:
        raise ConfigError([f"{path}: exists already: state another file with -o, or --force"])
    text = text_of(draft, path.name)
    check_text(path, text)
    write_private(path, text)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read.

    Raises:
        OSError: it can't be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
