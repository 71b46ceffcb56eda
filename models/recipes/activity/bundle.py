"""Measures the quantised model and writes what goes with it: model.yaml, labels.txt, golden samples, the card."""

import argparse
import json
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from tensorflow import lite

from .dataset import LABELS, STD, WINDOW, load, made_up, turned

GOLDEN = 2
CERTAIN = 0.95
SURE = 0.9
SEED = 4711
CARD = Path(__file__).with_name("card.md")


class Classifier:
    """The quantised model."""

    def __init__(self, file: Path) -> None:
        self._interpreter = lite.Interpreter(str(file))
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of windows in mg, (n, WINDOW, 3): (n, labels)."""
        scale, zero_point = self._input["quantization"]
        stored = np.clip(np.rint(windows / STD / scale) + zero_point, -128, 127).astype(np.int8)
        self._interpreter.resize_tensor_input(self._input["index"], stored.shape)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], stored)
        self._interpreter.invoke()
        scale, zero_point = self._output["quantization"]
        return np.asarray((self._interpreter.get_tensor(self._output["index"]).astype(float) - zero_point) * scale)


def main() -> None:
    """Writes everything beside activity.tflite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset.zip")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    arguments = parser.parse_args()
    out: Path = arguments.out

    file, rng = out / "activity.tflite", np.random.default_rng(SEED)
    model, test = Classifier(file), load(arguments.data, WINDOW, test=True)
    said = model.probabilities(test.windows).argmax(axis=1)
    anyhow = model.probabilities(turned(test.windows, rng)).argmax(axis=1)
    rows = []
    for number, label in enumerate(LABELS):
        is_it = test.labels == number
        found = " | ".join(str(int((said[is_it] == other).sum())) for other in range(len(LABELS)))
        rows.append(f"| {label} | {int(is_it.sum())} | {found} | {(anyhow[is_it] == number).mean():.1%} |")
    golden = []
    (out / "golden").mkdir(exist_ok=True)
    for number, label in enumerate(LABELS):
        kept = 0
        while kept < GOLDEN:
            window = made_up(rng, label)
            if model.probabilities(window[None])[0, number] >= CERTAIN:
                name = f"golden/{label}_{kept}.json"
                (out / name).write_text(json.dumps({"values": np.rint(window).astype(int).tolist()}) + "\n")
                golden.append(f"  - {{input: {name}, label: {label}, min_confidence: {SURE}}}")
                kept += 1
    (out / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (out / "model.yaml").write_text(
        "\n".join(
            [
                "name: activity",
                'version: "1"',
                "task: classification",
                "licence: Apache-2.0",
                "source: models/recipes/activity",
                "files: {tflite: activity.tflite}",
                "labels: labels.txt",
                f"# {WINDOW} readings of three axes, in mg.",
                f"input: {{kind: series, rate: 26, normalize: {{mean: 0, std: {STD:g}}}}}",
                "golden:",
                *golden,
                "",
            ]
        )
    )
    facts = {
        "rows": "\n".join(rows),
        "accuracy": f"{(said == test.labels).mean():.1%}",
        "turned": f"{(anyhow == test.labels).mean():.1%}",
        "size": f"{file.stat().st_size / 1e3:.0f} kB",
    }
    (out / "README.md").write_text(Template(CARD.read_text()).substitute(facts))
    print(facts)


if __name__ == "__main__":
    main()
