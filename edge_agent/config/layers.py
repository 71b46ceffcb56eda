"""Layers of a configuration: what a repository of releases states, below what the device's own file states.

Maps are merged key by key, a later layer over the earlier ones; everything else replaces what was there, and so does a
map with another `type`. `null` removes a key. The device's own file comes last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.yaml_lines import Key, Problems, dotted, parse
from edge_agent.errors import ConfigError
from edge_agent.system.address import without_credentials
from edge_agent.system.secret import ENV

# What may come from a repository, all or only some keys of it. The rest is the device's own: how it is reached, and
# whom it trusts.
SECTIONS = ("battery", "model_memory", "models", "pipelines", "stats_interval", "thermal")
OF_UPDATE = ("models",)
# Keys that name code to run.
PROGRAMS = ("argv", "delegate", "library", "plugin", "program", "python")
_PATHS, _DEVICES = ("anchors", "labels", "path"), ("device", "port")
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a repository's configuration.

    Attributes:
        name: for messages: `fleet/7/base.yaml`.
        content: YAML.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Merged:
    """The values of all layers.

    Attributes:
        raw: plain values.
        overridden: keys for which the device's own file states another value than the repository.
        unused: entries of the device's own file that only complete one of the repository, which has none of that name.
    """

    raw: object
    overridden: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read_layer(layer: Layer, *, programs: bool) -> tuple[dict[str, object], Problems]:
    """The values of a layer, and their lines.

    Args:
        layer: to be read.
        programs: whether it may name programs to run.

    Raises:
        ConfigError: with everything in it that is no YAML, or may not come from a repository.
    """
    problems = Problems(Path(layer.name))
    raw = parse(layer.content, problems, {})
    if not isinstance(raw, dict):
        problems.add((), "must be `key: value` lines")
        raise ConfigError(problems.texts())
    for key, text in _refused(raw, programs=programs):
        problems.add(key, text)
    if problems.texts():
        raise ConfigError(problems.texts())
    return raw, problems


def _refused(raw: Mapping[str, object], *, programs: bool) -> Iterator[tuple[Key, str]]:
    own = "can't come from a repository: it belongs into the device's own file"
    for name, value in raw.items():
        if name == "update" and isinstance(value, dict):
            yield from ((("update", key), own) for key in value if key not in OF_UPDATE)
        elif name not in SECTIONS:
            yield (name,), own
    for key, value in _items(raw, ()):
        last = key[-1]
        if (last in PROGRAMS or (last, value) == ("type", "command")) and not programs:
            yield key, "names a program to run, which a repository may do only with update.config_programs: true"
        if isinstance(value, str) and (why := _refused_text(str(last), value)):
            yield key, why


def _refused_text(name: str, text: str) -> str:
    if ENV.search(text):
        return "a variable can't be used here: secrets are stated in the device's own file"
    if "://" in text and "@" in text and without_credentials(text).partition("?")[0] != text.partition("?")[0]:
        return "an address with a password can't come from a repository: state it in the device's own file"
    parts = Path(text.removeprefix("file://")).parts
    is_path = name in _PATHS or (name == "url" and (text.startswith("file://") or "://" not in text))
    if is_path and (text.startswith("~") or parts[:1] == ("/",) or ".." in parts):
        return "must be a path below the folder of the device's own file"
    if name in _DEVICES and "/" in text and (parts[:2] != ("/", "dev") or ".." in parts):
        return "must be a path below /dev"
    return ""


def _items(value: object, key: Key) -> Iterator[tuple[Key, object]]:
    """All values below a key, with theirs."""
    pairs: Sequence[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for name, item in pairs:
        yield (*key, name), item
        yield from _items(item, (*key, name))


def merge(own: object, layers: Sequence[Layer], problems: Problems, *, programs: bool) -> Merged:
    """Merges layers, and the values of the device's own file over them.

    Args:
        own: values of that file.
        layers: in their order; the last one wins.
        problems: of the device's own file; gets the lines of the layers.
        programs: whether layers may name programs to run.

    Raises:
        ConfigError: a layer can't be used.
    """
    below: dict[str, object] = {}
    lines: dict[Key, tuple[int, Path]] = {}
    written: dict[Key, str] = {}
    for layer in layers:
        raw, found = read_layer(layer, programs=programs)
        below = _over(below, raw)
        lines |= {key: (line, found.path) for key, line in found.lines.items()}
        written |= found.written
    if not isinstance(own, dict):
        return Merged(own)
    own, unused = without_unused(own, below)
    for key in lines.keys() - problems.lines.keys():
        problems.lines[key], problems.origins[key] = lines[key]
    problems.written.update({key: text for key, text in written.items() if key not in problems.written})
    overridden = [dotted(key) for key, value in _items(own, ()) if _differs(value, below, key)]
    return Merged(_over(below, own), tuple(overridden[:MAX_SHOWN]), tuple(unused[:MAX_SHOWN]))


def _over(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    """One map over another."""
    found = dict(lower)
    for name, value in upper.items():
        before = found.get(name)
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict) and isinstance(before, dict) and _same_type(before, value):
            found[name] = _over(before, value)
        else:
            found[name] = value
    return found


def _same_type(lower: Mapping[str, object], upper: Mapping[str, object]) -> bool:
    return "type" not in upper or lower.get("type", upper["type"]) == upper["type"]


def _differs(value: object, below: object, key: Key) -> bool:
    for name in key:
        if not isinstance(below, dict) or name not in below:
            return False
        below = below[str(name)]
    return not isinstance(value, dict) and value != below


def without_unused(own: Mapping[str, object], below: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Leaves out entries that only complete an entry of the repository, where the repository has none of that name.

    Those are pipelines without `source.type`, and models without `path`.

    Args:
        own: values of the device's own file.
        below: those of the repository; empty as long as there are none.

    Returns:
        The values without these entries, and their keys.
    """
    found, unused = dict(own), list[str]()
    for section, complete in (("pipelines", _is_pipeline), ("models", _is_model)):
        entries, others = own.get(section), below.get(section)
        if not isinstance(entries, dict):
            continue
        known = others if isinstance(others, dict) else {}
        left_out = [name for name, value in entries.items() if name not in known and not complete(value)]
        found[section] = {name: value for name, value in entries.items() if name not in left_out}
        unused += [f"{section}.{name}" for name in left_out]
    return found, unused


def _is_pipeline(value: object) -> bool:
    source = value.get("source") if isinstance(value, dict) else None
    return isinstance(source, dict) and "type" in source


def _is_model(value: object) -> bool:
    return isinstance(value, dict) and "path" in value
