"""Writes what goes with the model files: model.yaml, labels.txt, golden samples, the card."""

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

import cv2
from numpy.random import Generator, default_rng

from . import scenes
from .camera import MODERATE, Photo, photograph, to_input
from .dataset import LABELS, MAX_TURN, Kind, Sources
from .fonts import Typeface, load_typefaces
from .readers import OnnxReader, Reader, TfliteReader

SEED = 4711
GOLDEN = (
    *[(label, "printed") for label in ("0", "2", "5", "7", "9", "blank")],
    *[(label, "seven_segment") for label in ("1", "3", "4", "6", "8", "blank")],
    *[(label, "half_turned") for label in ("1", "4")],
)
"""Label and style of each golden sample."""

GOLDEN_CONFIDENCE = 0.9
MARGIN = 0.06
"""By how much both runtimes exceed GOLDEN_CONFIDENCE where the samples are recorded."""

CARD = Path(__file__).with_name("card.md")


def golden_sample(rng: Generator, sources: Sources, readers: list[Reader], label: str, style: str) -> Photo:
    """Draws photos until one is read rightly, and with certainty, by every reader."""
    digit = None if label == "blank" else int(label)
    while True:
        if style == "seven_segment":
            scene = scenes.display(rng, sources.segment_glyph(rng), digit)
        else:
            turn = rng.uniform(0.25, MAX_TURN) if style == "half_turned" else 0.0
            scene = scenes.wheel(rng, sources.printed_glyph(rng), digit, turn)
        photo = photograph(rng, scene, MODERATE)
        image = to_input(photo)[None]
        certainty = min(float(r.read(image)[0, LABELS.index(label)]) for r in readers)
        if certainty >= GOLDEN_CONFIDENCE + MARGIN:
            return photo


def write_golden(folder: Path, sources: Sources, readers: list[Reader]) -> list[str]:
    """Writes the samples and returns their lines for model.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (label, style) in enumerate(GOLDEN):
        name = f"{label}_{style}.png"
        photo = golden_sample(default_rng([SEED, number]), sources, readers, label, style)
        cv2.imwrite(str(folder / name), photo)
        lines.append(f'  - {{input: golden/{name}, label: "{label}", min_confidence: {GOLDEN_CONFIDENCE}}}')
    return lines


def model_yaml(golden: list[str]) -> str:
    """The bundle's description, ending with the lines of the golden samples."""
    return "\n".join(
        [
            "name: digits",
            'version: "1"',
            "task: classification",
            "licence: Apache-2.0",
            "source: models/recipes/digits",
            "files: {tflite: digits.tflite, onnx: digits.onnx}",
            "labels: labels.txt",
            "# TFLite: int8 [n, 32, 24, 1]. ONNX: float32 [n, 1, 32, 24]. 32 high, 24 wide.",
            "preprocess:",
            "  resize: stretch",
            "  color: gray",
            "  normalize: {mean: 0, std: 255}",
            "golden:",
            *golden,
            "",
        ]
    )


def accuracy_table(sets: list[dict[str, Any]]) -> str:
    """Markdown: a row for each kind of sample and severity, a column for each runtime."""
    runtimes = list(sets[0]["right"])
    lines = [
        "| samples | distortion | number | " + " | ".join(runtimes) + " | same answer |",
        "|---|---|---:|" + "---:|" * (len(runtimes) + 1),
    ]
    for severity in ("moderate", "heavy"):
        rows = [row for row in sets if row["severity"] == severity]
        upright = [row for row in rows if row["kind"] != Kind.TURNED]
        groups = [(row["kind"], [row]) for row in rows]
        groups += [("all but half-turned", upright), ("**all**", rows)]
        for name, group in groups:
            number = sum(row["samples"] for row in group)
            right = [sum(row["right"][runtime] for row in group) for runtime in runtimes]
            counts = [*right, sum(row["agreeing"] for row in group)]
            shares = " | ".join(f"{count / number:.2%}" for count in counts)
            lines.append(f"| {name} | {severity} | {number} | {shares} |")
    return "\n".join(lines)


def clip_table(clip: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each runtime."""
    lines = [
        "| runtime | digits read | right | readings right by majority |",
        "|---|---:|---:|---:|",
    ]
    for runtime, result in clip.items():
        readings = result["readings"]
        whole = sum(reading["truth"] == reading["majority"] for reading in readings)
        share = result["right"] / result["digits"]
        lines.append(f"| {runtime} | {result['digits']} | {share:.2%} | {whole} of {len(readings)} |")
    return "\n".join(lines)


def font_list(typefaces: list[Typeface], split: str) -> str:
    """Markdown: a line for each package of one split."""
    chosen = [typeface for typeface in typefaces if typeface.split == split]
    packages = sorted({typeface.package for typeface in chosen})
    lines = []
    for package in packages:
        names = ", ".join(t.name for t in chosen if t.package == package)
        lines.append(f"- `{package}`: {names}")
    return "\n".join(lines)


def main() -> None:
    """Records the golden samples and writes the files into the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="folder with the font files")
    parser.add_argument("--evaluation", type=Path, required=True, help="JSON of evaluate.py")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    arguments = parser.parse_args()

    bundle: Path = arguments.out
    files = {"tflite": bundle / "digits.tflite", "onnx": bundle / "digits.onnx"}
    readers: list[Reader] = [TfliteReader(files["tflite"]), OnnxReader(files["onnx"])]
    golden = write_golden(bundle / "golden", Sources.unseen(arguments.fonts), readers)
    (bundle / "model.yaml").write_text(model_yaml(golden))
    (bundle / "labels.txt").write_text("\n".join(LABELS) + "\n")

    evaluation = json.loads(arguments.evaluation.read_text())
    typefaces = load_typefaces(arguments.fonts)
    card = Template(CARD.read_text()).substitute(
        accuracy=accuracy_table(evaluation["sets"]),
        clip=clip_table(evaluation["clip"]),
        tflite_kb=round(files["tflite"].stat().st_size / 1000),
        onnx_kb=round(files["onnx"].stat().st_size / 1000),
        tflite_ms=f"{evaluation['milliseconds']['LiteRT']:.2f}",
        onnx_ms=f"{evaluation['milliseconds']['ONNX Runtime']:.2f}",
        training_fonts=font_list(typefaces, "train"),
        unseen_fonts=font_list(typefaces, "test"),
        segment_fonts=font_list(typefaces, "segments"),
    )
    (bundle / "README.md").write_text(card)


if __name__ == "__main__":
    main()
