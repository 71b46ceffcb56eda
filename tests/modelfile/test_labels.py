from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.modelfile.labels import MAX_CLASS, check_count, read_labels


def labels(folder: Path, content: str | bytes) -> tuple[str, ...]:
    path = folder / "labels.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\r\ndog\r\n", ("cat", "dog")),
        ("cat\rdog", ("cat", "dog")),
        ("  cat \n\tdog", ("cat", "dog")),
        ("cat\n\ndog\n", ("cat", "", "dog")),
        ("cat\ndog\n\n\n  \n", ("cat", "dog")),
        ("\ufeffküche\n猫\n", ("küche", "猫")),
        ("", ()),
        (" \n\n", ()),
        ("one\u2028line\nanother\x0bline\n", ("one\u2028line", "another\x0bline")),
        ("Kentucky, U.S.\n", ("Kentucky, U.S.",)),
    ],
)
def test_there_is_one_label_a_line(content: str, read: tuple[str, ...], tmp_path: Path) -> None:
    assert labels(tmp_path, content) == read


@pytest.mark.parametrize(
    "content",
    ["0 cat\n1 big dog\n", "0: cat\n1: big dog\n", "0\tcat\n1\tbig dog\n", "0,cat\n1,big dog\n", "0  cat\n1  big dog"],
)
def test_the_numbers_of_a_numbered_list_are_no_part_of_the_labels(content: str, tmp_path: Path) -> None:
    assert labels(tmp_path, content) == ("cat", "big dog")


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("0 cat\n2 dog\n", ("cat", "1", "dog")),
        ("1 cat\n2 dog\n", ("0", "cat", "dog")),
        ("2 dog\n0 cat\n", ("cat", "1", "dog")),
        ("0  n/a\n1  n/a\n2  cat\n", ("n/a", "n/a", "cat")),
        ("0 ???\n\n3 cat\n", ("???", "1", "2", "cat")),
        ("\ufeff16  cat\r\n17  dog\r\n", (*map(str, range(16)), "cat", "dog")),
    ],
)
def test_the_numbers_of_a_list_with_gaps_are_those_of_the_classes(
    content: str, read: tuple[str, ...], tmp_path: Path
) -> None:
    assert labels(tmp_path, content) == read


@pytest.mark.parametrize(
    "content",
    [
        "0\n1\n2\n",
        "5 euro\n10 euro\n",
        "1 euro\n1 cent\n",
        "0 cat\ndog\n",
        "0cat\n1dog\n",
        f"{'9' * 5000} x\n",
        "100000 x\n",
    ],
)
def test_numbers_that_count_no_classes_are_part_of_the_labels(content: str, tmp_path: Path) -> None:
    assert labels(tmp_path, content) == tuple(content.splitlines())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9\n", "not text in UTF-8: expected a text file in UTF-8, one label a line"),
        ("cat\n".encode("utf-16"), "not text in UTF-8: expected a text file in UTF-8, one label a line"),
        (b"x\n" * 2_500_000, "larger than 4000000 bytes: expected a text file in UTF-8, one label a line"),
        (b"\xff" * 5_000_000, "larger than 4000000 bytes: expected a text file in UTF-8, one label a line"),
    ],
)
def test_what_is_no_label_file_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        labels(tmp_path, content)
    assert str(caught.value) == f"labels {tmp_path}/labels.txt: {says}"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.txt", "No such file or directory"),
        (".", "Is a directory"),
        ("a\0b", "embedded null byte"),
        ("x" * 300, "File"),
    ],
)
def test_a_label_file_that_can_not_be_read_is_refused(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"can't be read: {says}"):
        read_labels(tmp_path / name)


@given(content=st.binary(max_size=100))
def test_any_bytes_are_labels_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        content.decode()
    except UnicodeDecodeError:
        with pytest.raises(ModelError, match="not text in UTF-8"):
            labels(folder, content)
    else:
        assert len(labels(folder, content)) <= max(len(content), MAX_CLASS + 1)


def test_as_many_labels_as_classes_are_right() -> None:
    check_count(["a", "b"], 2, "labels.txt")


@pytest.mark.parametrize(
    ("labels", "classes", "hint"),
    [
        (["0", "cat", "dog"], 2, ": its numbers begin at 1: number its lines from 0, or remove the numbers"),
        (
            ["person", "1", "2", "cat"],
            2,
            ": its numbers go up to 3: if its lines are in the order of the classes, remove them",
        ),
        (["0", "1", "2", "3"], 2, ""),
        (
            ["x"] * 80,
            90,
            ": COCO numbers its 80 classes up to 90, with gaps: give the list that has a line for each number",
        ),
    ],
)
def test_a_numbered_list_of_another_number_is_refused_with_its_numbers(
    labels: list[str], classes: int, hint: str
) -> None:
    with pytest.raises(ModelError) as caught:
        check_count(labels, classes, "names.txt")
    assert str(caught.value) == f"labels names.txt: {len(labels)} labels for {classes} classes{hint}"


@pytest.mark.parametrize(
    ("count", "hint"),
    [
        (4, ": if the first line ('background') is a background class, this model has none: remove the line"),
        (2, ": if class 0 is a background class, put a first line `background` into the file"),
        (5, ""),
        (0, ""),
    ],
)
def test_another_number_is_refused_with_what_is_likely_the_matter(count: int, hint: str) -> None:
    labels = ["background", "a", "b", "c", "d"][:count]
    with pytest.raises(ModelError) as caught:
        check_count(labels, 3, "names.txt")
    assert str(caught.value) == f"labels names.txt: {count} labels for 3 classes{hint}"
