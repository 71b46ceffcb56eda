"""A value of a configuration file is changed, and nothing else in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config.editing import EditError, FileEdit, flow, with_value
from edge_agent.errors import ConfigError

ZONE = [[0.1, 0.2], [0.5, 0.2], [0.5, 0.9]]
DOOR = ("pipelines", "yard", "filters", "zones", "door")
FILE = """\
# The yard.
device_id: porch-pi   # as in the list
pipelines:
  yard:   # at the door
    source: {type: camera, device: 0}
    model: objects
    # what counts
    filters:
      labels: [person]   # nobody else
      zones:
        gate: [[0, 0], [1, 0], [1, 1]]   # the old one
        # the end of the zones

  lab: {source: {type: mqtt, topic: lab}, model: objects}
# the end
"""


def values(text: str) -> Any:
    return yaml.safe_load(text)


def test_a_value_is_added_and_all_comments_stay() -> None:
    changed = with_value(FILE, DOOR, ZONE)
    assert set(FILE.splitlines()) < set(changed.splitlines())
    assert len(changed.splitlines()) == len(FILE.splitlines()) + 1
    assert values(changed)["pipelines"]["yard"]["filters"]["zones"]["door"] == ZONE


def test_a_value_is_replaced_and_the_comment_beside_it_stays() -> None:
    changed = with_value(FILE, (*DOOR[:-1], "gate"), ZONE)
    assert "gate: [[0.1, 0.2], [0.5, 0.2], [0.5, 0.9]]   # the old one\n" in changed
    assert with_value(changed, (*DOOR[:-1], "gate"), [[0, 0], [1, 0], [1, 1]]) == FILE


def test_what_is_added_and_removed_again_leaves_the_file_as_it_was() -> None:
    assert with_value(with_value(FILE, DOOR, ZONE), DOOR, None) == FILE
    assert with_value(FILE, DOOR, None) == FILE
    assert with_value(FILE, ("pipelines", "yard", "keep", "mask"), None) == FILE


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", ("a", "b")),
        ("# only a comment\n", ("a",)),
        ("a: 1", ("b",)),
        ("a: {}\n", ("a", "b", "c")),
        ("a: {x: 1}\n", ("a", "b", "c")),
        ("a: {x: 1, b: {c: 2}}\n", ("a", "b", "c")),
        ("a:\n  b:\n", ("a", "b", "c")),
        ("a:\n  b:\n  d: 1\n", ("a", "b")),
        ("a:\n  b: |\n    text\n    more\n  d: 1\n", ("a", "b")),
        ("a:\n  x: |\n    text\n", ("a", "b")),
        ("a:\n  b:\n    - 1\n    - 2\n  # comment\n  d: 1\n", ("a", "b")),
        ("a:\n  b: [1,\n      2]\n  d: 1\n", ("a", "b")),
        ("a:\n    b: 'x'\nc: 1\n", ("a", "q", "r", "s")),
        ("a:\r\n  b: 1\r\nc: 2\r\n", ("a", "d")),
        ("a: {b: 1, c: 2}\n", ("a", "b")),
        ('"a": {"b": 1}\n', ("a", "b")),
        ("ü: {ö: 1}\na: 1\n", ("ü", "b")),
    ],
)
def test_any_way_to_write_a_mapping_takes_a_value_and_loses_it_again(text: str, key: tuple[str, ...]) -> None:
    changed = with_value(text, key, ZONE)
    found = values(changed)
    for name in key:
        found = found[name]
    assert found == ZONE
    assert [line for line in text.splitlines() if "#" in line] == [one for one in changed.splitlines() if "#" in one]
    removed = values(with_value(changed, key, None))
    for name in key[:-1]:
        removed = removed[name]
    assert key[-1] not in (removed or {})


@pytest.mark.parametrize(
    "text",
    [
        "base: &b {x: 1}\na: *b\n",
        "base: &b {x: 1}\na:\n  <<: *b\n  x: 2\nc: &c 1\nd: *c\n",
        "a: {x: 1\n",
        "a: 1\na: 2\n",
        "- 1\n- 2\n",
        "a: [b]\n---\nc: 1\n",
    ],
)
def test_what_can_not_be_changed_safely_is_left_to_the_owner(text: str) -> None:
    try:
        changed = with_value(text, ("a", "b"), ZONE)
    except EditError:
        return
    assert values(changed)["base"] == values(text)["base"]
    assert values(changed)["a"] == values(text)["a"] | {"b": ZONE}


@pytest.mark.parametrize(
    "name",
    [
        "a: b",
        "x]}\nmqtt: {url: evil}",
        "'",
        '"',
        "# no",
        "*x",
        "&x",
        "!!python/object",
        "{{",
        "é",
        "- a",
        "yes",
        "1",
        " ",
    ],
)
def test_a_name_is_a_name_whatever_is_in_it(name: str) -> None:
    for text in (FILE, "pipelines: {yard: {filters: {zones: {}}}}\n"):
        changed = with_value(text, (*DOOR[:-1], name), ZONE)
        document = yaml.load(changed, Loader=yaml.BaseLoader)
        zones = document["pipelines"]["yard"]["filters"].pop("zones")
        assert name in zones
        assert document.keys() == values(text).keys()
    assert yaml.load(flow({name: 1}), Loader=yaml.BaseLoader) == {name: "1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(FILE + "mqtt: {url: 'mqtt://127.0.0.1'}\nmodels: {objects: {path: m.tflite}}\n")
    path.chmod(0o640)
    return path


def test_a_change_is_checked_before_it_is_written_and_can_be_taken_back(file: Path) -> None:
    before = file.read_text()
    edit = FileEdit(file, [(DOOR, ZONE)])
    assert file.read_text() == before
    edit.write()
    assert "door: " in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    edit.take_back()
    assert file.read_text() == before
    assert [one.name for one in file.parent.iterdir()] == ["agent.yaml"]


def test_a_change_that_makes_no_valid_configuration_is_refused_with_the_place(file: Path) -> None:
    before = file.read_text()
    with pytest.raises(ConfigError, match=r"agent.yaml:12: pipelines.yard.filters.zones.door: needs corners"):
        FileEdit(file, [(DOOR, [[0, 0], [0, 0], [0, 0]])])
    assert (file.read_text(), len(list(file.parent.iterdir()))) == (before, 1)


def test_what_somebody_else_has_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    edit = FileEdit(file, [(DOOR, ZONE)])
    file.write_text("# mine\n")
    with pytest.raises(EditError, match="somebody else"):
        edit.write()
    assert file.read_text() == "# mine\n"
