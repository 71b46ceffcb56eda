"""Makes clauses as `edge_agent.language.intents` hands them to the model, with what each of them means.

Places, articles and courtesies are left out there, and names and numbers are marks, so that none can mislead the model.
See frames.txt.
"""

import random
import re
from pathlib import Path

from edge_agent.language.intents.clauses import PREFIX
from edge_agent.language.intents.lexicon import FILLERS

LABELS = (
    "turn_on", "turn_off", "open", "close", "lock", "unlock", "set", "adjust", "state", "read", "timer",
    "negated", "none",
)  # fmt: skip
WEIGHTS = (10, 10, 7, 7, 5, 5, 9, 8, 12, 8, 5, 14, 26)
ACTIONS = LABELS[:8]
TIMED = 0.35
"""Share of actions with a time."""
UNKNOWN = 0.16
"""Share of actions with what is no known device: they are recognized all the same, and refused for that."""
ELSEWHERE = 0.08
"""Share of actions in what is no known place; see `UNKNOWN`."""


def _frames() -> dict[str, tuple[str, ...]]:
    """By what they are for."""
    found, kind = dict[str, list[str]](), ""
    for line in Path(__file__).with_name("frames.txt").read_text(encoding="utf-8").splitlines()[2:]:
        if line.startswith("# "):
            kind = line.removeprefix("# ")
            found[kind] = []
        elif line:
            found[kind].append(line)
    return {kind: tuple(frames) for kind, frames in found.items()}


FRAMES = _frames()
LEADS = ("",) * 10 + FRAMES["before actions"]
TAILS = ("",) * 12 + FRAMES["after actions"]


def clause(chance: random.Random) -> tuple[str, str]:
    """A prompt, and its label."""
    label = chance.choices(LABELS, WEIGHTS)[0]
    if label == "negated":
        text = _negated(chance)
    else:
        text = _filled(chance, chance.choice(FRAMES[label]))
        if label in ACTIONS and chance.random() < UNKNOWN:
            text = re.sub("[@%=]", chance.choice(("?", "?", "? ?", "? @", "? %")), text)
        if label in ACTIONS and chance.random() < ELSEWHERE and re.search("[@%=]", text):
            text = f"{text} {chance.choice(('in', 'on', 'at', 'by'))} ?" if chance.random() < 0.8 else f"in ? {text}"
        if label in ACTIONS and chance.random() < TIMED:
            text = f"~ {text}" if chance.random() < 0.3 else f"{text} ~"
        if label in ACTIONS:
            text = f"{chance.choice(LEADS)} {text} {chance.choice(TAILS)}"
        elif label in ("state", "read", "timer") and chance.random() < 0.3:
            text = f"{text} {chance.choice(TAILS)}"
    text = text.replace("=", chance.choice("@%"))
    text = " ".join(word for word in text.split() if word not in FILLERS)
    if label not in ("none", "timer") and chance.random() < 0.05:
        text = text.replace("@", "@ @").replace("%", "% %")
    return PREFIX + " ".join(text.split()), label


def vocabulary() -> list[str]:
    """Every word of the frames, sorted."""
    texts = " ".join(frame for frames in FRAMES.values() for frame in frames)
    return sorted(set(re.findall("[a-z]+", texts.replace("open(|ed)", "open opened"))))


def _negated(chance: random.Random) -> str:
    if chance.random() < 0.35:
        return _filled(chance, chance.choice(FRAMES["negated"]))
    inner = _filled(chance, chance.choice(FRAMES[chance.choice(ACTIONS)]))
    if chance.random() < 0.3:
        inner += " ~"
    return _filled(chance, chance.choice(FRAMES["around actions that are not to be done"])).format(inner)


def _filled(chance: random.Random, frame: str) -> str:
    return re.sub(r"\(([^()]*)\)", lambda found: chance.choice(found[1].split("|")), frame)
