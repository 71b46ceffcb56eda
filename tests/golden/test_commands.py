"""What commands print, against the terminal sessions on record in commands/: one for each command.

A session has these parts, in any order:

    # a comment
    <<< NAME             a file: the lines up to >>> are its content
    >>>
    $ edge-agent …       a command; below it what it prints (an empty line as ".", lines of standard error after "! "),
                         and its exit code, if that is not 0
    $ anything else      run by a shell, in the folder of the files; $MODELS is the folder of the bundled models

Paths, hashes, versions and percentages are replaced by words. To record again what commands print, run
`EDGE_AGENT_RECORD_GOLDEN=. python -m pytest tests/golden/test_commands.py`; new commands are added by hand first.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import cli
from tests.command_line import edge_agent
from tests.golden.golden_files import FOLDER, PROJECT, check

SESSIONS = sorted(file.stem for file in (FOLDER / "commands").glob("*.txt"))
# They set up logging, among other things, for the whole process.
BY_PROCESS = {"run", "doctor"}
# Of a wrong usage only the last line counts: how argparse wraps the others differs between versions of Python.
USAGE = re.compile(r"^(usage:|  ).*\n", re.MULTILINE)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_command_prints_what_is_on_record(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "pulled"))
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", "a passphrase")
    file = Path("commands") / f"{name}.txt"
    lines = iter((FOLDER / file).read_text().splitlines())
    played = "".join(f"{line}\n" for line in play(lines, capsys))
    check(str(file), played)


def play(lines: Iterator[str], capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """The lines of a session, with what commands print now in place of what they printed when it was recorded."""
    for line in lines:
        if line.startswith("<<< "):
            yield line
            content = list(iter(lines.__next__, ">>>"))
            Path(line.removeprefix("<<< ")).write_text("".join(f"{one}\n" for one in content))
            yield from content
            yield ">>>"
        elif line.startswith("$ edge-agent "):
            yield line
            yield from printed(line.removeprefix("$ edge-agent "), capsys)
        elif line.startswith("$ "):
            yield line
            variables = os.environ | {"MODELS": str(PROJECT / "models")}
            subprocess.run(line.removeprefix("$ "), shell=True, check=True, env=variables)
        elif not line or line.startswith("#"):
            yield line


def printed(arguments: str, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    if arguments.partition(" ")[0] in BY_PROCESS:
        run = edge_agent(*shlex.split(arguments), cwd=Path())
        code, out, err = run.returncode, run.stdout, run.stderr
    else:
        try:
            code = cli.main(shlex.split(arguments))
        except SystemExit as wrong_usage:
            code = int(wrong_usage.code or 0)
        out, err = capsys.readouterr()
    yield from (line or "." for line in plain(out).splitlines())
    yield from (f"! {line}" for line in plain(USAGE.sub("", err)).splitlines())
    if code:
        yield f"exit code {code}"


def plain(text: str) -> str:
    """A text with what differs between machines and versions replaced."""
    for pattern, word in (
        (re.escape(str(Path.cwd())), "FOLDER"),
        (re.escape(str(PROJECT / "models")), "MODELS"),
        (r"\b[0-9a-f]{12}\b", "SHA256"),
        (r"\b(LiteRT|ONNX Runtime|edge-agent) \d+\.\d+\.\d+", r"\1 VERSION"),
        (r"[ \d]\d\.\d\d%", "NN.NN%"),
        (r"engines: \d+, threads: \d+.*", "TUNING"),
    ):
        text = re.sub(pattern, word, text)
    return text
