"""From a YAML file to `Settings`.

Every problem of the file is reported, each as `FILE:LINE: pipelines.porch.source.fps: must be > 0 (got -5)`.
"""

import glob
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_agent.config.layers import Layer, Merged, merge
from edge_agent.config.validation import did_you_mean, validate, value_at
from edge_agent.config.yaml_lines import SECRET_FILES, Key, Problems, dotted, line_of, origin_of, read
from edge_agent.errors import ConfigError
from edge_agent.settings import MqttSource, Settings
from edge_agent.settings.own_topics import built_in_topic, further_topics, own_topic
from edge_agent.system.home import expand_user
from edge_agent.system.secret import ENV
from edge_agent.system.terminal import printable

NO_LABELS = Path("none")
CERTIFICATES = ("ca_file", "cert_file", "key_file")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings and where they came from.

    Attributes:
        path: the device's own file.
        settings: with those of a repository, where there are some.
        lines: of all keys.
        origins: of the keys that are from a repository.
        overridden: keys for which the device's own file states another value than the repository.
        unused: entries of the device's own file that complete nothing of the repository.
        raw: all of it as plain values.
        release: of a repository's configuration; empty if there is none below the device's own file.
    """

    path: Path
    settings: Settings
    lines: Mapping[Key, int]
    origins: Mapping[Key, Path] = field(default_factory=dict)
    overridden: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    raw: object = None
    release: str = ""

    def where(self, *key: str | int) -> str:
        """`FILE:LINE: a.b.c`, with the line of the key, or of the nearest enclosing one."""
        path = origin_of(self.path, self.lines, self.origins, key)
        return f"{path}:{line_of(self.lines, key)}: {dotted(key)}"

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


def load(path: Path, layers: Sequence[Layer] = (), release: str = "") -> Config:
    """Reads and checks a configuration file, and that the files it names exist.

    Args:
        path: of the file.
        layers: of a repository, below it.
        release: that they are from.

    Raises:
        ConfigError: with every problem found.
    """
    problems = Problems(path)
    try:
        raw = read(path, problems, os.environ)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    merged = Merged(raw)
    follows = value_at(raw, ("update", "config")) is not None
    if follows:
        programs = str(value_at(raw, ("update", "config_programs"))).lower() in ("true", "yes", "on", "1")
        merged = merge(raw, layers, problems, programs=programs)
        raw = merged.raw
    settings = validate(Settings, raw, problems)
    _check_references(raw, problems, follows=follows and not layers)
    _check_chains(raw, problems)
    _check_files(raw, problems)
    if settings is not None:
        _check_loops(settings, problems)
        _check_further_topics(settings, problems)
        _check_chats(settings, problems)
    if settings is None or problems.texts():
        raise ConfigError(problems.texts())
    return Config(path, settings, problems.lines, problems.origins, merged.overridden, merged.unused, raw, release)


def resolve(path: Path | str, folder: Path) -> Path:
    """A path relative to a folder, with `~` expanded, and `~name` if there is such a user."""
    return folder / expand_user(path)


def _check_references(raw: object, problems: Problems, *, follows: bool) -> None:
    """Pipelines name models that exist; parts of the file that have the wrong shape are skipped.

    Args:
        raw: values of the file.
        problems: of the file.
        follows: whether models may come later, from a repository.
    """
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
        if name not in models and not follows:
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
    for name, pipeline in settings.pipelines.items():
        for number, action in enumerate(pipeline.actions):
            if action.publish is not None and (taken := built_in_topic(settings, action.publish.topic)):
                problems.add(
                    ("pipelines", name, "actions", number, "publish", "topic"),
                    f"is {printable(taken)}, on which this agent publishes itself: choose the topic of another device",
                )


def _check_chats(settings: Settings, problems: Problems) -> None:
    """What is asked over HTTP is served there."""
    for name, pipeline in settings.pipelines.items():
        if pipeline.text.openai and settings.http is None:
            problems.add(("pipelines", name, "text", "openai"), "needs the server of the status page: add `http: {}`")


def _check_files(raw: object, problems: Problems) -> None:
    """Files that are named exist; parts of the file that have the wrong shape are skipped."""
    pipelines = [("pipelines", name) for name in _names(value_at(raw, ("pipelines",)))]
    for section in (("mqtt",), ("http",), ("update",), *((*pipeline, "keep", "upload") for pipeline in pipelines)):
        for name in CERTIFICATES:
            _check_file(raw, problems, (*section, name))
        for name in SECRET_FILES:
            _check_file(raw, problems, (*section, name), unless=ENV.fullmatch)
    for name in _names(value_at(raw, ("models",))):
        _check_file(raw, problems, ("models", name, "labels"), unless=str(NO_LABELS).__eq__)
        _check_file(raw, problems, ("models", name, "anchors"))
    _check_file(raw, problems, ("update", "root"))
    for pipeline in pipelines:
        source = (*pipeline, "source")
        match value_at(raw, (*source, "type")):
            case "video":
                _check_file(raw, problems, (*source, "url"), unless=lambda url: "://" in url.removeprefix("file://"))
            case "images" | "audio":
                _check_file(raw, problems, (*source, "path"), unless=glob.has_magic, folder_too=True)


def _check_file(
    raw: object,
    problems: Problems,
    key: Key,
    *,
    unless: Callable[[str], object] = lambda _: False,
    folder_too: bool = False,
) -> None:
    value = value_at(raw, key)
    if not isinstance(value, str) or unless(value):
        return
    path = resolve(value.removeprefix("file://"), problems.path.parent)
    if trouble := _trouble(path, folder_too=folder_too):
        # The value may be a password, or a misspelt address that contains one.
        secret = key[-1] in SECRET_FILES or "@" in value
        problems.add(key, f"{trouble}{'' if secret else f': {printable(str(path))}'}")


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
