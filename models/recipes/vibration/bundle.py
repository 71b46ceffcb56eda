"""Measures the quantised model and writes what goes with it: model.yaml, golden samples, the card."""

import argparse
import json
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from tensorflow import lite

from .train import STD, WINDOW, windows

DAMAGES = (0.1, 0.15, 0.2, 0.3, 0.5)
"""In g, how hard the bearing of a damaged machine strikes."""
FALSE_ALARMS = 1e-4
"""Share of normal windows above the threshold."""
CARD = Path(__file__).with_name("card.md")


class Scorer:
    """The quantised model, as the agent uses it: the mean squared error between input and output."""

    def __init__(self, file: Path) -> None:
        self._interpreter = lite.Interpreter(str(file))
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def scores(self, found: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of windows in g, (n, WINDOW)."""
        real = found / STD
        scale, zero_point = self._input["quantization"]
        stored = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.int8)
        self._interpreter.resize_tensor_input(self._input["index"], stored.shape)
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], stored)
        self._interpreter.invoke()
        scale, zero_point = self._output["quantization"]
        again = (self._interpreter.get_tensor(self._output["index"]).astype(float) - zero_point) * scale
        return np.square(again - real).mean(axis=1)


def main() -> None:
    """Writes everything beside vibration.tflite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    out: Path = parser.parse_args().out

    file = out / "vibration.tflite"
    scorer = Scorer(file)
    threshold = float(f"{np.quantile(scorer.scores(windows(3, 1000, 100)), 1 - FALSE_ALARMS):.3g}")
    normal = scorer.scores(windows(4, 1000, 100))
    rows = [f"| none | {len(normal)} | {np.median(normal):.4f} | {(normal > threshold).mean():.3%} |"]
    for number, damage in enumerate(DAMAGES):
        scores = scorer.scores(windows(5 + number, 200, 50, damage))
        rows.append(f"| {damage:g} g | {len(scores)} | {np.median(scores):.4f} | {(scores > threshold).mean():.1%} |")
    golden = []
    (out / "golden").mkdir(exist_ok=True)
    for label, damage in (("normal", 0.0), ("anomaly", 0.5)):
        found = windows(20, 200, 1, damage)
        scores = scorer.scores(found)
        # Some from the middle of their kind: another runtime rounds otherwise.
        for number, at in enumerate(np.argsort(scores)[80:120:10]):
            name = f"golden/{label}_{number}.json"
            (out / name).write_text(json.dumps({"values": [round(float(value), 3) for value in found[at]]}) + "\n")
            golden.append(f"  - {{input: {name}, label: {label}}}")
    (out / "model.yaml").write_text(
        "\n".join(
            [
                "name: vibration",
                'version: "1"',
                "task: anomaly",
                "licence: Apache-2.0",
                "source: models/recipes/vibration",
                "files: {tflite: vibration.tflite}",
                f"# {WINDOW} readings of one axis, in g.",
                f"input: {{kind: series, rate: 200, normalize: {{mean: 0, std: {STD}}}}}",
                f"threshold: {threshold}",
                "golden:",
                *golden,
                "",
            ]
        )
    )
    facts = {"rows": "\n".join(rows), "threshold": threshold, "size": f"{file.stat().st_size / 1e3:.0f} kB"}
    (out / "README.md").write_text(Template(CARD.read_text()).substitute(facts))


if __name__ == "__main__":
    main()
