"""Changes to a configuration file that leave everything else as it is, comments included.

The file is changed where the YAML parser says that a value begins and ends. What comes out is parsed again: if it says
anything else than the values before with this one change, it is refused.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from edge_agent.config import loader
from edge_agent.config.yaml_lines import MAX_FILE_SIZE, Problems, compose, plain
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.system import atomic_file
from edge_agent.system.text import TextError, read_text

_SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_ -]{0,62}[A-Za-z0-9_]|[A-Za-z_]")
_STEP = 2

Value = str | float | int | bool | Sequence["Value"] | Mapping[str, "Value"]


class EditError(EdgeAgentError):
    """A file can't be changed as asked for; nothing has been changed."""


def flow(value: Value) -> str:
    """A value in one line of YAML."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value if _SIMPLE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
        case int() | float():
            return f"{value:.6g}"
        case Mapping():
            return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    return "[" + ", ".join(flow(one) for one in value) + "]"


def with_value(text: str, key: Sequence[str], value: Value | None) -> str:
    """The text of a file with a value set, or removed.

    Args:
        text: of the file.
        key: where; mappings that are missing on the way are added.
        value: None: the key is removed, if it is there.

    Raises:
        EditError: the file is no YAML, or says it in a way that can't be changed safely.
    """
    before, root = _parsed(text)
    wanted = _changed(before, key, value)
    if wanted == before:
        return text
    changed = _edited(text, root, key, value)
    try:
        after, _ = _parsed(changed)
    except EditError:
        after = None
    if after != wanted:
        raise EditError(f"{'.'.join(key)}: can't be changed safely in this file: change it by hand")
    return changed


class FileEdit:
    """One change of a configuration file: checked, written, and taken back if it turns out not to work.

    Args:
        path: of the file.
        changes: keys and their new values, in this order; see `with_value`.

    Raises:
        EditError: see `with_value`.
        ConfigError: the file with the changes is no valid configuration.
        OSError: it can't be read, or its folder can't be written.
    """

    def __init__(self, path: Path, changes: Sequence[tuple[Sequence[str], Value | None]]) -> None:
        self.path = path
        try:
            self._before = read_text(path, MAX_FILE_SIZE)
        except TextError as error:
            raise EditError(f"{path}: {error}") from None
        self._after = self._before
        for key, value in changes:
            self._after = with_value(self._after, key, value)
        check_text(path, self._after)

    @property
    def changes_something(self) -> bool:
        """Whether the file would say anything else."""
        return self._after != self._before

    def write(self) -> None:
        """Replaces the file.

        Raises:
            EditError: somebody else has changed it in the meantime.
            OSError: it can't be written.
        """
        self._replace(self._before, self._after)

    def take_back(self) -> None:
        """Restores the file as it was; see `write`."""
        self._replace(self._after, self._before)

    def _replace(self, expected: str, new: str) -> None:
        if read_text(self.path, MAX_FILE_SIZE) != expected:
            raise EditError(f"{self.path}: somebody else has changed it in the meantime")
        mode = self.path.stat().st_mode
        atomic_file.write(self.path, new.encode())
        self.path.chmod(mode & 0o7777)


def check_text(path: Path, text: str) -> None:
    """Checks what is to be a configuration file, without replacing it.

    Args:
        path: of the file; relative paths in it are relative to its folder.
        text: what it is to hold.

    Raises:
        ConfigError: with every problem, as if it were that file.
        OSError: the folder can't be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        loader.load(draft)
    except ConfigError as error:
        raise ConfigError([problem.replace(str(draft), str(path)) for problem in error.problems]) from None
    finally:
        draft.unlink(missing_ok=True)


def _parsed(text: str) -> tuple[Any, yaml.Node | None]:
    problems = Problems(Path("configuration"))
    try:
        root = compose(text.encode())
        values = plain(root, problems, {})
    except (yaml.YAMLError, RecursionError, ValueError):
        raise EditError("the file is not valid YAML: correct it by hand first") from None
    if problems.texts() or not isinstance(values, dict):
        raise EditError("the file is not valid: correct it by hand first")
    return values, root


def _changed(values: Any, key: Sequence[str], value: Value | None) -> Any:
    """The plain values with one changed; scalars are texts, as the parser gives them."""
    name, *rest = key
    inner = dict(values) if isinstance(values, dict) else {}
    if rest:
        if value is None and not isinstance(inner.get(name), dict):
            return values
        inner[name] = _changed(inner.get(name), rest, value)
    elif value is None:
        inner.pop(name, None)
    else:
        inner[name] = _as_text(value)
    return inner


def _as_text(value: Value) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_text(one) for key, one in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [_as_text(one) for one in value]
    return flow(value)


def _edited(text: str, root: yaml.Node | None, key: Sequence[str], value: Value | None) -> str:
    """The text, changed at the place of a key."""
    if not isinstance(root, yaml.MappingNode):
        return f"{text.rstrip()}\n{_block(key, value, 0)}\n".lstrip() if value is not None else text
    mapping, depth = root, 0
    while True:
        pair = _pair(mapping, key[depth])
        if pair is None:
            return text if value is None else _inserted(text, mapping, key[depth:], value)
        name, node = pair
        if node.start_mark.index < name.end_mark.index:
            raise EditError(f"{'.'.join(key)}: is an alias of another place of the file: change it by hand")
        depth += 1
        if depth == len(key):
            return _removed(text, mapping, name, node) if value is None else _replaced(text, name, node, flow(value))
        if isinstance(node, yaml.MappingNode):
            mapping = node
        elif value is None:
            return text
        else:
            return _replaced(text, name, node, flow(_nested(key[depth:], value)))


def _pair(mapping: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next((pair for pair in mapping.value if pair[0].value == name), None)


def _nested(key: Sequence[str], value: Value) -> Value:
    for name in reversed(key):
        value = {name: value}
    return value


def _end(node: yaml.Node) -> int:
    """Where a node ends; the parser has block collections end behind the comments that follow them."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _replaced(text: str, name: yaml.Node, node: yaml.Node, new: str) -> str:
    start, end = int(node.start_mark.index), _end(node)
    if start == end:  # nothing stands there
        at = text.index(":", int(name.end_mark.index)) + 1
        return f"{text[:at]} {new}{text[at:]}"
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        new += "\n"
    if "\n" in text[name.end_mark.index : start]:  # a block, on lines of its own
        start = text.index(":", int(name.end_mark.index)) + 1
        new = f" {new}"
    return text[:start] + new + text[end:]


def _inserted(text: str, mapping: yaml.MappingNode, key: Sequence[str], value: Value) -> str:
    if mapping.flow_style:
        item = f"{flow(key[0])}: {flow(_nested(key[1:], value))}"
        if not mapping.value:
            at = int(mapping.start_mark.index) + 1
            return text[:at] + item + text[at:]
        at = _end(mapping.value[-1][1])
        return f"{text[:at]}, {item}{text[at:]}"
    at = _end(mapping.value[-1][1])
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    if text[at - 1 : at] == "\n":  # behind a block scalar
        line_end = at - 1
    indent = int(mapping.value[0][0].start_mark.column)
    return f"{text[:line_end]}\n{_block(key, value, indent)}{text[line_end:]}"


def _block(key: Sequence[str], value: Value | None, indent: int) -> str:
    """Lines of a value, each mapping on the way in a line of its own."""
    lines = [f"{' ' * (indent + _STEP * depth)}{flow(name)}:" for depth, name in enumerate(key)]
    lines[-1] += f" {flow(value if value is not None else {})}"
    return "\n".join(lines)


def _removed(text: str, mapping: yaml.MappingNode, name: yaml.Node, node: yaml.Node) -> str:
    start, end = int(name.start_mark.index), _end(node)
    if len(mapping.value) == 1:  # an empty mapping is left
        outer, last = int(mapping.start_mark.index), _end(mapping)
        if mapping.flow_style:
            return text[:outer] + "{}" + text[last:]
        return text[:start] + "{}" + text[end:]
    if mapping.flow_style:
        at = [pair[0] for pair in mapping.value].index(name)
        if at + 1 < len(mapping.value):
            return text[:start] + text[int(mapping.value[at + 1][0].start_mark.index) :]
        return text[: _end(mapping.value[at - 1][1])] + text[end:]
    line_start = text.rfind("\n", 0, start) + 1
    if text[line_start:start].strip():  # the first key of an entry of a list
        following = int(mapping.value[1][0].start_mark.index)
        return text[:start] + text[following:]
    line_end = text.find("\n", end)
    return text[:line_start] + (text[line_end + 1 :] if line_end >= 0 else "")
