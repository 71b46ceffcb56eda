"""The table of decoder families in docs/models.md, made of `families.FAMILIES` and the docstrings of their modules."""

import re
import sys

from edge_agent.decoders.families import FAMILIES, Family

HEAD = ("decoder", "outputs of", "task", "source")
CLASSIFICATION = ("`classification`", "classifiers: one score per class", "classification", "")


def table() -> str:
    """As Markdown, a line for each family."""
    rows = [(f"`{name}`", family.models, family.task, sources(family)) for name, family in FAMILIES.items()]
    head, *body = ("".join(f"| {value} " if value else "| " for value in row) for row in [HEAD, CLASSIFICATION, *rows])
    return "".join(f"{line}|\n" for line in [head, "|---" * len(HEAD), *body])


def sources(family: Family) -> str:
    """Links to what the module of a family names as its sources, each repository once."""
    text = sys.modules[family.recognise.__module__].__doc__ or ""
    links: dict[str, str] = {}
    for url in re.findall(r"https://[^\s,;()]+", text):
        host, *parts = url.rstrip(".:").removeprefix("https://").split("/")
        links.setdefault("/".join(parts[:2]) if host == "github.com" else host, url.rstrip(".:"))
    return ", ".join(f"[{name}]({url})" for name, url in links.items())
