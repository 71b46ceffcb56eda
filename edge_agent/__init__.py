"""edge-agent: models on small devices, results over MQTT."""

import os

__version__ = "0.1.0"

# From version 1.29 on, ONNX Runtime would keep a record of its use in the home folder, and send it to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
