"""Measures the model with what the agent runs it with, and writes the rest: model.yaml, the card."""

import argparse
import json
from functools import partial
from pathlib import Path
from string import Template

from models.recipes.llama import bytes_of, packed_weights, write_manifest
from tests.language.typed_commands import UNSEEN, Commands, is_wrong_action, job_of, scores, typed_commands

from .shape import SHAPE

CARD = Path(__file__).with_name("card.md")
THRESHOLDS = (0.0, 0.6, 0.8, 0.9, 0.95, 0.99)
GOLDEN = {
    "intent: turn @ off ~": "turn_off",
    "intent: open %": "open",
    "intent: do not open %": "negated",
    "intent: is % closed": "state",
    "intent: set @ to $": "set",
    "intent: how warm is it": "read",
    "intent: start timer ~": "timer",
    "intent: where can i buy @": "none",
}


def main() -> None:
    """Writes the rest of the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    out: Path = parser.parse_args().out

    commands = Commands(out)
    wrong = [text for text, wanted in GOLDEN.items() if commands.answer(job_of(text)).text != wanted]
    if wrong:
        raise SystemExit(f"the model is not good enough: it gets these golden samples wrong: {wrong}")
    for one in typed_commands():
        found = commands.understand(one.text)
        if list(one.intents) != found:
            mark = "ACTION " if is_wrong_action(one.intents, found) else ""
            print(f"{mark}{one.kind}: {one.text!r} -> {json.dumps(found)}")
    kinds = scores(commands.understand)
    swept = {one: scores(partial(commands.understand, names=commands.names(one)))["all"] for one in THRESHOLDS}
    write_manifest(out, "commands", "1", [{"prompt": text, "text": wanted} for text, wanted in GOLDEN.items()])
    written, size = packed_weights(out), bytes_of(out)
    unseen = scores(commands.understand, UNSEEN)["all"]
    facts = {
        "unseen": f"{unseen.right} of {unseen.count} are right, and {unseen.wrong_actions} are wrong actions",
        "parameters": f"{written / 1000:.0f} thousand",
        "size": f"{size / 1000:.0f} kB",
        "layers": SHAPE.layers,
        "hidden": SHAPE.hidden,
        "vocabulary": SHAPE.vocabulary,
        "runtime": commands.runtime,
        "words": len(commands.known.words),
        "devices": ", ".join(one.name for one in commands.known.devices),
        "places": ", ".join(one.name for one in commands.known.places),
        "kinds": "\n".join(
            f"| {kind} | {one.count} | {one.right / one.count:.1%} | {one.reasons / one.count:.1%} | "
            f"{one.wrong_actions} |"
            for kind, one in kinds.items()
        ),
        "thresholds": "\n".join(
            f"| {threshold} | {one.right / one.count:.1%} | {one.wrong_actions} |" for threshold, one in swept.items()
        ),
    }
    (out / "README.md").write_text(Template(CARD.read_text(encoding="utf-8")).substitute(facts), encoding="utf-8")
    print(facts["kinds"], facts["thresholds"], sep="\n\n")


if __name__ == "__main__":
    main()
