"""Makes the pictures of the page in docs/images of the screenshots that `make test-page` leaves in build/page."""

# ruff: noqa: INP001 - a script

from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
SHOTS, IMAGES = ROOT / "build" / "page", ROOT / "docs" / "images"
# Names of the screenshots that stand side by side, and how wide and high each is, in pixels.
JOINED = {
    "page-phone": (("live-meter-phone", "events-phone", "samples-meter-phone", "draw-camera-phone"), (300, 649)),
    "page-desktop": (("numbers-desktop",), (960, 600)),
}
QUALITY, GAP = 80, 10


def main() -> None:
    """Writes the pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, (shots, (width, height)) in JOINED.items():
        parts: list[np.ndarray] = []
        for shot in shots:
            found = cv2.imread(str(SHOTS / f"{shot}.png"))
            scale = width / found.shape[1]
            small = cv2.resize(found, (width, round(found.shape[0] * scale)), interpolation=cv2.INTER_AREA)[:height]
            missing = height - small.shape[0]
            white = (255, 255, 255)
            parts.append(cv2.copyMakeBorder(small, 0, missing, 0, GAP, cv2.BORDER_CONSTANT, value=white))
        cv2.imwrite(str(IMAGES / f"{name}.webp"), np.hstack(parts)[:, :-GAP], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
