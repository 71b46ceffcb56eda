import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import __version__, cli
from edge_agent.commands import schema
from edge_agent.errors import ConfigError, EdgeAgentError, InputError, MissingExtraError, ModelError, SourceError
from edge_agent.models.shipped import shipped
from tests.broker import wait_until
from tests.command_line import command, edge_agent, environment

COMMANDS = ("run", "check", "predict", "inspect", "bench", "demo", "doctor", "watch", "models", "schema")
# What makes a command slow to start, or big.
HEAVY = {"numpy", "cv2", "paho", "amqtt", "rich", "ai_edge_litert", "tflite_runtime", "onnxruntime", "urllib3"}


def imported(*arguments: str | Path, cwd: Path, code: int = 0) -> set[str]:
    """The packages that a command imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *command(*arguments)[1:]],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert imported(*arguments, cwd=tmp_path) & (HEAVY | {"pydantic", "yaml", "multiprocessing"}) == set()


def test_checking_a_file_without_models_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("device_id: porch\n")
    assert imported("check", "-c", "agent.yaml", cwd=tmp_path, code=2) & HEAVY == set()


def test_schema_imports_nothing_heavy(tmp_path: Path) -> None:
    assert imported("schema", cwd=tmp_path) & HEAVY == set()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n    {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: edge-agent {name}" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"edge-agent {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["predict"],
        ["predict", "digits"],
        ["inspect"],
        ["models"],
        ["models", "fly"],
        ["models", "pull"],
        ["schema", "extra"],
        ["check", "-c"],
        ["check", "-c", "x", "--jsn"],
        ["predict", "digits", "x.jpg", "--top-k", "0"],
        ["predict", "digits", "x.jpg", "--top-k", "-1"],
        ["predict", "digits", "x.jpg", "--top-k", "abc"],
        ["predict", "digits", "x.jpg", "--top-k", "1.5"],
        ["predict", "digits", "x.jpg", "--top-k", "1001"],
        ["predict", "digits", "x.jpg", "--min-confidence", "2"],
        ["predict", "digits", "x.jpg", "--min-confidence", "-0.1"],
        ["predict", "digits", "x.jpg", "--min-confidence", "nan"],
        ["predict", "digits", "x.jpg", "--normalize", "zero"],
        ["demo", "--seconds", "-1"],
        ["demo", "--seconds", "inf"],
        ["bench", "digits", "--seconds", "nan"],
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "usage: edge-agent" in err
    assert "error: " in err.splitlines()[-1]


def test_a_number_out_of_bounds_is_told_with_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "digits", "x.jpg", "--top-k", "0"])
    assert capsys.readouterr().err.endswith("argument --top-k: must be a whole number from 1 to 1000 (got '0')\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["a.yaml:1: x: wrong", "a.yaml:2: y: wrong"]), 2),
        (ModelError("the model: wrong"), 2),
        (MissingExtraError("running .onnx models", "onnx"), 2),
        (InputError("the input: wrong"), 1),
        (SourceError("the source: wrong"), 1),
        (EdgeAgentError("the broker: can't be started"), 1),
        (PermissionError(13, "Permission denied", "outbox.db"), 1),
    ],
)
def test_a_mistake_is_told_in_lines_without_a_traceback_and_exits_by_its_kind(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(schema, "run", fail)
    assert cli.main(["schema"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == (2 if isinstance(error, ConfigError) else 1)
    assert err.splitlines() == str(error).splitlines()


def test_a_message_of_several_lines_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ModelError("first\nsecond \x1b[31m")

    monkeypatch.setattr(schema, "run", fail)
    cli.main(["schema"])
    assert capsys.readouterr().err == "first\\nsecond \\x1b[31m\n"


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(schema, "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["schema"])


@pytest.mark.parametrize(
    "arguments", [["--debug", "check", "-c", "gone.yaml"], ["check", "-c", "gone.yaml", "--debug"]]
)
def test_debug_shows_the_traceback_before_and_behind_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("ConfigError: gone.yaml: can't be read: No such file or directory\n")


def test_without_debug_there_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "-c", "gone.yaml"]) == 2
    assert capsys.readouterr().err == "gone.yaml: can't be read: No such file or directory\n"


def test_ten_mistakes_are_ten_lines_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("".join(f"key{number}: 1\n" for number in range(10)))
    run = edge_agent("check", "-c", "agent.yaml", "--json", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert [line.split(": ")[0] for line in run.stderr.splitlines()] == [f"agent.yaml:{n}" for n in range(1, 11)]


def test_run_without_pipelines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text("device_id: porch\n")
    run = edge_agent("run", "-c", "agent.yaml", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("agent.yaml:1: pipelines: ")


def test_a_reader_that_goes_away_is_no_reason_to_complain(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("schema"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # as `| head -1` does once it has its line, only sooner
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            command("schema"), cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (run.returncode, run.stderr) == (1, b"[Errno 28] No space left on device\n")


def test_labels_and_names_that_the_terminal_can_not_show_do_not_stop_it(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("no image")
    run = edge_agent("predict", "digits", name, cwd=tmp_path, further_environment={"PYTHONIOENCODING": "ascii"})
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("caf\\udce9.txt: not a JPEG, PNG, BMP or WebP image")


def test_ctrl_c_ends_without_a_traceback(tmp_path: Path) -> None:
    image = next(shipped("digits").glob("golden/*.png"))
    inputs = []
    for number in range(2000):
        inputs.append(tmp_path / f"{number}.png")
        inputs[-1].symlink_to(image)
    log = tmp_path / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command("predict", "digits", *inputs * 5), cwd=tmp_path, env=environment(), stdout=out, stderr=out
        ) as process,
    ):
        wait_until(lambda: log.stat().st_size > 0 or process.poll() is not None, 30.0, "first output")
        process.send_signal(signal.SIGINT)
        assert process.wait(30.0) == 1
    assert "Traceback" not in log.read_text()
    assert "KeyboardInterrupt" not in log.read_text()


WITHOUT = """\
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        absent = name.partition(".")[0] in {absent!r}
        return None if absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from edge_agent.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("file", "absent", "says", "package"),
    [
        ("digits.tflite", {"ai_edge_litert", "tflite_runtime"}, "running .tflite models", "ai-edge-litert"),
        ("digits.onnx", {"onnxruntime"}, "running .onnx models", "onnxruntime"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_the_command_that_brings_it(
    file: str, absent: set[str], says: str, package: str, tmp_path: Path
) -> None:
    model = shipped("digits") / file
    image = next(shipped("digits").glob("golden/*.png"))
    for arguments in (
        ["predict", model, image, "--labels", "none", "--normalize", "unit"],
        ["check", "-c", "agent.yaml"],
    ):
        stated = "labels: none, preprocess: {normalize: unit}"
        (tmp_path / "agent.yaml").write_text(f"models: {{m: {{path: '{model}', {stated}}}}}\n")
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT.format(absent=absent), *map(str, arguments)],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stdout) == (2, "")
        (line,) = run.stderr.splitlines()
        assert f"{says} needs a package that is not installed: " in line
        assert re.search(rf"{re.escape(sys.executable)}.* install '{package}>=[0-9.]+'$", line)


def test_a_bundle_runs_in_whichever_runtime_is_there(tmp_path: Path) -> None:
    image = next(shipped("digits").glob("golden/7_*.png"))
    runtimes = set()
    for absent in ({"onnxruntime"}, {"ai_edge_litert", "tflite_runtime"}):
        run = subprocess.run(
            [sys.executable, "-c", WITHOUT.format(absent=absent), "predict", "digits", str(image), "--json"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        (document,) = json.loads(run.stdout)
        assert document["predictions"][0]["label"] == "7"
        runtimes.add(document["model"]["sha256"])
    assert len(runtimes) == 2


def test_the_command_is_installed_under_its_name(tmp_path: Path) -> None:
    installed = shutil.which("edge-agent", path=str(Path(sys.executable).parent))
    if installed is None:
        pytest.skip("edge-agent is not installed in this environment")
    run = subprocess.run([installed, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == f"edge-agent {__version__}\n"
