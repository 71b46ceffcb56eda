"""`init`: asks a few questions, shows what is there, and writes a commented configuration file."""

import argparse
import getpass
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.argument_types import Subparsers
from edge_agent.errors import ConfigError, EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.setup.draft import Draft
    from edge_agent.setup.found import Input, KnownModel

NAME = re.compile(r"[^a-z0-9-]{1,64}")
DETECTORS = ("detection", "pose", "segmentation")


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command and its arguments."""
    parser = subparsers.add_parser("init", help="ask a few questions and write a first agent.yaml")
    parser.add_argument("-o", "--out", type=Path, default=Path("agent.yaml"), metavar="FILE", help="file to write")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Asks, and writes the file; returns 0, or 1 if the questions were not answered.

    Raises:
        ConfigError: the file exists, or an answer can't be used.
    """
    from edge_agent.setup import draft as drafts

    path: Path = args.out
    if path.exists() and not args.force:
        raise ConfigError([f"{path}: exists already: state another file with -o, or --force"])
    try:
        draft = _ask_all(path.parent)
    except EOFError:
        print("\nno answer: nothing was written", file=sys.stderr)
        return 1
    drafts.write(draft, path, force=args.force)
    print(f"\n{path} is written. Next:\n  edge-agent check -c {path}\n  edge-agent run -c {path}")
    if draft.listen:
        host, _, port = draft.listen.rpartition(":")
        shown = f"{socket.gethostname()}.local" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound
        password = f"  (password: the first line of {draft.token_file})" if draft.token_file else ""
        print(f"and open http://{shown}:{port}/{password}")
    return 0


def _ask_all(folder: Path) -> "Draft":
    from edge_agent.setup.draft import Draft

    own = NAME.sub("-", socket.gethostname().lower()).strip("-") or "device"
    print("An empty answer takes what stands in brackets.\n")
    device = _ask("Name of this device", own)
    broker = _ask("Address of the MQTT broker", "mqtt://localhost")
    username = _ask("User name there, if it wants one", "")
    password_file = _password(folder) if username else ""
    chosen = _input()
    pipeline = {} if chosen is None else _pipeline(chosen)
    home_assistant = _yes("Show it in Home Assistant")
    listen, token_file = _page(folder, needed=chosen is None)
    return Draft(
        device_id=device,
        broker=broker,
        username=username,
        password_file=password_file,
        home_assistant=home_assistant,
        listen=listen,
        token_file=token_file,
        **pipeline,
    )


def _pipeline(chosen: "Input") -> dict[str, Any]:
    """What the draft says of the pipeline."""
    model = _model(chosen)
    task = "" if isinstance(model, str) else model.task
    return {
        "source": chosen.source,
        "model": model if isinstance(model, str) else model.name,
        "task": task,
        "labels": _labels() if task in DETECTORS else (),
        "pipeline": _ask("Name of the pipeline, such as the place", "main" if chosen.takes == "readings" else "yard"),
    }


def _ask(question: str, default: str) -> str:
    return input(f"{question} [{default or 'none'}]: ").strip() or default


def _yes(question: str) -> bool:
    return input(f"{question}? [Y/n]: ").strip().lower() in ("", "y", "yes")


def _choose(question: str, titles: Sequence[str]) -> int:
    """The index of the chosen line; asks again after anything that is no number of one."""
    for number, title in enumerate(titles, 1):
        print(f"  {number:2}  {title}")
    while True:
        answer = input(f"{question} [1]: ").strip() or "1"
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(titles):
            return int(answer) - 1
        print(f"  a number from 1 to {len(titles)}")


def _input() -> "Input | None":
    """What gives the inputs; None if that is to be chosen on the page."""
    from edge_agent.setup import found

    inputs = [*found.cameras(), *found.microphones()]
    print("\nWhere do its inputs come from?")
    others = (
        "a network camera (rtsp:// or http://)",
        "pictures over MQTT",
        "readings over MQTT",
        "to be chosen in the browser, with pictures of the cameras",
    )
    at = _choose("Input", [*(one.title for one in inputs), *others])
    if at < len(inputs):
        return inputs[at]
    match at - len(inputs):
        case 0:
            url = _ask("Address of the camera", "rtsp://camera.lan/stream")
            return found.Input("network camera", "pictures", {"type": "video", "url": url, "fps": 5})
        case 1:
            topic = _ask("Topic of the pictures", "lab/images")
            return found.Input("pictures", "pictures", {"type": "mqtt", "topic": topic})
        case 2:
            topic = _ask("Topic of the readings", "lab/readings")
            return found.Input("readings", "readings", {"type": "mqtt", "topic": topic})
    return None


def _model(chosen: "Input") -> "KnownModel | str":
    """The model, which is pulled if it is not here; or the path of a file."""
    from edge_agent.models import registry
    from edge_agent.setup import found

    known = found.models(chosen.takes)
    print(f"\nWhich model? Those for {chosen.takes}, with size and licence:")
    titles = [
        f"{one.name:24} {one.task:15} {one.size / 1e6:6.1f} MB  {one.licence:12} {'here' if one.here else ''}"
        for one in known
    ]
    at = _choose("Model", [*titles, "a file of your own"])
    if at == len(known):
        return str(Path(_ask("Path of the .tflite or .onnx file", "model.tflite")).absolute())
    model = known[at]
    if not model.here and _yes(f"Download {model.name}, {model.size / 1e6:.1f} MB"):
        try:
            registry.pull(model.name, registry.models_dir())
        except EdgeAgentError as error:
            print(f"  {error}\n  later: edge-agent models pull {model.name}")
    return model


def _labels() -> tuple[str, ...]:
    answer = _ask("\nWhat matters? Labels, with commas between; * for all", "person")
    return () if answer == "*" else tuple(label.strip() for label in answer.split(",") if label.strip())


def _password(folder: Path) -> str:
    from edge_agent.setup.draft import write_private

    ask = getpass.getpass if sys.stdin.isatty() else input
    write_private(folder / "broker-password", ask("Password there: ") + "\n")
    return "broker-password"


def _page(folder: Path, *, needed: bool) -> tuple[str, str]:
    """Address of the page, and the file with its password, which is made."""
    from edge_agent.setup.draft import write_private

    print("\nA page in the browser shows pictures and events.")
    choices = ["everybody in this network who knows its password", "this machine only", "nobody"]
    at = _choose("Who may open it", choices[:2] if needed else choices)
    if at == 2:  # noqa: PLR2004 - the third line
        return "", ""
    write_private(folder / "page-token", secrets.token_hex(8) + "\n")
    return ("0.0.0.0:8080" if at == 0 else "127.0.0.1:8080"), "page-token"
