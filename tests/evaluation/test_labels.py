"""Which class of a model a label of the data means."""

from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labels import Matching, read_mapping

IMAGENET = ("background", "tench, Tinca tinca", "crane", "white wolf, Arctic wolf", "crane", "sea_lion", "wolf spider")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("tench, Tinca tinca", "tench, tinca tinca"),
        ("tench", "tench, tinca tinca"),
        ("TINCA_TINCA", "tench, tinca tinca"),
        ("n01440764_tench", "tench, tinca tinca"),
        ("Arctic wolf", "white wolf, arctic wolf"),
        ("sea lion", "sea lion"),
        ("tench, something else", "tench, tinca tinca"),
    ],
)
def test_a_label_is_matched_by_name_and_by_synonym(label: str, name: str) -> None:
    assert Matching(IMAGENET, {}).resolve([label]) == {label: name}


def test_labels_of_folders_called_by_synset_are_matched() -> None:
    known = ("n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus")
    found = Matching(known, {}).resolve(["n01440764", "n01443537", "goldfish"])
    assert list(found.values()) == [known[0].lower(), known[1].lower(), known[1].lower()]


def test_a_label_that_means_two_classes_is_an_error_until_it_is_stated() -> None:
    with pytest.raises(ConfigError, match=r"2 'crane', 4 'crane'"):
        Matching(IMAGENET, {}).resolve(["crane"])
    matching = Matching(IMAGENET, {"crane": "4"})
    assert matching.resolve(["crane"]) == {"crane": "crane 4"}
    assert matching.key("crane", 4) == "crane 4"


def test_labels_that_are_not_found_are_an_error_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        Matching(IMAGENET, {}).resolve(["wolff", "tench", "xyz"])
    assert len(caught.value.problems) == 2
    assert "'white wolf, Arctic wolf'" in caught.value.problems[0] or "'wolf spider'" in caught.value.problems[0]


def test_a_mapping_is_stated_and_may_leave_labels_out(tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text("wolf: white wolf\nother:\n")
    assert Matching(IMAGENET, read_mapping(file)).resolve(["wolf", "other"]) == {
        "wolf": "white wolf, arctic wolf",
        "other": None,
    }


@pytest.mark.parametrize("text", ["- a\n", "a: [b]\n", "a: {b: c}\n", "a: b\na: c\n"])
def test_a_mistake_in_a_mapping_has_its_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "map.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"^{file}:\d+: "):
        read_mapping(file)


def test_classes_without_names_are_matched_by_number() -> None:
    matching = Matching((), {})
    assert matching.resolve(["7", "Face"]) == {"7": "7", "Face": "face"}
    assert (matching.key(None, 7), matching.key("face", 0)) == ("7", "face")


def test_names_that_only_predictions_show_are_checked_at_the_end() -> None:
    matching = Matching((), {})
    keys = list(matching.resolve(["cat", "dog"]).values())
    matching.key(None, 3)
    with pytest.raises(ConfigError, match=r"'3'.*'cat'.*--map"):
        matching.check_seen(key for key in keys if key)
    stated = Matching((), {"cat": "3", "dog": None})
    keys = list(stated.resolve(["cat", "dog"]).values())
    stated.key(None, 3)
    stated.check_seen(key for key in keys if key)
