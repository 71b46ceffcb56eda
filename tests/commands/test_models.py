import argparse
import errno
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.commands import models
from edge_agent.errors import ConfigError
from edge_agent.models import registry
from edge_agent.models.bundle import MANIFEST
from tests.models.small_registry import MODEL, mirror, pets

__all__ = ["mirror", "pets"]


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="edge-agent")
    models.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["models", *arguments])
    exit_code: int = args.run(args)
    return exit_code


def test_list_says_what_there_is_and_what_is_here(pets: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry.pull("pets", pets, str(mirror))
    assert run("list") == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "TASK", "LICENCE", "SIZE", "HERE", "DESCRIPTION"]
    assert first.split() == ["pets", "classification", "MIT", "300", "kB", "yes", "Cats", "and", "dogs"]
    assert second.split()[:6] == ["digit", "classification", "MIT", "300", "kB", "-"]


def test_list_as_json_is_one_document(pets: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = registry.pull("digit", pets, str(mirror))
    assert run("list", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["path"]) == ("pets", None)
    assert second == {
        "name": "digit",
        "description": "Cats and dogs",
        "task": "classification",
        "licence": "MIT",
        "source": "https://models.invalid/",
        "size": len(MODEL),
        "path": str(folder),
    }


def test_list_begins_with_what_comes_with_edge_agent(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = pets.parent / "shipped" / "digits"
    own.mkdir()
    (own / "digits.tflite").write_bytes(MODEL)
    (own / MANIFEST).write_text(
        "{name: digits, version: '1', task: classification, licence: MIT, files: {tflite: digits.tflite}}"
    )
    assert run("list", "--json") == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["name"], first["licence"], first["size"]) == ("digits", "MIT", len(MODEL))
    assert first["path"] == str(own)


def test_pull_prints_where_the_model_is(pets: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pull", "pets", "--mirror", str(mirror)) == 0
    assert capsys.readouterr().out == f"pets: {pets / 'pets'}\n"
    assert registry.resolve("pets") == pets / "pets"


def test_the_mirror_may_come_from_the_environment_and_the_folder_from_an_option(
    pets: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = pets.parent / "stick"
    monkeypatch.setenv("EDGE_AGENT_MIRROR", str(mirror))
    assert run("pull", "pets", "digit", "--into", str(stick), "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": name, "path": str(stick / name)} for name in ("pets", "digit")
    ]
    assert not pets.exists()


def test_one_model_that_fails_does_not_keep_the_others_from_coming(
    pets: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mirror / "pets" / "pets.txt").unlink()
    assert run("pull", "pets", "digit", "--mirror", str(mirror), "--json") == 1
    printed = capsys.readouterr()
    failed, pulled = json.loads(printed.out)
    assert "no such file" in failed["error"]
    assert f"pets: {failed['error']}\n" in printed.err
    assert pulled == {"name": "digit", "path": str(pets / "digit")}


def test_every_unknown_name_is_reported_before_anything_is_pulled(pets: Path, mirror: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run("pull", "pets", "cats", "digits", "digital", "--mirror", str(mirror))
    first, second = error.value.problems
    assert "'cats'" in first
    assert "'digital'" in second
    assert "did you mean 'digit'?" in second
    assert not pets.exists()


def test_on_a_terminal_a_bar_shows_the_progress(pets: Path, mirror: Path) -> None:
    script = (
        "import argparse, sys; from pathlib import Path; from edge_agent.commands import models;"
        "from edge_agent.models import registry; registry.shipped = Path(sys.argv[1]).joinpath;"
        "sys.exit(models.run(argparse.Namespace(action='pull', names=['pets'], mirror=sys.argv[2], into=None,"
        "json=False)))"
    )
    terminal, child_side = pty.openpty()
    try:
        command = [sys.executable, "-c", script, str(pets.parent / "shipped"), str(mirror)]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
        child = subprocess.Popen(command, stderr=child_side, stdout=subprocess.PIPE, env=environment)
        os.close(child_side)
        shown = b""
        while block := read_or_end(terminal):
            shown += block
        answer, _ = child.communicate(timeout=30)
    finally:
        os.close(terminal)
    assert child.returncode == 0
    assert answer.decode() == f"pets: {pets / 'pets'}\n"
    assert b"300.0/300.0 kB" in shown


def read_or_end(terminal: int) -> bytes:
    """What the other side of a terminal has written; nothing once it has closed it."""
    try:
        return os.read(terminal, 1024)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def test_adding_the_parser_loads_nothing_heavy() -> None:
    script = (
        "import argparse, sys; from edge_agent.commands import models;"
        "models.add_parser(argparse.ArgumentParser().add_subparsers());"
        "assert not {'rich', 'urllib3', 'pydantic', 'yaml', 'numpy'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_long_list_shows_what_was_measured_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--long") == 0
    shown = capsys.readouterr().out
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    measured = rows["mobilenet-v2"]["measured"]
    assert f"{measured['right']}/{measured['of']}  {measured['inputs']}" in shown
    assert f"{measured['ms']:.2f}" in shown
    assert registry.MACHINE in shown
    assert all(name in shown for name in rows)
