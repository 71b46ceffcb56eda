"""A camera that a web server stands in for: one picture at `/camera.jpg`."""

from typing import Any

import numpy as np

from edge_agent.preprocess.opencv import cv2

PICTURE = cv2.imencode(".jpg", np.full((28, 28, 3), 200, np.uint8))[1].tobytes()


def answer(request: Any) -> bool:
    """Answers with the camera's picture where it is asked for that; returns whether it was."""
    if request.path != "/camera.jpg":
        return False
    request.send_response(200)
    request.send_header("Content-Type", "image/jpeg")
    request.send_header("Content-Length", str(len(PICTURE)))
    request.end_headers()
    request.wfile.write(PICTURE)
    return True
