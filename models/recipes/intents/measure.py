"""Measures the model with what the agent runs it with, and writes the rest: model.yaml, the schema, the card."""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from edge_agent.language import LanguageEngine, load_engine
from edge_agent.language.generation import Answer, Generation, Job
from edge_agent.language.prefixes import PrefixCache
from models.recipes.llama import bytes_of, packed_weights, write_manifest

from .commands import SCHEMA, command, with_typo
from .shape import SHAPE
from .summaries import FOUND, MACHINES, SENSORS, summary
from .words import PLACES

SEED = 9
COUNT = 1000
MAX_TOKENS = 120
CACHE = 10_000_000
CARD = Path(__file__).with_name("card.md")
GOLDEN: dict[str, dict[str, Any]] = {
    "turn the porch light off at ten": {"intent": "turn_off", "device": "light", "place": "porch", "time": "22:00"},
    "please set the heating in the living room to 21 degrees": {
        "intent": "set",
        "device": "heating",
        "place": "living_room",
        "value": 21,
    },
    "open the garage door": {"intent": "open", "device": "door", "place": "garage"},
    "is the kitchen window closed?": {"intent": "state", "device": "window", "place": "kitchen"},
    "start the air compressor in the workshop for half an hour": {
        "intent": "turn_on",
        "device": "compressor",
        "place": "workshop",
        "for_minutes": 30,
    },
}
GOLDEN_SUMMARIES = {
    "sum up the greenhouse: temperature 21.5 rising from 19.8, humidity 40 steady": (
        "In the greenhouse, temperature has risen from 19.8 to 21.5 and humidity is steady at 40."
    ),
    "The camera in the yard sees person 92 %, dog 81 % at 14:05. Say so in one friendly sentence.": (
        "At 14:05 in the yard, person (92 %) and dog (81 %) were found."
    ),
    "one sentence on the pump: anomaly 3.21": "Alarm: at the pump, something is not normal, the score is 3.21.",
}
NAMES = (*SENSORS, *FOUND, *PLACES, *MACHINES)
FACTS = (
    re.compile(rf"\b(?:{'|'.join(NAMES)})\b"),
    re.compile(r"-?\d[\d.:]*\d|\d"),
    re.compile("risen|fallen|steady"),
    re.compile("Alarm|not normal|normal"),
)
"""What the sentences of a row are compared by: names, numbers, trends, alarms."""
EXPLAINED = {
    "intent": "what to do",
    "device": "with what",
    "place": "where",
    "value": "0 to 100",
    "time": "of day, from `00:00` to `23:59`",
    "in_minutes": "when, from now",
    "for_minutes": "how long",
}


def answer(generation: Generation, text: str, schema: dict[str, Any] | None) -> str:
    """What the model says."""
    said: Answer = generation.answer(
        Job(
            messages=[{"role": "user", "content": text}],
            chat=False,
            stream=False,
            deadline=60.0,
            max_tokens=MAX_TOKENS,
            temperature=0.0,
            top_k=40,
            top_p=1.0,
            seed=None,
            stop=(),
            json_schema=schema,
            choices=(),
        ),
        lambda _piece: None,
        lambda: False,
    )
    return said.text


def is_of_the_form(text: str) -> bool:
    """Whether an answer follows the schema."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    if not isinstance(found, dict) or "intent" not in found:
        return False
    return all(key in SCHEMA["properties"] and _fits(value, SCHEMA["properties"][key]) for key, value in found.items())


def _fits(value: object, wanted: dict[str, Any]) -> bool:
    if "enum" in wanted:
        return value in wanted["enum"]
    if wanted["type"] == "integer":
        return isinstance(value, int) and wanted["minimum"] <= value <= wanted["maximum"]
    return isinstance(value, str) and re.fullmatch(wanted["pattern"], value) is not None


def measured(generation: Generation, name: str, pairs: Sequence[tuple[str, str]]) -> tuple[str, list[bool]]:
    """A row of the card, and which answers were right with the schema."""
    free = [answer(generation, text, None) for text, _ in pairs]
    bound = [answer(generation, text, SCHEMA) for text, _ in pairs]
    right = [said == wanted for said, (_, wanted) in zip(bound, pairs, strict=True)]
    shares = (
        sum(said == wanted for said, (_, wanted) in zip(free, pairs, strict=True)),
        sum(right),
        sum(map(is_of_the_form, free)),
        sum(map(is_of_the_form, bound)),
    )
    wrong = [(text, said) for (text, _), said, fits in zip(pairs, bound, right, strict=True) if not fits]
    print(
        f"{name}: {shares} of {len(pairs)}",
        *(f"  {text!r} -> {said}" for text, said in wrong[:12]),
        sep="\n",
        flush=True,
    )
    return f"| {name} | {len(pairs)} | " + " | ".join(f"{share / len(pairs):.1%}" for share in shares) + " |", right


def measured_summaries(generation: Generation, name: str, pairs: Sequence[tuple[str, str]]) -> str:
    """A row of the card: how many sentences are right to the last character, and how many in each kind of fact."""
    said = [answer(generation, text, None) for text, _ in pairs]
    wrong = [(text, found) for (text, wanted), found in zip(pairs, said, strict=True) if found != wanted]
    print(
        f"{name}: {len(wrong)} of {len(pairs)} wrong",
        *(f"  {text!r} -> {found}" for text, found in wrong[:12]),
        sep="\n",
    )
    shares = [len(pairs) - len(wrong)] + [
        sum(fact.findall(found) == fact.findall(wanted) for (_, wanted), found in zip(pairs, said, strict=True))
        for fact in FACTS
    ]
    return f"| {name} | {len(pairs)} | " + " | ".join(f"{share / len(pairs):.1%}" for share in shares) + " |"


def main() -> None:
    """Writes the rest of the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--count", type=int, default=COUNT, help="of commands and summaries, of each kind")
    options = parser.parse_args()
    out: Path = options.out

    engine: LanguageEngine = load_engine(out, "genai", 1, SHAPE.context)
    generation = Generation(engine, PrefixCache(engine, CACHE))
    chance = random.Random(SEED)
    known = [command(chance, held_out=False) for _ in range(options.count)]
    new = [command(chance, held_out=True) for _ in range(options.count)]
    slips = [(with_typo(chance, text), intent) for text, intent in new]
    first, right = measured(generation, "held out", new)
    rows = [
        first,
        measured(generation, "held out, with a typing mistake in a long word", slips)[0],
        measured(generation, "phrasings of the training, drawn anew", known)[0],
    ]
    chance = random.Random(SEED)
    sentences = [
        measured_summaries(generation, name, [summary(chance, held_out=new_to_it) for _ in range(options.count)])
        for name, new_to_it in {"held out": True, "phrasings of the training, drawn anew": False}.items()
    ]
    kinds = [json.loads(intent)["intent"] for _, intent in new]
    asked, understood = Counter(kinds), Counter(kind for kind, fits in zip(kinds, right, strict=True) if fits)
    # YAML would take the numbers of a schema for texts: it is written as JSON, in quotes.
    golden = [
        {"prompt": text, "json_schema": json.dumps(SCHEMA), "text": json.dumps(intent, separators=(",", ":"))}
        for text, intent in GOLDEN.items()
    ]
    wrong = [one["prompt"] for one in golden if answer(generation, one["prompt"], SCHEMA) != one["text"]]
    wrong += [text for text, wanted in GOLDEN_SUMMARIES.items() if answer(generation, text, None) != wanted]
    if wrong:
        raise SystemExit(f"the model is not good enough: it gets these golden samples wrong: {wrong}")
    golden += [{"prompt": text, "text": wanted} for text, wanted in GOLDEN_SUMMARIES.items()]
    (out / "schema.json").write_text(json.dumps(SCHEMA, indent=1) + "\n", encoding="utf-8")
    write_manifest(out, "intents", "2", golden)
    written, size = packed_weights(out), bytes_of(out)
    keys = [
        f"| `{key}` | {EXPLAINED[key]}{': ' + ', '.join(wanted['enum']) if 'enum' in wanted else ''} |"
        for key, wanted in SCHEMA["properties"].items()
    ]
    facts = {
        "parameters": f"{written / 1e6:.1f} million",
        "size": f"{size / 1e6:.1f} MB",
        "keys": "\n".join(keys),
        "layers": SHAPE.layers,
        "hidden": SHAPE.hidden,
        "heads": SHAPE.heads,
        "context": SHAPE.context,
        "sensors": ", ".join(SENSORS),
        "found": ", ".join(FOUND),
        "machines": ", ".join(MACHINES),
        "vocabulary": SHAPE.vocabulary,
        "runtime": engine.runtime,
        "rows": "\n".join(rows),
        "sentences": "\n".join(sentences),
        "intents": "\n".join(f"| {kind} | {asked[kind]} | {understood[kind] / asked[kind]:.0%} |" for kind in asked),
    }
    (out / "README.md").write_text(Template(CARD.read_text(encoding="utf-8")).substitute(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
