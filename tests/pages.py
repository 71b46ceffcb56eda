"""README.md, its neighbours and docs/ as a test sees them. How the pages are written for this:

- A ```yaml block that begins with `# agent.yaml` is a configuration (of which the sections that it lacks may stand in
  the file already), one with `# model.yaml` a bundle's manifest, one with `# wrong.yaml` a configuration whose mistakes
  the following ```text block lists.
- In a ```console block, `$ ` begins a command, and what follows is what it prints; `…` stands for anything, numbers may
  differ, and the home folder is /home/pi.
- A ```text block holds messages, one a line.
- The rows of a table of keys begin with the key and its default; the heading above says which part of the file it is.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "recipes").glob("*.md")),
]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
MAKE_TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
# Shorter texts of the program say nothing: they are in any message.
TEMPLATE_MIN_CHARACTERS = 12


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str, start: str = "", page: str = "") -> list[Block]:
    """The blocks of all pages, or of one, that begin so."""
    return [
        block
        for path in PAGES
        for block in _blocks_of(path)
        if block.language == language and block.text.startswith(start) and path.name in (page or path.name)
    ]


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a block and what they print."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def arguments(command: str) -> list[str] | None:
    """What edge-agent is called with; None for any other program."""
    words = shlex.split(command)
    if words[0] == "sudo":
        words = words[3:] if words[1] == "-u" else words[1:]
    while "=" in words[0]:
        words = words[1:]
    return words[1:] if Path(words[0]).name == "edge-agent" else None


def plain(text: str) -> str:
    """Without what differs from machine to machine and day to day: numbers, and how columns are aligned."""
    return re.sub(r"[ \t]+", " ", re.sub(r"\b\d+(\.\d+)*\b", "0", text)).replace("\n ", "\n")


def pattern(shown: str) -> str:
    """A regular expression for plain output; `…` stands for anything, alone in a line for any lines."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in plain(shown).splitlines()]
    return "".join("(?:.*\\n)*?" if line == ".*" else f"{line}\\n" for line in lines)


def headings(page: Path) -> list[str]:
    """The names by which a link finds them."""
    found = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found]


def tables(page: str) -> dict[str, dict[str, str]]:
    """The keys that a page explains, with their defaults, by the part of the file that the heading above names."""
    (path,) = (path for path in PAGES if path.name == page)
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^#+ ", path.read_text(), flags=re.MULTILINE):
        part = ":".join(re.findall(r"`(?:type: )?([\w.]+)`", section.partition("\n")[0]))
        for key, default in re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE):
            rows = found.setdefault(part, {})
            assert key not in rows, f"{part}.{key} stands twice"
            rows[key] = default.strip("`")
    return found


def keys(model: type[BaseModel], part: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """All keys of the settings: the part of the file, the name, the field. A key that only holds others is left out."""
    kind = f":{get_args(model.model_fields['type'].annotation)[0]}" if "type" in model.model_fields else ""
    for field_name, field in model.model_fields.items():
        name = field.alias or field_name
        inner, annotation = f"{part}.{name}".strip("."), field.annotation
        if get_origin(annotation) is dict:
            inner, annotation = f"{inner}.NAME", get_args(annotation)[1]
        if get_origin(annotation) is tuple and isinstance(get_args(annotation)[0], type(BaseModel)):
            inner, annotation = f"{inner}.N", get_args(annotation)[0]
        values = [value for value in _alternatives(annotation) if value is not type(None)]
        nested = [value for value in values if isinstance(value, type) and issubclass(value, BaseModel)]
        for value in nested:
            yield from keys(value, inner)
        if name != "type" and len(nested) < len(values):
            yield part + kind, name, field


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in get_args(annotation) for value in _alternatives(part)]
    return [annotation]


def share_of_known_words(message: str) -> float:
    """How much of a message, 0 to 1, is text that stands in the program."""
    known = [False] * len(message)
    for parts in _templates():
        if match := re.search(".*?".join(f"({re.escape(part)})" for part in parts if part), message):
            for start, end in match.regs[1:]:
                known[start:end] = [True] * (end - start)
    return sum(known) / len(message)


@cache
def _templates() -> list[list[str]]:
    """The texts of the program, each as the parts that stand between the values that are filled in."""
    found = []
    for file in (ROOT / "edge_agent").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
        left_out = {id(part) for node in joined for part in node.values}
        left_out |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
        found += [[str(part.value) for part in node.values if isinstance(part, ast.Constant)] for node in joined]
        found += [
            re.split(r"%(?:s|d|r|g|\.\d+f)|\{\w*\}", node.value)
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out
        ]
    return [parts for parts in found if sum(map(len, parts)) >= TEMPLATE_MIN_CHARACTERS]
