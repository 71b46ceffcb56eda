"""From a YAML file to `Settings`.

Every problem of the file is reported, each as `FILE:LINE: pipelines.porch.source.fps: must be > 0 (got -5)`.
"""

import glob
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.config.validation import did_you_mean, validate, value_at
from edge_agent.config.yaml_lines import Key, Problems, dotted, line_of, read
from edge_agent.errors import ConfigError
from edge_agent.settings import MqttSource, Settings
from edge_agent.settings.own_topics import built_in_topic, further_topics, own_topic
from edge_agent.system.home import expand_user
from edge_agent.system.secret import ENV
from edge_agent.system.terminal import printable

NO_LABELS = Path("none")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings and the file that they came from."""

    path: Path
    settings: Settings
    lines: Mapping[Key, int]

    def where(self, *key: str | int) -> str:
        """`FILE:LINE: a.b.c`, with the line of the key, or of the nearest enclosing one."""
        return f"{self.path}:{line_of(self.lines, key)}: {dotted(key)}"

    def resolve(self, path: Path | str) -> Path:
        """A path of the file, relative to the file's folder."""
        return resolve(path, self.path.parent)

    def outbox_path(self) -> Path:
        """Where the outbox is: as configured, or in `state_folder`."""
        if self.settings.outbox.path is not None:
            return self.resolve(self.settings.outbox.path)
        return self.state_folder() / "outbox.db"

    def updates_path(self) -> Path:
        """Where versions of models are kept: as configured, or in `state_folder`."""
        update = self.settings.update
        if update is not None and update.path is not None:
            return self.resolve(update.path)
        return self.state_folder() / "updates"

    def kept_path(self, kind: Literal["samples", "recordings"], pipeline: str) -> Path:
        """Where a pipeline's kept samples or its recordings are: as configured, or in `state_folder`."""
        options = self.settings.pipelines[pipeline]
        stated = options.keep if kind == "samples" else options.record
        if stated is not None and stated.path is not None:
            return self.resolve(stated.path)
        return self.state_folder() / kind / pipeline

    def state_folder(self) -> Path:
        """Where the agent keeps its state: the state directory of the service, or the folder of the file."""
        state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]  # a service may have several
        return Path(state or self.path.parent)


def load(path: Path) -> Config:
    """Reads and checks a configuration file, and that the files it names exist.

    Raises:
        ConfigError: with every problem found.
    """
    problems = Problems(path)
    try:
        raw = read(path, problems, os.environ)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    settings = validate(Settings, raw, problems)
    _check_references(raw, problems)
    _check_chains(raw, problems)
    _check_files(raw, problems)
    if settings is not None:
        _check_loops(settings, problems)
        _check_further_topics(settings, problems)
    if settings is None or problems.texts():
        raise ConfigError(problems.texts())
    return Config(path, settings, problems.lines)


def resolve(path: Path | str, folder: Path) -> Path:
    """A path relative to a folder, with `~` expanded, and `~name` if there is such a user."""
    return folder / expand_user(path)


def _check_references(raw: object, problems: Problems) -> None:
    """Pipelines name models that exist; parts of the file that have the wrong shape are skipped."""
    models = _names(value_at(raw, ("models",)))
    for name in _names(value_at(raw, ("pipelines",))):
        key: Key = ("pipelines", name, "model")
        if value_at(raw, ("pipelines", name, "source", "type")) == "ai_camera":
            key = ("pipelines", name, "source", "model")
        model = value_at(raw, key)
        if isinstance(model, str) and model not in models:
            known = did_you_mean(model, models) if models else "; there is no models section"
            problems.add(key, f"there is no model '{problems.quoted(key, model)}'{known}")
    names = _names(value_at(raw, ("pipelines",)))
    for name in names:
        key = ("pipelines", name, "keep", "when", "compare_with")
        other = value_at(raw, key)
        if isinstance(other, str) and (other not in names or other == name):
            known = did_you_mean(other, [one for one in names if one != name])
            problems.add(key, f"there is no other pipeline '{problems.quoted(key, other)}'{known}")
    for name in _names(value_at(raw, ("update", "models"))):
        if name not in models:
            problems.add(("update", "models", name), f"there is no model of that name{did_you_mean(name, models)}")


def _check_chains(raw: object, problems: Problems) -> None:
    """Sources of type `pipeline` name one that exists, and none is its own source, directly or through others."""
    names = _names(value_at(raw, ("pipelines",)))
    parents = {
        name: value_at(raw, ("pipelines", name, "source", "name"))
        for name in names
        if value_at(raw, ("pipelines", name, "source", "type")) == "pipeline"
    }
    for name, parent in parents.items():
        key: Key = ("pipelines", name, "source", "name")
        if isinstance(parent, str) and parent not in names:
            problems.add(key, f"there is no pipeline '{problems.quoted(key, parent)}'{did_you_mean(parent, names)}")
    for name in _on_circles(parents):
        key = ("pipelines", name, "source", "name")
        problems.add(key, "a pipeline must not be its own source, directly or through others")


def _on_circles(parents: Mapping[str, object]) -> Iterator[str]:
    """The pipelines that are their own source, directly or through others; each pipeline is visited once."""
    visited: set[object] = set()
    for name in parents:
        way: dict[object, None] = {}
        at: object = name
        while isinstance(at, str) and at in parents and at not in visited:
            visited.add(at)
            way[at] = None
            at = parents[at]
        if isinstance(at, str) and at in way:
            names = [str(step) for step in way]
            yield from names[names.index(at) :]


def _check_loops(settings: Settings, problems: Problems) -> None:
    """No source takes what this agent itself publishes: it would never end."""
    for name, pipeline in settings.pipelines.items():
        if isinstance(pipeline.source, MqttSource) and (topic := own_topic(settings, pipeline.source.topic)):
            problems.add(
                ("pipelines", name, "source", "topic"),
                f"matches {printable(topic)}, on which this agent publishes: it would be its own input; choose a"
                " narrower topic filter, or for another pipeline's results `type: pipeline`",
            )


def _check_further_topics(settings: Settings, problems: Problems) -> None:
    """Results go to no topic that has a meaning of its own."""
    for name, topic in further_topics(settings).items():
        if taken := built_in_topic(settings, topic):
            problems.add(
                ("pipelines", name, "publish", "topic"),
                f"is {printable(taken)}, on which this agent publishes anyway: choose another topic",
            )


def _check_files(raw: object, problems: Problems) -> None:
    """Files that are named exist; parts of the file that have the wrong shape are skipped."""

    def check(*key: str, unless: Callable[[str], object] = lambda _: False, folder_too: bool = False) -> None:
        value = value_at(raw, key)
        if not isinstance(value, str) or unless(value):
            return
        path = resolve(value.removeprefix("file://"), problems.path.parent)
        trouble = _trouble(path, folder_too=folder_too)
        if trouble:
            # The value may be a password, or a misspelt address that contains one.
            secret = key[-1] in ("password_file", "token_file") or "@" in value
            problems.add(key, f"{trouble}{'' if secret else f': {printable(str(path))}'}")

    for name in ("ca_file", "cert_file", "key_file"):
        check("mqtt", name)
    check("mqtt", "password_file", unless=ENV.fullmatch)
    check("http", "token_file", unless=ENV.fullmatch)
    for name in _names(value_at(raw, ("models",))):
        check("models", name, "labels", unless=str(NO_LABELS).__eq__)
        check("models", name, "anchors")
    check("update", "root")
    for name in _names(value_at(raw, ("pipelines",))):
        source = ("pipelines", name, "source")
        match value_at(raw, (*source, "type")):
            case "video":
                check(*source, "url", unless=lambda url: "://" in url.removeprefix("file://"))
            case "images" | "audio":
                check(*source, "path", unless=glob.has_magic, folder_too=True)


def _trouble(path: Path, *, folder_too: bool) -> str:
    """Why a path can't be used as that of a file (or a folder); "" if it can."""
    kind = "file or folder" if folder_too else "file"
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no such {kind}"
    except (OSError, ValueError) as error:
        return f"there is no such {kind}, or it can't be read ({getattr(error, 'strerror', None) or error})"
    return "" if folder_too or stat.S_ISREG(mode) else "this is not a file"


def _names(section: object) -> Mapping[str, object]:
    return section if isinstance(section, dict) else {}
