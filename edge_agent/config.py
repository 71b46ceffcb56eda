"""From a YAML file to `Settings`. The only place that sees a raw dictionary.

Every problem of the file is reported, each as `FILE:LINE: pipelines.porch.source.fps: must be > 0 (got -5)`.
"""

import difflib
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_agent.errors import ConfigError
from edge_agent.settings import Settings, Source

MAX_FILE_SIZE = 1_000_000
MAX_NODES = 100_000
MAX_QUOTED = 60
NO_LABELS = Path("none")

Key = tuple[str | int, ...]
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
# The value of these keys never appears in a message.
_SECRET_KEYS = {"password_file", "url"}
_SOURCE_TYPES = ", ".join(
    get_args(source.model_fields["type"].annotation)[0] for source in get_args(get_args(Source)[0])
)
_BOUNDS = {"greater_than": (">", "gt"), "greater_than_equal": (">=", "ge"), "less_than_equal": ("<=", "le")}
_PLAIN = {
    "string_pattern_mismatch": "must be without the characters / + # and control characters",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must hold `name: …` lines",
    "model_type": "must hold `key: value` lines",
    "model_attributes_type": "must hold `key: value` lines",
    "path_type": "must be a path",
}


@dataclass(frozen=True, slots=True)
class Config:
    """Settings and the file that they came from."""

    path: Path
    settings: Settings
    lines: Mapping[Key, int]

    def where(self, *key: str | int) -> str:
        """`FILE:LINE: a.b.c`, the line being that of the nearest key that stands in the file."""
        return f"{self.path}:{_line(self.lines, key)}: {_dotted(key)}"

    def resolve(self, path: Path | str) -> Path:
        """A path of the file, relative to the file's folder."""
        return self.path.parent / Path(path).expanduser()


def load(path: Path) -> Config:
    """Reads and checks a configuration file, and that the files it names exist.

    Raises:
        ConfigError: with every problem found.
    """
    problems = _Problems(path)
    raw = _read_yaml(path, problems)
    settings = None
    keys_of: dict[int, tuple[str, ...]] = {}
    if isinstance(raw, dict):
        try:
            settings = Settings.model_validate(raw, context=keys_of)
        except ValidationError as error:
            _explain(error, raw, keys_of, problems)
        _check_references(raw, problems)
        _check_files(raw, problems)
    elif not problems.found:
        problems.add((), "the file must hold settings, as `key: value` lines")
    if problems.found or settings is None:
        raise ConfigError([text for _, text in sorted(problems.found, key=lambda found: found[0])])
    return Config(path, settings, problems.lines)


class _Problems:
    """Collects problems with the lines they are on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.found: list[tuple[int, str]] = []

    def add(self, key: Key, message: str, line: int | None = None) -> None:
        line = line or _line(self.lines, key)
        where = f"{_dotted(key)}: " if key else ""
        self.found.append((line, f"{self.path}:{line}: {where}{message}"))


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _line(lines: Mapping[Key, int], key: Key) -> int:
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _read_yaml(path: Path, problems: _Problems) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError([f"{path}: larger than {MAX_FILE_SIZE} bytes: not a configuration file"])
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problems.add((), f"not valid YAML: {error.problem or error.context}", line)
        return None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problems.add((), f"not valid YAML: {str(error).splitlines()[0]}", 1)
        return None
    reader = _NodeReader(problems)
    return {} if node is None else reader.value(node, ())


class _NodeReader:
    """YAML nodes to plain values, noting the line of every key; `${env:NAME}` is filled in."""

    def __init__(self, problems: _Problems) -> None:
        self.problems = problems
        self.constructor = yaml.SafeLoader("")
        self.nodes_left = MAX_NODES  # aliases can make a small file enormous

    def value(self, node: yaml.Node, key: Key) -> object:
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise ConfigError([f"{self.problems.path}: more than {MAX_NODES} values: not a configuration file"])
        self.problems.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            self.constructor.flatten_mapping(node)
            return dict(self._items(node, key))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        try:
            scalar = self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.add(key, f"can't be read: {str(error).splitlines()[0]}")
            return None
        return self._fill_in(scalar, key) if isinstance(scalar, str) else scalar

    def _items(self, node: yaml.MappingNode, key: Key) -> Iterator[tuple[str, object]]:
        seen: dict[str, int] = {}
        for name_node, value_node in node.value:
            # A device or pipeline called `12` or `on` is still a name.
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else str(name_node.value)
            line = name_node.start_mark.line + 1
            if name in seen:
                self.problems.add((*key, name), f"stands twice, first in line {seen[name]}", line)
            seen[name] = line
            self.problems.lines[(*key, name)] = line
            yield name, self.value(value_node, (*key, name))

    def _fill_in(self, text: str, key: Key) -> str:
        if key and key[-1] == "password_file" and _ENV.fullmatch(text):
            return text  # names the secret itself, which is read only when it is needed

        def variable(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                self.problems.add(key, f"the environment variable {match[1]} is not set")
            return os.environ.get(match[1], "")

        return _ENV.sub(variable, text)


def _explain(error: ValidationError, raw: object, keys_of: Mapping[int, tuple[str, ...]], problems: _Problems) -> None:
    """One problem for each key, however many ways of reading its value have failed."""
    messages: dict[Key, list[str]] = {}
    for details in error.errors(include_url=False):
        key = _real_key(details, raw)
        if details["type"] == "extra_forbidden":
            known = keys_of.get(id(_value_at(raw, key[:-1])), ())
            messages[key] = ["unknown key" + _did_you_mean(str(key[-1]), known)]
        else:
            messages.setdefault(key, []).append(_message(details))
    for key, texts in messages.items():
        if any(other[: len(key)] == key and other != key for other in messages):
            continue  # what is wrong inside says more than that the whole is not one of its alternatives
        value = _value_at(raw, key)
        quotable = value is not None and not (key and key[-1] in _SECRET_KEYS)
        got = f" (got {_short(value)})" if quotable and texts[0].startswith("must be") else ""
        problems.add(key, " or ".join(dict.fromkeys(texts)) + got)


def _message(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    match kind:
        case "missing":
            return "is required"
        case "union_tag_not_found":
            return f"needs a type: one of {_SOURCE_TYPES}"
        case "union_tag_invalid":
            return f"type must be one of {_SOURCE_TYPES} (got {context['tag']!r})"
        case "value_error":
            return str(context["error"])
        case "greater_than" | "greater_than_equal" | "less_than_equal":
            sign, bound = _BOUNDS[kind]
            return f"must be {sign} {context[bound]:g}"
    return _PLAIN.get(kind) or details["msg"].replace("Input should be", "must be").replace("Input should", "must")


def _real_key(details: ErrorDetails, raw: object) -> Key:
    """Pydantic's location without the names of union members, which are no keys of the file."""
    *parts, last = details["loc"] or ("",)
    key: list[str | int] = []
    for part in parts:
        value = _value_at(raw, (part,))
        if value is not None:
            key.append(part)
            raw = value
    if details["type"] == "missing" or (isinstance(raw, dict) and last in raw) or isinstance(last, int):
        key.append(last)
    return tuple(key)


def _value_at(raw: Any, key: Key) -> Any:
    for part in key:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 3] + "..."


def _did_you_mean(name: str, known: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known here: {', '.join(known)}"


def _check_references(raw: dict[str, Any], problems: _Problems) -> None:
    """Pipelines name models that exist; works on whatever part of the file has the right shape."""
    models, pipelines = raw.get("models") or {}, raw.get("pipelines") or {}
    if not isinstance(models, dict) or not isinstance(pipelines, dict):
        return
    for name, pipeline in pipelines.items():
        model = pipeline.get("model") if isinstance(pipeline, dict) else None
        if isinstance(model, str) and model not in models:
            suggestion = _did_you_mean(model, tuple(models)) if models else "; there is no models section"
            problems.add(("pipelines", name, "model"), f"there is no model {model!r}{suggestion}")


def _check_files(raw: dict[str, Any], problems: _Problems) -> None:
    """Files that are named exist; works on whatever part of the file has the right shape."""
    folder = problems.path.parent

    def check(key: Key, *, exists: Callable[[Path], bool] = Path.is_file) -> None:
        value = _value_at(raw, key)
        if not isinstance(value, str) or _ENV.fullmatch(value):
            return
        path = folder / Path(value.removeprefix("file://")).expanduser()
        if not glob.has_magic(value) and not exists(path):
            problems.add(key, f"there is no {'file' if exists is Path.is_file else 'file or folder'} {path}")

    for name in ("ca_file", "cert_file", "key_file", "password_file"):
        check(("mqtt", name))
    for name in _names(raw.get("models")):
        if _value_at(raw, ("models", name, "labels")) != str(NO_LABELS):
            check(("models", name, "labels"))
    for name in _names(raw.get("pipelines")):
        source: Key = ("pipelines", name, "source")
        if "://" not in str(_value_at(raw, (*source, "url"))).removeprefix("file://"):
            check((*source, "url"))
        check((*source, "path"), exists=Path.exists)


def _names(section: object) -> list[str]:
    return list(section) if isinstance(section, dict) else []
