"""YAML to plain values, with the line of each, so that every problem is reported with its line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from edge_agent.system.secret import ENV
from edge_agent.system.terminal import printable
from edge_agent.system.text import TextError, read_file, variable

MAX_FILE_SIZE = 1_000_000
MAX_VALUES = 100_000
MAX_NODES = 50_000  # keys and values in the file; it is parsed at about 10,000 a second on a small device
MAX_DEPTH = 32
MAX_NESTING = 100
MAX_REPORTED = 100
MAX_QUOTED = 60

Key = tuple[str | int, ...]

# Values of these keys, and of keys inside them, never appear in a message: `password_file` may hold the password itself
# by mistake, and an address or an argument may contain one.
SECRET_FILES = ("password_file", "token_file", "access_key_file", "query_file")
_SECRET_KEYS = {*SECRET_FILES, "url", "argv"}
_TAG = "tag:yaml.org,2002:"
# Scalars that YAML resolves to booleans, numbers, dates and so on stay text here: `no` may be the name of a device, and
# `1.10` a version. The settings convert texts to the types that they need.
_TEXTS = {_TAG + name for name in ("str", "bool", "int", "float", "timestamp", "value", "merge")}
_HINTS = (
    ("'\\t' that cannot start", "indent with spaces, not with tabs"),
    ("unexpected end of stream", "the quote that starts here is not closed"),
    ("that cannot start any token", "quote a value that begins with this character"),
    ("mapping values are not allowed", "check the indentation, and quote a value that contains `: `"),
    ("could not find expected ':'", "a line must be `key: value` or begin with `- `"),
    ("expected <block end>", "check the indentation"),
    ("unknown escape character", "use single quotes for a value that contains \\"),
    ("undefined alias", "quote a value that begins with *"),
    ("another document", "only one is allowed, so remove the second `---`"),
)


class Problems:
    """What is wrong with a file.

    Args:
        path: of the file, for the messages.

    Attributes:
        lines: the line of every key.
        written: the text of every scalar as it is in the file, by key.
        unreadable: keys whose value could not be read; further problems with it are not reported.
        origins: the file of each key that comes from another one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, int] = {}
        self.written: dict[Key, str] = {}
        self.unreadable: set[Key] = set()
        self.origins: dict[Key, Path] = {}
        self._found: list[tuple[int, str]] = []

    def add(self, key: Key, message: str, line: int | None = None) -> None:
        """Notes `FILE:LINE: key: message`; the line is that of the key, or of the nearest enclosing one."""
        line = line or line_of(self.lines, key)
        where = f"{dotted(key)}: " if key else ""
        self._found.append((line, f"{origin_of(self.path, self.lines, self.origins, key)}:{line}: {where}{message}"))

    def texts(self) -> list[str]:
        """All problems in the order of their lines; of more than 100, the first 100 and how many more there are."""
        texts = [text for _, text in sorted(self._found, key=lambda found: found[0])]
        more = len(texts) - MAX_REPORTED
        return texts if more <= 0 else [*texts[:MAX_REPORTED], f"{self.path}: and {more} more problems"]

    def quoted(self, key: Key, value: object) -> str:
        """A value as it is in the file, for a message: variables are not replaced; empty for a secret."""
        if _SECRET_KEYS.intersection(key[-2:]):
            return ""
        match value:
            case None:
                return "no value"
            case dict():
                return "`key: value` lines"
            case list():
                return "a list"
        return _short(self.written[key]) or "''"


def dotted(key: Key) -> str:
    """A key as `pipelines.porch.source`."""
    return ".".join(_short(str(part)) or "''" for part in key)


def _short(text: str) -> str:
    return printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...")


def line_of(lines: Mapping[Key, int], key: Key) -> int:
    """The line of a key, or of the nearest enclosing one."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def origin_of(path: Path, lines: Mapping[Key, int], origins: Mapping[Key, Path], key: Key) -> Path:
    """The file of a key, or of the nearest enclosing one.

    Args:
        path: of the file that keys are from which have no origin.
        lines: of all keys.
        origins: of the others.
        key: whose.
    """
    while key and key not in lines:
        key = key[:-1]
    return origins.get(key, path)


def read(path: Path, problems: Problems, variables: Mapping[str, str], max_size: int = MAX_FILE_SIZE) -> object:
    """The plain values of a file: dictionaries, lists, texts, None.

    Problems are added to `problems`; a value that could not be read is None.

    Args:
        path: of the file.
        problems: of this file.
        variables: values for `${env:NAME}` in texts; if empty, such texts are left as they are.
        max_size: in bytes; a larger file is refused.

    Raises:
        OSError: the file can't be read, or is not a regular file.
    """
    try:
        content = read_file(path, max_size)
    except TextError as error:
        problems.add((), f"{error}: not a configuration file")
        return None
    return parse(content, problems, variables)


def parse(content: bytes, problems: Problems, variables: Mapping[str, str]) -> object:
    """The plain values of a file's content; see `read`."""
    try:
        return plain(compose(content), problems, variables)
    except yaml.MarkedYAMLError as error:
        message, mark = error.problem or error.context or "", error.problem_mark
        if error.context_mark and re.search(r"end of stream|expected ':'", message):
            mark = (
                error.context_mark
            )  # the start of the construct is more helpful than the place where the parser gave up
        hint = next((f": {hint}" for part, hint in _HINTS if part in message), "")
        problems.add((), f"not valid YAML: {printable(message)}{hint}", mark.line + 1 if mark else 1)
    except yaml.reader.ReaderError as error:
        line = content[: error.position].count(b"\n") + 1
        problems.add((), "not UTF-8 text, or it contains control characters: save it as UTF-8", line)
    except (yaml.YAMLError, _TooMuchError) as error:
        problems.add((), f"not a configuration file: {printable(str(error))}")
    except RecursionError:
        problems.add((), "not a configuration file: values are nested too deeply")
    return None


def compose(content: bytes) -> yaml.Node | None:
    """The nodes of a file, with their places in it; None if it is empty.

    Raises:
        yaml.YAMLError: it is not valid.
        ValueError: there is more in it than in any configuration.
        RecursionError: values are nested too deeply.
    """
    node: yaml.Node | None = yaml.compose(content, Loader=_Loader)
    return None if node is None or node.tag == _TAG + "null" else node


def plain(node: yaml.Node | None, problems: Problems, variables: Mapping[str, str]) -> object:
    """The plain values of nodes; see `read`."""
    return {} if node is None else _Reader(problems, variables).value(node, ())


class _TooMuchError(ValueError):
    """The file has more values, or deeper ones, than any configuration needs."""


class _Loader(yaml.SafeLoader):
    """Stops where a file has more in it than any configuration: to parse the rest could take minutes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES:
            raise _TooMuchError(f"more than {MAX_NODES} keys and values")
        if self._depth > MAX_NESTING:
            raise RecursionError
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reader:
    """YAML nodes to plain values."""

    def __init__(self, problems: Problems, variables: Mapping[str, str]) -> None:
        self._problems = problems
        self._variables = variables
        self._values_left = MAX_VALUES  # aliases can make a small file enormous

    def value(self, node: yaml.Node, key: Key) -> object:
        self._values_left -= 1
        if self._values_left < 0:
            raise _TooMuchError(f"more than {MAX_VALUES} values")
        if len(key) > MAX_DEPTH:
            raise _TooMuchError(f"values are nested more than {MAX_DEPTH} levels deep, or contain themselves")
        self._problems.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null":
            return None
        if isinstance(node, yaml.ScalarNode) and node.tag in _TEXTS:
            self._problems.written[key] = node.value
            return self._fill_in(node.value, key)
        self._unreadable(key, f"the tag {node.tag.removeprefix(_TAG)!r} is not supported")
        return None

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, object]:
        merged: dict[str, object] = {}
        own = []  # its own keys come last and override those that are merged in (`<<: *other`)
        for name_node, value_node in node.value:
            if name_node.tag == _TAG + "merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in reversed(parts):
                    merged |= self._merged(part, key)
            else:
                own.append((name_node, value_node))
        return merged | dict(self._items(own, key))

    def _merged(self, node: yaml.Node, key: Key) -> dict[str, object]:
        value = self.value(node, key)
        if isinstance(value, dict):
            return value
        self._problems.add((*key, "<<"), "only a mapping can be merged", node.start_mark.line + 1)
        return {}

    def _items(self, nodes: list[tuple[yaml.Node, yaml.Node]], key: Key) -> Iterator[tuple[str, object]]:
        seen: dict[str, int] = {}
        for name_node, value_node in nodes:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self._problems.add(key, "a key must be text, not a list or a mapping", line)
                continue
            name = name_node.value  # a device or pipeline called `12` or `on` is still a name
            if name in seen:
                self._problems.add((*key, name), f"duplicate key, first defined on line {seen[name]}", line)
            seen[name] = line
            self._problems.lines[(*key, name)] = line
            yield name, self.value(value_node, (*key, name))

    def _fill_in(self, text: str, key: Key) -> str | None:
        if not self._variables:
            return text
        values: dict[str, str] = {}
        for name in ENV.findall(text):
            try:
                found = variable(name, self._variables)
            except TextError as error:
                self._unreadable(key, f"the environment variable {name}: {error}")
                return None
            if found is None:
                self._unreadable(key, f"the environment variable {name} is not set")
                return None
            values[name] = found
        if key and key[-1] in SECRET_FILES and ENV.fullmatch(text):
            return text  # the secret itself is read only when it is needed
        return ENV.sub(lambda match: values[match[1]], text)

    def _unreadable(self, key: Key, message: str) -> None:
        self._problems.unreadable.add(key)
        self._problems.add(key, message)
